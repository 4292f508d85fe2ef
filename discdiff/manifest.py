"""`model.json`: what a run folder holds and vouches for. Reading it needs neither torch nor the model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from discdiff.errors import CheckpointError
from discdiff.unfinished import begun, cut_short

FORMAT_VERSION = 1
MODEL_FILE = "model.json"
WEIGHTS_FILE = "model.safetensors"
_KEYS = {
    "format_version",
    "discdiff",
    "model",
    "lengths",
    "max_length",
    "label_names",
    "parameters",
    "sampling",
    "sha256",
}


def read_manifest(folder: Path) -> dict[str, Any]:
    """The content of a run folder's `model.json`, after a check of its version and keys.

    Raises:
        CheckpointError: one sentence on what is missing, damaged, or of another version.
    """
    path = cut_short(folder, MODEL_FILE) or folder / MODEL_FILE
    if not folder.is_dir():
        what = "a file, not a run folder" if folder.exists() else "no such run folder"
        raise CheckpointError(f"{folder}: {what}. Give the folder that `discdiff train` wrote.")
    if not path.is_file():
        remedy = "Give the folder that `discdiff train` wrote."
        if begun(folder):
            remedy = (
                "Training there has saved no model yet; if it was stopped, go on with "
                f"`discdiff train --output {folder} --resume`."
            )
        raise CheckpointError(f"{folder}: has no {MODEL_FILE}. {remedy}")
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged: not JSON ({error})") from error
    saved: dict[str, Any] = loaded if isinstance(loaded, dict) else {}
    version = saved.get("format_version")
    if not isinstance(version, int):
        raise CheckpointError(f"{path}: damaged: no format_version")
    if version != FORMAT_VERSION:
        newer = f" discdiff {saved.get('discdiff')} wrote it; update discdiff." if version > FORMAT_VERSION else ""
        raise CheckpointError(f"{path}: format version {version}, this discdiff reads {FORMAT_VERSION}.{newer}")
    if set(saved) != _KEYS:
        odd = sorted(set(saved) ^ _KEYS)
        raise CheckpointError(f"{path}: damaged: keys missing or unknown: {', '.join(odd)}")
    kinds: dict[str, Any] = {"sha256": dict, "lengths": dict, "sampling": dict, "max_length": int}
    for key, kind in kinds.items():
        if not isinstance(saved[key], kind):
            raise CheckpointError(f"{path}: damaged: {key} is {saved[key]!r}")
    return saved


def check_files(folder: Path, manifest: dict[str, Any], *, unread: Iterable[str] = ()) -> None:
    """Compare the files of a run folder with the checksums of its manifest.

    Args:
        folder: the run folder.
        manifest: what `read_manifest` gave.
        unread: files that have to be there, but are not read; large ones take seconds.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    passed_over = set(unread)
    for file, expected in manifest["sha256"].items():
        if Path(file).name != file or not (folder / file).is_file():
            raise CheckpointError(f"{folder / file}: missing; {MODEL_FILE} names it. Copy the whole run folder.")
        if file not in passed_over and sha256(folder / file) != expected:
            raise CheckpointError(
                f"{folder / file}: damaged (its sha256 is not the one in {MODEL_FILE}). Copy it again."
            )
    if WEIGHTS_FILE not in manifest["sha256"]:
        raise CheckpointError(f"{folder / MODEL_FILE}: names no {WEIGHTS_FILE}")


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


__all__ = ["FORMAT_VERSION", "MODEL_FILE", "WEIGHTS_FILE", "check_files", "read_manifest", "sha256"]
