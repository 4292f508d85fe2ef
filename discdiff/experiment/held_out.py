"""The split of a run, kept in its folder: a resumed run has the same, and `discdiff evaluate` finds the test part.

split.json   what was split, how, the seed, how many sequences each part has, checksums
split.npy    uint8 [n]: the part of each sequence: 0 train, 1 valid, 2 test, 3 none
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from discdiff.data.base import Dataset
from discdiff.data.dataset import SequenceDataset
from discdiff.data.splits import PARTS, Parts
from discdiff.domain import Domain
from discdiff.errors import CheckpointError, ConfigError
from discdiff.launch import is_first
from discdiff.manifest import CONFIG_FILE
from discdiff.training.lock import FolderLock
from discdiff.writing import write_whole

if TYPE_CHECKING:
    from discdiff.data.splits.base import Numbers
    from discdiff.experiment.experiment import Experiment

SPLIT_FILE, NUMBERS_FILE = "split.json", "split.npy"
FORMAT_VERSION = 1


def keep_split(parts: Parts[Dataset], folder: str | Path | None, *, resume: bool, overwrite: bool) -> None:
    """Write a split into a run folder, or compare it with what a run that is resumed has there.

    Of processes that train together the first does; while another run trains in the folder nobody does.

    Raises:
        CheckpointError: the run that is resumed was trained on other parts, or another process trains in the folder.
    """
    if folder is None or not is_first() or not (parts.record or Path(folder).is_dir()):
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    lock = FolderLock(Path(folder))
    lock.acquire()
    try:
        _keep(parts, Path(folder), resume=resume, overwrite=overwrite)
    finally:
        lock.release()


def _keep(parts: Parts[Dataset], folder: Path, *, resume: bool, overwrite: bool) -> None:
    path = folder / SPLIT_FILE
    if resume:
        saved = read_split(folder)
        fresh = None if not parts.record else json.loads(_text(parts.record))
        if saved != fresh:
            old, new = saved or {}, fresh or {}
            keys = ", ".join(sorted(key for key in {*old, *new} if old.get(key) != new.get(key)))
            raise CheckpointError(
                f"{path}: the run was trained on other parts than the data now give (different: {keys}); "
                "bring back its data and configuration, or start a run in another folder"
            )
        return
    if not overwrite and (folder / CONFIG_FILE).exists():
        return  # `fit` refuses this folder
    for name in (SPLIT_FILE, NUMBERS_FILE):
        (folder / name).unlink(missing_ok=True)
    if not parts.record:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if parts.numbers is not None:
        array = io.BytesIO()
        np.save(array, parts.numbers, allow_pickle=False)
        write_whole(path.with_name(NUMBERS_FILE), array.getvalue())
    write_whole(path, _text(parts.record))


def read_split(folder: Path) -> dict[str, Any] | None:
    """What `split.json` says; None where there is none.

    Raises:
        CheckpointError: damaged, or of another version.
    """
    path = folder / SPLIT_FILE
    if not path.exists():
        return None
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        version = saved["format_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: cannot be read as the record of a split ({error})") from error
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{path}: format version {version}, this discdiff reads {FORMAT_VERSION}; update it")
    found: dict[str, Any] = saved
    return found


def held_out(folder: str | Path, domain: Domain, label_names: list[str] | None = None) -> tuple[SequenceDataset, str]:
    """The sequences that a run did not learn from: its test part, or, without one, its validation part.

    Args:
        folder: of the run.
        domain: the run's, with its vocabulary.
        label_names: the run's classes.

    Returns:
        The sequences, and "test" or "valid".

    Raises:
        ConfigError: the folder has no configuration, or the run held nothing out.
        CheckpointError: the data are no longer those that were split.
        DataError: what is wrong with the data.
    """
    from discdiff.experiment.experiment import Experiment

    folder = Path(folder)
    config = folder / "config.yaml"
    if not config.is_file():
        raise ConfigError(f"{folder}: no config.yaml, which would name the run's own test set; give --reference FILE")
    experiment = Experiment.load(config)
    data = experiment.data
    if data.split is not None:
        return _part(experiment, folder, domain)
    for part in ("test", "valid"):
        if data.path(part) is not None:
            names = label_names if data.label_column else None
            return _listed(data.read(domain, part, label_names=names), folder), part
    if not data.valid_fraction:
        raise ConfigError(f"{folder}: the run held nothing out (data.valid_fraction 0); give --reference FILE")
    return _listed(data.read(domain, "train").split(data.valid_fraction, seed=experiment.seed)[1], folder), "valid"


def _listed(data: Dataset, folder: Path) -> SequenceDataset:
    if not isinstance(data, SequenceDataset):
        raise ConfigError(f"{folder}: the run was trained on windows of a genome; give --reference FILE")
    return data


def _part(experiment: Experiment, folder: Path, domain: Domain) -> tuple[SequenceDataset, str]:
    """The test or validation part of a run that was split."""
    data, split = experiment.data, experiment.data.split
    saved = read_split(folder)
    assert split is not None
    if saved is None:
        raise CheckpointError(f"{folder}: no {SPLIT_FILE}, which would say what was held out; give --reference FILE")
    part = next(name for name in ("test", "valid") if name in split.wanted)
    moved = f"{data.path('train')}: not the data that the run in {folder} was split from (their checksum differs)"
    if "sha256" not in saved:
        found = _listed(data.read_part(domain, part), folder)
        if found.checksum() != saved["data_checksum"][part]:
            raise CheckpointError(moved)
        return found, part
    whole = _listed(data.read(domain, "train"), folder)
    if whole.checksum() != saved["data_checksum"]:
        raise CheckpointError(moved)
    numbers = _numbers(folder, saved["sha256"])
    return whole.subset(np.flatnonzero(numbers == PARTS.index(part))), part


def _numbers(folder: Path, expected: str) -> Numbers:
    path = folder / NUMBERS_FILE
    try:
        numbers = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error
    if hashlib.sha256(numbers.tobytes()).hexdigest() != expected:
        raise CheckpointError(f"{path}: damaged: its checksum is not that of {SPLIT_FILE}")
    found: Numbers = numbers
    return found


def _text(record: dict[str, Any]) -> str:
    return json.dumps({"format_version": FORMAT_VERSION, **record}, indent=2) + "\n"


__all__ = ["NUMBERS_FILE", "SPLIT_FILE", "held_out", "keep_split", "read_split"]
