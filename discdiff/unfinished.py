"""What training leaves in a run folder when it is stopped at any moment, and how to tell.

Reading it needs neither torch nor the model.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

CHECKPOINT = Path("checkpoints") / "last.ckpt"
SETTINGS_FILE = "config.yaml"
ENVIRONMENT_FILE = "environment.json"  # written as training begins
LOCK_FILE = ".training.lock"  # there while a process trains, and after one was killed
SAVING = ".saving-"  # folders where files are made that then take their places


def begun(folder: Path) -> bool:
    """Whether training has begun in a folder, even if it was stopped before its first step."""
    return any((folder / mark).exists() for mark in (LOCK_FILE, ENVIRONMENT_FILE, CHECKPOINT.parent))


def cut_short(folder: Path, manifest: str) -> Path | None:
    """The manifest of a save that was killed, or that goes on at this moment, when nothing but the manifest itself had
    still to take its place: it vouches for the files that are there. None if there is no such save.
    """
    for path in folder.glob(f"{SAVING}*/{manifest}"):
        with suppress(FileNotFoundError):  # the save has ended in the meantime
            if len(list(path.parent.iterdir())) == 1:
                return path
    return None


__all__ = ["CHECKPOINT", "ENVIRONMENT_FILE", "LOCK_FILE", "SAVING", "SETTINGS_FILE", "begun", "cut_short"]
