"""`config.json`: what a run folder holds and vouches for. Reading it needs neither torch nor the model.

    format_version   2
    discdiff         the version that wrote it
    domain           name and options
    model            what `discdiff.description` builds
    lengths, max_length, label_names, sampling, parameters
    training         what is known of the training, or null: a run's own files say it
    source           where the model was loaded from, if it came from the Hugging Face Hub
    sha256           of each other file that is read
    digest           SHA-256 of all bytes of this file before the digest's own digits

Version 1 had `model.json`, without the keys domain, training, source and digest, and a `domain.json`; it is still read.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from discdiff.errors import CheckpointError
from discdiff.sealed import DIGEST, check_seal, read_json
from discdiff.unfinished import begun, cut_short

FORMAT_VERSION = 2
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
TOKENIZER_FILE = "tokenizer.json"
OLD_FILES = ("model.json", "domain.json")
"""Of format version 1."""
SAMPLING = ("sampler", "steps", "temperature", "top_k", "top_p")

_COMMON = {
    "format_version", "discdiff", "model", "lengths", "max_length", "label_names", "parameters", "sampling", "sha256",
}  # fmt: skip
_KEYS = {1: _COMMON, 2: _COMMON | {"domain", "training", "source", DIGEST}}
_LIKE_HUB = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_GIVE = "Give the folder that `discdiff train` wrote."


def read_manifest(folder: Path) -> dict[str, Any]:
    """The content of a run folder's `config.json`, checked: version, digest, keys and the kinds of values.

    Of a folder of version 1, the same keys; what it did not have is None.

    Raises:
        CheckpointError: one sentence on what is missing, damaged, or of another version.
    """
    if not folder.is_dir():
        what = "a file, not a run folder" if folder.exists() else "no such run folder"
        hub = (
            f", or hf://{folder} for that of the Hugging Face Hub"
            if _LIKE_HUB.fullmatch(str(folder)) and not folder.exists()
            else ""
        )
        raise CheckpointError(f"{folder}: {what}. {_GIVE[:-1]}{hub}.")
    name = CONFIG_FILE
    if not _there(folder / CONFIG_FILE) and _there(folder / OLD_FILES[0]):
        name = OLD_FILES[0]
    path = cut_short(folder, CONFIG_FILE) or folder / name
    if path.parent != folder and not _there(path):  # that save has ended in the meantime
        path = folder / CONFIG_FILE
    if not _there(path):
        remedy = _GIVE
        if begun(folder):
            resume = f"`discdiff train --output {folder} --resume`"
            remedy = f"Training there has saved no model yet; if it was stopped, go on with {resume}."
        raise CheckpointError(f"{folder}: has no {CONFIG_FILE}. {remedy}")
    check_file(path)
    saved = read_json(path)
    version = saved.get("format_version")
    if type(version) is not int or version < 1:
        raise CheckpointError(f"{path}: damaged, or no file of discdiff: no format_version. {_GIVE}")
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format version {version}, this discdiff reads {FORMAT_VERSION} and older. "
            f"discdiff {saved.get('discdiff')} wrote it; update discdiff."
        )
    if (version == 1) != (path.name == OLD_FILES[0]):
        raise CheckpointError(f"{path}: damaged: format version {version} in a file of this name. Copy it again.")
    if version > 1:
        check_seal(path)
    _check_keys(path, "", saved, _KEYS[version])
    if version == 1:
        _check_table(path, saved["sha256"])
        check_files(folder, saved, only=OLD_FILES[1:])
        saved |= {"domain": read_json(folder / OLD_FILES[1]), "training": None, "source": None}
    _check_values(path, saved)
    return saved


def check_files(
    folder: Path, manifest: Mapping[str, Any], *, unread: Iterable[str] = (), only: Iterable[str] | None = None
) -> None:
    """Compare the files of a run folder with the checksums of its manifest.

    Args:
        folder: the run folder.
        manifest: what `read_manifest` gave.
        unread: files that have to be there, but are not read; large ones take seconds.
        only: the files to compare; by default all.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    passed_over, named = set(unread), manifest["sha256"]
    manifest_file = CONFIG_FILE if manifest["format_version"] > 1 else OLD_FILES[0]
    for file in named if only is None else only:
        path = folder / file
        if file not in named or not _there(path):
            missing = "missing" if file in named else "not vouched for"
            raise CheckpointError(f"{path}: {missing}; {manifest_file} names it. Copy the whole run folder.")
        check_file(path)
        if file not in passed_over and sha256(path) != named[file]:
            raise CheckpointError(
                f"{path}: damaged (its sha256 is not the one in {manifest_file}). Copy the whole folder again."
            )


def check_file(path: Path) -> None:
    """Refuse what is no plain file within its own folder: a folder, a device, a link that leads elsewhere.

    The cache of the Hugging Face Hub keeps its files as links from `snapshots/REVISION` to `blobs`; those are followed.

    Raises:
        CheckpointError: says what it is.
    """
    if path.is_symlink():
        folder = path.parent.resolve()
        homes = [folder, *([folder.parent.parent / "blobs"] if folder.parent.name == "snapshots" else [])]
        target = Path(os.path.realpath(path))  # which takes loops, too
        if not any(target.is_relative_to(home) for home in homes):
            raise CheckpointError(f"{path}: a link that leads out of the folder. Put a copy of the file in its place.")
    mode = path.stat().st_mode if path.exists() else 0
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a broken link" if not mode else "no plain file"
        raise CheckpointError(f"{path}: {what}, expected a file. Copy the whole run folder again.")


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# ---- what the file may say -------------------------------------------------------------------------------------------
def _there(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _check_keys(path: Path, place: str, value: Any, expected: set[str], *, optional: bool = False) -> None:
    where = f"{place}: " if place else ""
    if not isinstance(value, Mapping):
        raise CheckpointError(f"{path}: damaged: {where}got {value!r:.60}, expected an object. Copy it again.")
    missing, unknown = sorted(expected - set(value)), sorted(set(value) - expected)
    faults = [f"unknown key {key!r}" for key in unknown] + [f"missing key {key!r}" for key in missing if not optional]
    if faults:
        raise CheckpointError(f"{path}: damaged: {where}{', '.join(faults[:4])}. Copy it again.")


def _check_table(path: Path, table: Any) -> None:
    """File names and their checksums; names with a folder in them are no names."""
    if not isinstance(table, Mapping):
        raise CheckpointError(f"{path}: damaged: sha256: got {table!r:.60}, expected an object. Copy it again.")
    for name, digest in table.items():
        if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
            raise CheckpointError(f"{path}: damaged: sha256: {name!r} is no name of a file here. Copy it again.")
        if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
            raise CheckpointError(f"{path}: damaged: sha256 of {name}: got {digest!r:.80}. Copy it again.")
    for name in (WEIGHTS_FILE, TOKENIZER_FILE):
        if name not in table:
            raise CheckpointError(f"{path}: damaged: sha256 names no {name}. Copy it again.")


def _check_values(path: Path, saved: Mapping[str, Any]) -> None:
    _check_table(path, saved["sha256"])
    _check_keys(path, "domain", saved["domain"], {"name", "options"})
    _check_keys(path, "model", saved["model"], {"class_path", "init_args"})
    _check_keys(path, "lengths", saved["lengths"], {"lengths", "counts", "end"})
    # earlier versions of discdiff knew fewer defaults
    _check_keys(path, "sampling", saved["sampling"], set(SAMPLING), optional=True)
    kinds: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "discdiff": ("text", _is_text),
        "domain.name": ("text", _is_text),
        "domain.options": ("an object", _is_object),
        "model.init_args": ("an object", _is_object),
        "lengths.lengths": ("positive integers", _are_counts),
        "lengths.counts": ("positive integers", _are_counts),
        "lengths.end": ("an integer or null", _or_none(_is_natural)),
        "max_length": ("a positive integer", _is_count),
        "parameters": ("an integer", _is_natural),
        "label_names": ("different texts or null", _or_none(_are_names)),
        "sampling.sampler": ("an object or null", _or_none(_is_object)),
        "sampling.steps": ("a positive integer or null", _or_none(_is_count)),
        "sampling.temperature": ("a positive number", _is_positive),
        "sampling.top_k": ("a positive integer or null", _or_none(_is_count)),
        "sampling.top_p": ("a positive number or null", _or_none(_is_positive)),
        "training": ("an object or null", _or_none(_is_object)),
        "source": ("text or null", _or_none(_is_text)),
    }
    for place, (expected, holds) in kinds.items():
        group, _, key = place.rpartition(".")
        values = saved[group] if group else saved
        if key not in values:  # of those that may be missing
            continue
        value = values[key]
        if not holds(value):
            raise CheckpointError(f"{path}: damaged: {place}: got {value!r:.60}, expected {expected}. Copy it again.")


def _or_none(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or holds(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_natural(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**62


def _is_count(value: Any) -> bool:
    return _is_natural(value) and value > 0


def _is_positive(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < float("inf")


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_count, value))


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_text, value)) and len(set(value)) == len(value)


__all__ = [
    "CONFIG_FILE", "FORMAT_VERSION", "OLD_FILES", "TOKENIZER_FILE", "WEIGHTS_FILE", "check_file", "check_files",
    "read_manifest", "sha256",
]  # fmt: skip
