"""A vocabulary learned from a file, and not learned again while file and options stay the same."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from discdiff.data.cache import FORMAT, Cache, cache_folder, content_hash, digest_of
from discdiff.data.faults import Faults, OnError
from discdiff.data.streams import check_file
from discdiff.errors import DiscdiffError

if TYPE_CHECKING:
    from discdiff.domain import Domain


def learn_vocabulary(
    domain: Domain,
    path: str | Path,
    options: Mapping[str, Any],
    *,
    cache: Cache = None,
    on_error: OnError = "raise",
) -> None:
    """Let a domain learn its vocabulary from a file, where it has one to learn; the file is gone through as it is read.

    Args:
        domain: learns; a fixed alphabet does not look at the file.
        path: the training set.
        options: what `domain.read` takes.
        cache: where what was learned is kept; see `SequenceDataset.read`.
        on_error: what to do with records that cannot be used. If they are not raised, it is learned from the others;
            who reads the file for its sequences tells of them.

    Raises:
        DataError: what is wrong with the file, and where.
    """
    policy: OnError = "raise" if on_error == "raise" else "skip"

    def learn() -> None:
        faults = Faults(path, policy)
        domain.fit(record.sequence for record in domain.read(path, faults=faults, **options))

    folder = cache_folder(cache, path) if _learns(domain) else None
    if folder is None:
        learn()
        return
    path = check_file(path)
    kind = f"{type(domain).__module__}.{type(domain).__qualname__}"
    key = [FORMAT, content_hash(path, folder), kind, domain.options(), dict(options), policy]
    entry = folder / "vocabularies" / digest_of(key)
    with suppress(OSError, ValueError):  # not there, or damaged
        json.loads((entry / "tokenizer.json").read_text(encoding="utf-8"))
        domain.load_tokenizer(entry)
        return
    learn()
    shutil.rmtree(entry, ignore_errors=True)
    with suppress(OSError):  # it is only kept to save time; another process may have been quicker
        entry.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=entry.parent, prefix="."))
        domain.save_tokenizer(scratch)
        scratch.chmod(0o755)
        scratch.rename(entry)


def _learns(domain: Domain) -> bool:
    """Whether a domain has no vocabulary yet."""
    try:
        return domain.vocab_size < 1
    except DiscdiffError:
        return True
