"""The Hugging Face Hub: models by the name `hf://OWNER/NAME`, or `hf://OWNER/NAME@REVISION`.

Whatever has no such name is a local folder, and never looked for in the network. Only the files of a run folder are
fetched; they are checked like those of any other, and no code comes with them. They stay in the Hub's own cache, which
serves without a network (`HF_HUB_OFFLINE=1`) too.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from discdiff.errors import CheckpointError, ConfigError
from discdiff.manifest import CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE

CARD_FILE = "README.md"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
FILES = (CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_FILE, TOKENIZER_CONFIG_FILE, "profile.json", CARD_FILE)
_SCHEME = re.compile(r"hf:/{1,2}")  # a Path makes one stroke of two
_NAME = re.compile(r"(\w[\w.-]*/\w[\w.-]*)(?:@(\w[\w./-]*))?", re.ASCII)


def on_hub(place: str | Path) -> bool:
    """Whether a place is a name of the Hub, not a folder."""
    return _SCHEME.match(str(place)) is not None


def parse(place: str | Path) -> tuple[str, str | None]:
    """`OWNER/NAME` and the revision of a name of the Hub; of a bare `OWNER/NAME` too.

    Raises:
        ConfigError: it is no such name.
    """
    found = _NAME.fullmatch(_SCHEME.sub("", str(place), count=1))
    if found is None:
        name = _SCHEME.sub("hf://", str(place), count=1)
        raise ConfigError(f"{name}: expected hf://OWNER/NAME or hf://OWNER/NAME@REVISION")
    return found[1], found[2]


def located(place: str | Path, revision: str | None = None) -> tuple[Path, str | None]:
    """The local folder of a model: the place itself, or where the Hub's files now are, with the name that pins them.

    Args:
        place: a folder, or `hf://OWNER/NAME`.
        revision: a branch, tag or commit of the Hub's.

    Raises:
        CheckpointError: a URL; or the Hub has no such model, does not show it, or cannot be reached.
        ConfigError: a name that cannot be read, or two revisions, or one of a local folder.
    """
    if not on_hub(place):
        if "://" in str(place) or re.match(r"\w{2,}:/", str(place)):
            raise CheckpointError(f"{place}: no model is loaded from a URL; give a folder, or hf://OWNER/NAME")
        if revision is not None:
            raise ConfigError(
                f"{place}: a local folder has no revision {revision!r}; a model of the Hub is hf://{place}"
            )
        return Path(place), None
    name, pinned = parse(place)
    if revision is not None and pinned not in (None, revision):
        raise ConfigError(f"{place}: got revision {revision!r} as well; name one")
    return _fetched(name, revision or pinned)


def _fetched(name: str, revision: str | None) -> tuple[Path, str]:
    from huggingface_hub import snapshot_download

    at = "" if revision is None else f"@{revision}"
    with _told(f"hf://{name}{at}"):
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=list(FILES)))
    return folder, f"hf://{name}@{folder.name}"


def upload(folder: Path, name: str, *, private: bool, message: str) -> str:
    """Put the files of a release on the Hub as one commit; gives the name that pins it.

    Raises:
        CheckpointError: not logged in, no right to write there, or the Hub cannot be reached.
    """
    from huggingface_hub import HfApi

    hub = HfApi()
    with _told(f"hf://{name}"):
        hub.create_repo(name, private=private, exist_ok=True)
        done = hub.upload_folder(repo_id=name, folder_path=folder, allow_patterns=list(FILES), commit_message=message)
    return f"hf://{name}@{done.oid}"


@contextmanager
def release_folder() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="discdiff-") as name:
        yield Path(name) / "release"


@contextmanager
def _told(place: str) -> Iterator[None]:
    """The errors of the Hub's client in a sentence each."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise CheckpointError(f"{place}: gated: ask for access on its page and log in with `hf auth login`") from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{place}: the Hub has no such model, or shows it to others only: check the name, or log in with "
            "`hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(f"{place}: the model has no such revision: name a branch, a tag or a commit") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise CheckpointError(
            f"{place}: not in the local cache, and the Hub cannot be reached (or HF_HUB_OFFLINE is set): connect once, "
            "or give a local folder"
        ) from error
    except Exception as error:
        # by name: the client of HTTP is another package in each major version of huggingface_hub
        if any(kind.__name__ in ("TransportError", "ConnectionError") for kind in type(error).__mro__):
            raise CheckpointError(f"{place}: the Hub cannot be reached: try again where there is a network") from error
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{place}: the Hub's answer was an error ({type(error).__name__}: {reason})") from error


__all__ = ["CARD_FILE", "FILES", "TOKENIZER_CONFIG_FILE", "located", "on_hub", "parse", "release_folder", "upload"]
