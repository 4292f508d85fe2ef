"""Encoded files on disk: found again by their content, mapped into memory, made once however many processes ask."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from discdiff.data.columns import FileColumns, Strings, cannot_write, checksum_of, column_file, mapped
from discdiff.data.encoding import Encoded
from discdiff.data.faults import Fault
from discdiff.data.hub import Hub
from discdiff.data.paths import SUFFIXES, check_file, is_hub
from discdiff.errors import DataError, DiscdiffError, DiscdiffWarning
from discdiff.writing import sync

if TYPE_CHECKING:
    from discdiff.domain import Domain

Cache = bool | str | Path | None
VARIABLE = "DISCDIFF_CACHE"
FORMAT = 1
"""Version of the folders' layout: those of another version are not looked at."""
SMALL = 32 << 20
"""Bytes of a file that is read into memory where nothing is said; of a compressed one a quarter."""
_META = "meta.json"
# A file that changed this recently may change again without its time telling.
_SETTLED_SECONDS = 2.0


def cache_folder(cache: Cache, path: str | Path) -> Path | None:
    """Where the encoded form of a file is kept, or None where it is read into memory.

    Args:
        cache: a folder; True for `$DISCDIFF_CACHE`, or `~/.cache/discdiff` where that is not set; False for memory;
            None for memory where the file is small, or the folder of True cannot be written to.
        path: the file.
    """
    if cache is False:
        return None
    default = Path(os.environ.get(VARIABLE) or Path("~/.cache/discdiff")).expanduser()
    if cache is not None:
        return default if cache is True else Path(cache).expanduser()
    path = Path(path)
    if is_hub(path):
        with Hub(path, lists=True) as source:
            size = source.identity[1]
    else:
        size = path.stat().st_size if path.is_file() else 0
    if size < (SMALL // 4 if path.suffix.lower() in SUFFIXES else SMALL):
        return None
    try:
        default.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return default if os.access(default, os.W_OK) else None


def cached(
    folder: Path,
    path: str | Path,
    domain: Domain,
    reading: Mapping[str, Any],
    make: Callable[[FileColumns], Encoded],
) -> Encoded:
    """The encoded form of a file: from the cache, or made now and put there.

    An entry is found by the SHA-256 of the file's content, of the domain with its learned vocabulary, and of the
    options of reading. It is written to a temporary folder and renamed when it is whole and on disk; a process that
    wants the same entry waits meanwhile. Every entry is checked against its checksums when it is opened, and made again
    if it is damaged. Warnings of the reader are kept, and given again by whoever opens the entry.

    Args:
        folder: the cache.
        path: the file.
        domain: encodes it.
        reading: options that decide what is read, in JSON values, tuples, sets or paths.
        make: encodes the file into columns.

    Raises:
        DataError: the file is missing, changes while it is read, or what `make` finds; the cache cannot be written.
        DiscdiffError: an option of another kind.
    """
    path = check_file(path)
    try:
        (folder / "tokens").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    before = _stat(path)
    entry = folder / "tokens" / _key(content_hash(path, folder), domain, reading)
    if (found := _opened(entry)) is not None:  # whole: nobody's lock is needed, nor leave to write there
        return _with_note(found, f"encoded before; read from {entry}")
    with _locked(entry):
        if (found := _opened(entry)) is None:
            start = time.monotonic()
            _make(entry, path, before, make)
            found = _opened(entry)
            if found is None:
                raise DataError("the cache does not hold what was written to it", path=entry, remedy="check the disk")
            return _with_note((found[0], []), f"encoded in {time.monotonic() - start:.0f} s and kept in {entry}")
    return _with_note(found, f"encoded by another process; read from {entry}")


def _with_note(found: tuple[Encoded, list[tuple[str, str]]], said: str) -> Encoded:
    for category, text in found[1]:
        warnings.warn(text, DiscdiffWarning if category == "DiscdiffWarning" else UserWarning, stacklevel=4)
    found[0].notes.append(said)
    return found[0]


def content_hash(path: Path, folder: Path | None) -> str:
    """SHA-256 of a file's bytes; remembered in a cache by the file's path, size and times. Data sets have their own."""
    if is_hub(path):
        with Hub(path, lists=True) as source:
            return _digest(f"{path} {source.identity}".encode())
    stat = _stat(path)
    memory = None if folder is None else folder / "files" / _digest(str(path.resolve()).encode())
    if memory is not None:
        with suppress(OSError, ValueError, KeyError, TypeError):  # not seen yet, or damaged
            saved = json.loads(memory.read_text(encoding="utf-8"))
            if saved["stat"] == stat:
                return str(saved["sha256"])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if memory is not None and _stat(path) == stat and time.time() - stat[1] / 1e9 > _SETTLED_SECONDS:
        with suppress(OSError):  # it is only remembered, to save time
            memory.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=memory.parent)
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                json.dump({"stat": stat, "sha256": digest, "path": str(path.resolve())}, stream)
            Path(name).replace(memory)
    return digest


def _stat(path: Path) -> list[int]:
    if is_hub(path):
        return []  # its files are never changed, but replaced
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _key(content: str, domain: Domain, reading: Mapping[str, Any]) -> str:
    with tempfile.TemporaryDirectory() as scratch:
        domain.save_tokenizer(Path(scratch))
        vocabulary = [_digest(file.read_bytes()) for file in sorted(Path(scratch).iterdir())]
    from discdiff import __version__

    kind = type(domain)
    parts = {
        "format": FORMAT,
        "version": __version__,
        "content": content,
        "domain": [f"{kind.__module__}.{kind.__qualname__}", domain.options(), vocabulary],
        "reading": dict(reading),
    }
    return digest_of(parts)


def digest_of(parts: object) -> str:
    """SHA-256 of JSON values, tuples, sets and paths.

    Raises:
        DiscdiffError: a value of another kind.
    """
    return _digest(json.dumps(parts, sort_keys=True, default=_plain).encode())


def _plain(value: object) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    if isinstance(value, Path):
        return str(value)
    raise DiscdiffError(f"cache: an option of reading is a {type(value).__name__}, which has no JSON form; cache=False")


def _make(entry: Path, path: Path, before: list[int], make: Callable[[FileColumns], Encoded]) -> None:
    if entry.exists():
        warnings.warn(f"{entry}: the cached sequences are damaged and are made again", DiscdiffWarning, stacklevel=4)
        shutil.rmtree(entry, ignore_errors=True)
    for left in entry.parent.glob(f".{entry.name}.*"):
        shutil.rmtree(left, ignore_errors=True)  # of a process that was killed: the lock is ours
    scratch = Path(tempfile.mkdtemp(dir=entry.parent, prefix=f".{entry.name}."))
    columns = FileColumns(scratch)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            encoded = make(columns)
        for warning in caught:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        if _stat(path) != before:
            raise DataError("the file changed while it was read", path=path, remedy="try again when it is at rest")
        meta = {
            "format": FORMAT,
            "columns": columns.facts,
            "label_names": encoded.label_names,
            "notes": encoded.notes,
            "skipped": [asdict(fault) for fault in encoded.skipped],
            "warnings": [(warning.category.__name__, str(warning.message)) for warning in caught],
        }
        del encoded
        try:
            body = json.dumps(meta).encode()
            with (scratch / _META).open("wb") as file:
                file.write(b"%08x\n" % zlib.crc32(body) + body)
                file.flush()
                os.fsync(file.fileno())
            scratch.chmod(0o755)  # mkdtemp's is for the owner alone
            scratch.rename(entry)
            sync(entry.parent)
        except OSError as error:
            raise cannot_write(entry.parent, error) from error
    finally:
        columns.close()
        if scratch.exists():
            shutil.rmtree(scratch, ignore_errors=True)


def _opened(entry: Path) -> tuple[Encoded, list[tuple[str, str]]] | None:
    """An entry and the reader's warnings, after a check of every byte; None where there is none, or a damaged one."""
    if not entry.exists():
        return None
    try:
        crc, body = (entry / _META).read_bytes().split(b"\n", 1)
        if int(crc, 16) != zlib.crc32(body):
            raise ValueError("meta.json")
        meta = json.loads(body)
        for name, about in meta["columns"].items():
            if column_file(entry, name).stat().st_size != about["items"] * int(about["dtype"][-1]):
                raise ValueError(name)
            if checksum_of(mapped(entry, name, about)) != about["crc"]:
                raise ValueError(name)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return open_entry(entry), [(category, text) for category, text in meta["warnings"]]


def open_entry(entry: Path) -> Encoded:
    """A whole entry, its arrays mapped."""
    meta = json.loads((entry / _META).read_bytes().split(b"\n", 1)[1])
    columns = {name: mapped(entry, name, about) for name, about in meta["columns"].items()}
    names = Strings(columns["names"], columns["name_ends"]) if "names" in columns else None
    return Encoded(
        columns["tokens"], columns["starts"], columns["sizes"], columns.get("labels"), meta["label_names"], names,
        columns.get("places"), list(meta["notes"]), [Fault(**fault) for fault in meta["skipped"]],
        crc=meta["columns"]["tokens"]["crc"], folder=entry, reopen=open_entry,
    )  # fmt: skip


@contextmanager
def _locked(entry: Path) -> Iterator[None]:
    """Hold an entry's lock; it goes with the process, however that ends. Without locks work may be done twice."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        yield
        return
    folder = entry.parent.parent / "locks"
    try:
        folder.mkdir(exist_ok=True)
        handle = os.open(folder / entry.name, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
