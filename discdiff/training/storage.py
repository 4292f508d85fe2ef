"""The run folder while it is being trained: settings, checkpoints, weights."""

from __future__ import annotations

import json
import platform
import shutil
import sys
import time
import warnings
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from discdiff.data.base import Dataset
from discdiff.description import describe
from discdiff.domain import Domain
from discdiff.errors import CheckpointError, ConfigError, DiscdiffWarning
from discdiff.manifest import CONFIG_FILE, OLD_FILES
from discdiff.model import Diffusion
from discdiff.run_folder import PROFILE_FILE, Run, finish_save, load_profile, save_profile, save_run
from discdiff.samplers.profile import Profile
from discdiff.training.evaluation import SAMPLES_FILE
from discdiff.training.guard import FAILED_BATCH, SKIPPED_STEPS
from discdiff.training.lock import FolderLock
from discdiff.training.metrics_log import METRICS_FILE
from discdiff.unfinished import CHECKPOINT, ENVIRONMENT_FILE, SETTINGS_FILE
from discdiff.writing import WRITING_ERRORS, reason, remedy, write_whole

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

# Files of an earlier run, removed where it is overwritten.
_OF_A_RUN = (
    CHECKPOINT, Path(CONFIG_FILE), *map(Path, OLD_FILES), Path(METRICS_FILE), Path(SAMPLES_FILE), Path(FAILED_BATCH),
    Path(PROFILE_FILE),
)  # fmt: skip
PACKAGES = ("discdiff", "torch", "lightning", "numpy", "tokenizers", "safetensors")
RETRY_SECONDS = 60.0


@dataclass
class Storage:
    """Writes a run folder. One process at a time does, from `prepare` to `close`.

    Attributes:
        folder: the folder.
        train: gives the domain, the lengths and the classes.
        every_seconds: longest time between two checkpoints.
        sampling: defaults of `Pipeline.sample`.
        notes: what a person should know of the folder.
        saved_step: the step of the checkpoint that stands, or None.
        first: whether this process writes; of several that train together one does.
    """

    folder: Path
    train: Dataset
    every_seconds: float
    sampling: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    saved_step: int | None = None
    first: bool = True
    _due: float = field(init=False)
    _about: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._due = time.monotonic() + self.every_seconds
        self._lock = FolderLock(self.folder)

    @property
    def checkpoint(self) -> Path:
        """The last checkpoint."""
        return self.folder / CHECKPOINT

    @property
    def due(self) -> bool:
        """Whether the last checkpoint is old, or it is time to try again after one that failed."""
        return time.monotonic() > self._due

    def prepare(
        self, model: Diffusion, *, resume: bool, overwrite: bool, config: str | None, device: str, precision: str
    ) -> None:
        """Refuse before training what could not be saved after it; make the folder this process's own.

        Raises:
            CheckpointError: the folder holds a run, is a file, cannot be written to, or another process trains in it.
            ConfigError: no domain to save, or a network that cannot be described.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise CheckpointError(f"{self.folder}: a file of that name exists; name another folder")
        if self.train.domain is None:
            raise ConfigError("a run folder keeps the domain; pass domain= with sequences of bare tokens")
        describe(model)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"{self.folder}: cannot be made ({error.strerror}); name another folder") from error
        unsupported = self._lock.acquire()
        self.notes += [] if unsupported is None else [unsupported]
        try:
            self._refuse_a_run(resume=resume, overwrite=overwrite)
            self._clean(resume=resume)
            about = environment(device) | {"precision": precision}
            self._about = {ENVIRONMENT_FILE: json.dumps(about, indent=2) + "\n"}
            if config is not None:
                self._about[SETTINGS_FILE] = config
            if not resume:
                self.begin()
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise CheckpointError(
                    f"{self.folder}: cannot be written to ({reason(error)}). {remedy(error)}."
                ) from error
            raise

    def _refuse_a_run(self, *, resume: bool, overwrite: bool) -> None:
        used = [path for path in _OF_A_RUN[:3] if (self.folder / path).exists()]
        if used and not resume and not overwrite:
            raise CheckpointError(
                f"{self.folder}: holds a run already ({used[0]}). Resume it, overwrite it, or name another folder."
            )

    def _clean(self, *, resume: bool) -> None:
        """Finish or remove what a killed run left half-written, and remove a run that is overwritten."""
        finish_save(self.folder)
        for name in (METRICS_FILE, SAMPLES_FILE, ENVIRONMENT_FILE, SETTINGS_FILE, CHECKPOINT.name):
            for path in [*self.folder.glob(f".{name}.[0-9]*"), *self.checkpoint.parent.glob(f".{name}.[0-9]*")]:
                path.unlink()
        if not resume:
            for path in _OF_A_RUN:
                (self.folder / path).unlink(missing_ok=True)
            shutil.rmtree(self.folder / SKIPPED_STEPS, ignore_errors=True)

    def begin(self, step: int | None = None) -> None:
        """Write what is known at the start; of a resumed run only when it goes on, at `step`."""
        about, self._about = self._about, {}
        for name, text in about.items():
            write_whole(self.folder / name, text)
        self.saved_step = step

    def save(self, trainer: Trainer, averaged: AbstractContextManager[Diffusion], *, last: bool) -> None:
        """Save all that a resumed run needs, and the model as it is to be used.

        Where the disk is full or fails, what was saved before stands: training goes on with a warning, and saving is
        tried again within a minute.

        Args:
            trainer: of the run.
            averaged: the model with the averaged weights; every process enters. See `MovingAverage.averaged`.
            last: the run ends here.

        Raises:
            CheckpointError: the last save failed.
        """
        step = trainer.global_step
        try:
            trainer.save_checkpoint(self.checkpoint)
            with averaged as model:
                kept = getattr(trainer.strategy.checkpoint_io, "raise_kept", None)
                if kept is not None:
                    kept()
                self.saved_step, self._due = step, time.monotonic() + self.every_seconds
                if self.first:
                    self._save_run(model)
        except WRITING_ERRORS as error:
            self._due = time.monotonic() + min(RETRY_SECONDS, self.every_seconds)
            if last:
                raise self._failed(step, error) from error
            warnings.warn(
                f"{self._failed(step, error)} Training goes on, and tries again within a minute.",
                DiscdiffWarning,
                stacklevel=2,
            )

    def save_run(self, model: Diffusion) -> None:
        """The model as it is to be used, for `Pipeline.load`.

        Raises:
            CheckpointError: it cannot be written.
        """
        try:
            self._save_run(model)
        except WRITING_ERRORS as error:
            raise CheckpointError(
                f"{self.folder}: the model could not be written ({reason(error)}). "
                f"{remedy(error)}, then `--resume` writes it."
            ) from error

    def _save_run(self, model: Diffusion) -> None:
        domain = self.train.domain
        assert isinstance(domain, Domain), "checked by prepare"
        lengths = self.train.length_model
        run = Run(model, domain, lengths, self.train.length, self.train.label_names, self.sampling)
        save_run(run, self.folder)

    def _failed(self, step: int, error: BaseException) -> CheckpointError:
        what = f"step {step:,}"
        stands = "nothing was saved before" if self.saved_step is None else f"that of step {self.saved_step:,} stands"
        if self.saved_step == step:
            what, stands = f"the model of step {step:,}", "its checkpoint was"
        then = "begin again" if self.saved_step is None else "go on with `--resume`"
        place = getattr(error, "filename", None) or self.folder
        return CheckpointError(
            f"{place}: {what} could not be saved ({reason(error)}); {stands}. {remedy(error)}, then {then}."
        )

    def has_profile(self) -> bool:
        """Whether the folder's profile is one of the weights saved last."""
        try:
            return load_profile(self.folder) is not None
        except CheckpointError:  # damaged: it is measured anew
            return False

    def save_profile(self, profile: Profile) -> None:
        """What revealing several positions at once loses with the weights saved last."""
        try:
            save_profile(profile, self.folder)
        except WRITING_ERRORS as error:
            warnings.warn(
                f"{self.folder}: no profile was written ({reason(error)}); `discdiff profile {self.folder}` does.",
                DiscdiffWarning,
                stacklevel=2,
            )

    def close(self) -> None:
        """Let others write in the folder."""
        self._lock.release()


def environment(device: str) -> dict[str, Any]:
    """Versions, hardware and command line of this process, for the record."""
    packages = {}
    for package in PACKAGES:
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            packages[package] = "not installed"
    packages["torch"] = torch.__version__  # its metadata leave out which build it is
    cuda = device.startswith("cuda")
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "device": torch.cuda.get_device_name(torch.device(device)) if cuda else platform.processor() or device,
        "threads": torch.get_num_threads(),
    }
