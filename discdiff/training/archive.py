"""What torch is given to read as a checkpoint: an archive that is whole, and asks for no more memory than it has bytes.

`torch.load(weights_only=True)` runs no code. It does not compare the archive's checksums, unpacks what was compressed,
and lets a few bytes ask for any amount of memory; these checks come before it.
"""

from __future__ import annotations

import pickletools
import struct
import zipfile
from pathlib import Path

from discdiff.errors import CheckpointError

# A mark in a member's attributes: torch takes what memory held before for the content of such a member.
_FOLDER = 0x10
# Calls of these with a number take so much memory; a checkpoint of numbers, texts, tuples and tensors has none of them.
_GREEDY = {"bytearray", "Counter"}


def check_archive(path: Path) -> None:
    """Refuse what is no whole archive as `torch.save` writes it.

    Raises:
        CheckpointError: no archive, a damaged one, one that unpacks to more than it is, or one that makes objects of
            other kinds.
        FileNotFoundError: there is no such file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, path.stat().st_size)
            for name in archive.namelist():
                if name.endswith(".pkl"):
                    _check_objects(archive.read(name))
    except FileNotFoundError:
        raise
    except (
        zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError, NotImplementedError, LookupError, struct.error,
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path}: damaged, or no checkpoint of discdiff ({reason}). Take an earlier one."
        ) from error


def _check_members(archive: zipfile.ZipFile, size: int) -> None:
    members = archive.infolist()
    if len({member.filename for member in members}) != len(members):
        raise ValueError("two members of one name")
    if any(member.external_attr & _FOLDER for member in members):
        raise ValueError("a member that is marked as a folder")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("compressed members")
    if sum(member.file_size for member in members) > size:
        raise ValueError("members that are larger than the file")
    if (damaged := archive.testzip()) is not None:
        raise ValueError(f"the checksum of {damaged} is not that of its content")


def _check_objects(pickled: bytes) -> None:
    """Read what a pickle would make; nothing is made."""
    for operation, argument, _ in pickletools.genops(pickled):
        if operation.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            if name in _GREEDY or (module.split(".")[0] == "torch" and name.endswith("Tensor")):
                raise ValueError(f"it makes objects of the kind {module}.{name}")


__all__ = ["check_archive"]
