"""The run folder while it is being trained: settings, checkpoints, weights."""

from __future__ import annotations

import json
import platform
import sys
import time
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from discdiff.data.base import Dataset
from discdiff.description import describe
from discdiff.domain import Domain
from discdiff.errors import CheckpointError, ConfigError
from discdiff.manifest import MODEL_FILE
from discdiff.model import Diffusion
from discdiff.run_folder import PROFILE_FILE, Run, save_profile, save_run
from discdiff.samplers.profile import Profile

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

CHECKPOINT = Path("checkpoints") / "last.ckpt"
# Files of an earlier run, removed where it is overwritten.
_OF_A_RUN = (
    CHECKPOINT, Path(MODEL_FILE), Path("metrics.csv"), Path("samples.txt"), Path("failed_batch.safetensors"),
    Path(PROFILE_FILE),
)  # fmt: skip
PACKAGES = ("discdiff", "torch", "lightning", "numpy", "tokenizers", "safetensors")


@dataclass
class Storage:
    """Writes a run folder.

    Attributes:
        folder: the folder.
        train: gives the domain, the lengths and the classes.
        every_seconds: longest time between two checkpoints.
        sampling: defaults of `Pipeline.sample`.
    """

    folder: Path
    train: Dataset
    every_seconds: float
    sampling: dict[str, Any] = field(default_factory=dict)
    _saved: float = field(default_factory=time.monotonic)

    @property
    def checkpoint(self) -> Path:
        """The last checkpoint."""
        return self.folder / CHECKPOINT

    @property
    def due(self) -> bool:
        """Whether the last checkpoint is old."""
        return time.monotonic() - self._saved > self.every_seconds

    def prepare(
        self, model: Diffusion, *, resume: bool, overwrite: bool, config: str | None, device: str, precision: str
    ) -> None:
        """Refuse before training what could not be saved after it; write what is known at the start.

        Raises:
            CheckpointError: the folder holds a run, or is a file.
            ConfigError: no domain to save, or a network that cannot be described.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise CheckpointError(f"{self.folder}: a file of that name exists; name another folder")
        used = [path for path in _OF_A_RUN[:2] if (self.folder / path).exists()]
        if used and not resume and not overwrite:
            raise CheckpointError(
                f"{self.folder}: holds a run already ({used[0]}). Resume it, overwrite it, or name another folder."
            )
        if self.train.domain is None:
            raise ConfigError("a run folder keeps the domain; pass domain= with sequences of bare tokens")
        describe(model)
        self.folder.mkdir(parents=True, exist_ok=True)
        if not resume:
            for path in _OF_A_RUN:
                (self.folder / path).unlink(missing_ok=True)
        for path in (self.folder / CHECKPOINT.parent).glob(".last.ckpt.*"):
            path.unlink()  # half-written by a run that was killed
        if config is not None:
            (self.folder / "config.yaml").write_text(config, encoding="utf-8")
        (self.folder / "environment.json").write_text(
            json.dumps(environment(device) | {"precision": precision}, indent=2) + "\n"
        )

    def save_checkpoint(self, trainer: Trainer) -> None:
        """All that a resumed run needs."""
        trainer.save_checkpoint(self.checkpoint)
        self._saved = time.monotonic()

    def save_run(self, model: Diffusion) -> None:
        """The model as it is to be used, for `Pipeline.load`."""
        domain = self.train.domain
        assert isinstance(domain, Domain), "checked by prepare"
        lengths = self.train.length_model
        run = Run(model, domain, lengths, self.train.length, self.train.label_names, self.sampling)
        save_run(run, self.folder)

    def save_profile(self, profile: Profile) -> None:
        """What revealing several positions at once loses with the weights saved last."""
        save_profile(profile, self.folder)


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
