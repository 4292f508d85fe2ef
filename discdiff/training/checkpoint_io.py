"""Checkpoints that are written whole or not at all, and read without unpickling objects."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO

from discdiff.errors import CheckpointError
from discdiff.training.archive import check_archive
from discdiff.writing import sync


class AtomicCheckpointIO(CheckpointIO):
    """Local files, replaced by a rename within their own folder.

    Lightning's own stages the file in the system's temporary folder; where that is another file system, its last move
    is a copy over the previous checkpoint, and a kill or a full disk in between destroys both.

    Args:
        several: other processes wait for this one when it saves; a failure is then kept for `raise_kept`, so that they
            do not wait for ever.
    """

    def __init__(self, *, several: bool = False) -> None:
        self.several = several
        self.kept: OSError | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """See `write`; where others wait, a failure is kept."""
        try:
            self.write(checkpoint, local(path))
        except OSError as error:
            if not self.several:
                raise
            self.kept = error

    def raise_kept(self) -> None:
        """Raise the failure that was kept, once.

        Raises:
            OSError: the last checkpoint could not be written.
        """
        error, self.kept = self.kept, None
        if error is not None:
            raise error

    @staticmethod
    def write(checkpoint: dict[str, Any], target: Path) -> None:
        """Write beside the target, force to disk, rename.

        Raises:
            OSError: the disk is full, or fails; the checkpoint before this one is untouched.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            with fresh.open("wb") as stream:
                torch.save(checkpoint, stream)  # noqa: TID251
                stream.flush()
                os.fsync(stream.fileno())
            fresh.replace(target)
        except BaseException as error:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)
            # A full disk makes torch's writer fail on its own count of bytes; the cause is behind it.
            if isinstance(error, RuntimeError) and isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        sync(target.parent)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., Any] | Any | None = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read tensors and plain values; anything else in the file is refused.

        Raises:
            CheckpointError: a URL, no such file, or a file that is damaged or holds more than tensors and values.
        """
        target = local(path)
        try:
            check_archive(target)
            loaded = torch.load(target, map_location=map_location or "cpu", weights_only=True)  # noqa: TID251
        except FileNotFoundError as error:
            raise CheckpointError(f"{target}: no such checkpoint") from error
        except CheckpointError:
            raise
        except Exception as error:
            reason = str(error).split("\n")[0][:200]
            raise CheckpointError(f"{target}: damaged, or no checkpoint of discdiff ({reason})") from error
        if not isinstance(loaded, dict):
            raise CheckpointError(f"{target}: holds a {type(loaded).__name__}, expected a checkpoint")
        return loaded

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete the file if it is there."""
        local(path).unlink(missing_ok=True)


def local(path: str | Path) -> Path:
    """A path on this machine.

    Raises:
        CheckpointError: it is a URL.
    """
    if "://" in str(path):
        raise CheckpointError(f"{path}: checkpoints are read from local files only; download it first")
    return Path(path)
