"""JSON files that end in the digest of all that stands before it, so that a changed byte shows."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, NoReturn

from discdiff.errors import CheckpointError

DIGEST = "digest"
_END = re.compile(rb'"digest": "([0-9a-f]{64})"(?:\n\}|\})\n\Z')
AGAIN = "Copy it again"


def sealed(content: dict[str, Any], *, indent: int | None = 2) -> str:
    """The text of a file: JSON whose last key, `digest`, is the SHA-256 of all bytes before its own hexadecimal digits.

    Raises:
        ValueError: a number is NaN or infinite, which JSON does not have.
    """
    text = json.dumps({**content, DIGEST: ""}, indent=indent, allow_nan=False)
    before, quote, after = text.rpartition('"')
    return before + hashlib.sha256(before.encode()).hexdigest() + quote + after + "\n"


def read_json(path: Path, *, remedy: str = AGAIN) -> dict[str, Any]:
    """The JSON object in a file; duplicate keys and numbers that JSON does not have are refused.

    Raises:
        CheckpointError: one sentence on what the file holds instead.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    if not data.strip():
        raise CheckpointError(f"{path}: damaged: the file is empty. {remedy}.")
    try:
        loaded = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged: not JSON, or cut short ({error}). {remedy}.") from error
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path}: damaged: holds a {type(loaded).__name__}, expected an object. {remedy}.")
    return loaded


def check_seal(path: Path, *, remedy: str = AGAIN) -> None:
    """Compare a file with the digest at its end.

    Raises:
        CheckpointError: it was changed since it was written, or has no digest.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    end = _END.search(data)
    if end is None or hashlib.sha256(data[: end.start(1)]).hexdigest() != end[1].decode():
        raise CheckpointError(
            f"{path}: damaged: it was changed after it was written (its digest is not that of its content). {remedy}."
        )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands there twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


__all__ = ["DIGEST", "check_seal", "read_json", "sealed"]
