"""Run folders: a trained model with all that it needs, as files that can be read anywhere and are checked when read.

    domain.json, tokenizer.json   the domain and its vocabulary
    model.safetensors             weights
    model.json                    format version, the model's description, lengths, labels, sha256 of the files above
    profile.json                  what revealing several positions at once loses, and which weights it was measured on

Nothing in a run folder is ever unpickled. Files are replaced whole; `model.json` comes last, so that what it vouches
for is there.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from discdiff import __version__
from discdiff.data.lengths import LengthModel
from discdiff.description import build, describe
from discdiff.domain import Domain
from discdiff.errors import CheckpointError, DiscdiffError
from discdiff.manifest import (
    FORMAT_VERSION,
    MODEL_FILE,
    WEIGHTS_FILE,
    check_files,
    read_manifest,
    sha256,
)
from discdiff.model import Diffusion
from discdiff.samplers.profile import Profile
from discdiff.unfinished import SAVING, cut_short

PROFILE_FILE = "profile.json"


@dataclass
class Run:
    """What a run folder holds.

    Attributes:
        model: with its weights, in evaluation mode.
        domain: strings to tokens and back.
        lengths: how long samples are.
        max_length: content tokens in the longest sequence that the model was trained for.
        label_names: the classes in the order of their numbers, or None.
        sampling: defaults of `Pipeline.sample`: sampler, steps, temperature, top_k, top_p.
        profile: what revealing several positions at once loses, or None where these weights have none.
    """

    model: Diffusion
    domain: Domain
    lengths: LengthModel
    max_length: int
    label_names: list[str] | None = None
    sampling: dict[str, Any] = field(default_factory=dict)
    profile: Profile | None = None


def save_run(run: Run, folder: str | Path) -> None:
    """Write a run folder, or bring one up to date; other files in it stay."""
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=SAVING) as name:
        fresh = Path(name)
        run.domain.save(fresh)
        weights = {name: value.detach().cpu().contiguous() for name, value in run.model.state_dict().items()}
        save_file(weights, fresh / WEIGHTS_FILE, metadata={"format": "pt"})
        files = sorted(path.name for path in fresh.iterdir())
        saved = {
            "format_version": FORMAT_VERSION,
            "discdiff": __version__,
            "model": describe(run.model),
            "lengths": run.lengths.to_json(),
            "max_length": run.max_length,
            "label_names": run.label_names,
            "parameters": sum(p.numel() for p in run.model.parameters()),
            "sampling": run.sampling,
            "sha256": {file: sha256(fresh / file) for file in files},
        }
        (fresh / MODEL_FILE).write_text(json.dumps(saved, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        mode = (fresh / MODEL_FILE).stat().st_mode
        # Weights and manifest change from save to save and come last, so that `cut_short` can tell how far a
        # save came that was killed.
        files = [*(file for file in files if file != WEIGHTS_FILE), WEIGHTS_FILE, MODEL_FILE]
        for file in files:
            (fresh / file).chmod(mode)  # safetensors writes for the owner alone
            _sync(fresh / file)
        for file in files:
            (fresh / file).replace(folder / file)
    _sync(folder)
    if run.profile is not None:
        save_profile(run.profile, folder)


def finish_save(folder: Path) -> None:
    """Put in its place what a save that was killed left undone, and remove what it left over.

    Only for the one process that writes in the folder.
    """
    if (manifest := cut_short(folder, MODEL_FILE)) is not None:
        manifest.replace(folder / MODEL_FILE)
    for left in folder.glob(f"{SAVING}*"):
        shutil.rmtree(left, ignore_errors=True)


def save_profile(profile: Profile, folder: str | Path) -> None:
    """Keep a profile in a run folder, as one of the weights that are there; the file is replaced whole.

    Raises:
        CheckpointError: the folder holds no run.
    """
    folder = Path(folder)
    weights = read_manifest(folder)["sha256"][WEIGHTS_FILE]
    text = json.dumps(replace(profile, weights=weights).to_json(), allow_nan=False) + "\n"
    with tempfile.TemporaryDirectory(dir=folder, prefix=SAVING) as name:
        fresh = Path(name) / PROFILE_FILE
        fresh.write_text(text, encoding="utf-8")
        _sync(fresh)
        fresh.replace(folder / PROFILE_FILE)
    _sync(folder)


def load_profile(folder: str | Path) -> Profile | None:
    """The profile of a run folder's weights; None where there is none, or one of other weights.

    Raises:
        CheckpointError: no run, or a damaged profile.
    """
    path = Path(folder) / PROFILE_FILE
    if not path.is_file():
        return None
    try:
        profile = Profile.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, CheckpointError) as error:
        raise CheckpointError(f"{path}: damaged ({error}); measure it anew with `discdiff profile`") from error
    return profile if profile.weights == read_manifest(Path(folder))["sha256"][WEIGHTS_FILE] else None


def load_run(folder: str | Path) -> Run:
    """Read a run folder, after a check of its version, keys and checksums.

    Raises:
        CheckpointError: one sentence on what is missing, damaged, or of another version.
    """
    folder = Path(folder)
    saved = read_manifest(folder)
    check_files(folder, saved)
    try:
        model = build(saved["model"], Diffusion)
        lengths = LengthModel.from_json(saved["lengths"])
    except DiscdiffError as error:
        raise CheckpointError(f"{folder / MODEL_FILE}: {error}") from error
    _load_weights(model, folder / WEIGHTS_FILE)
    domain = Domain.load(folder)
    content = model.process.vocab_size - (lengths.end is not None)
    if domain.vocab_size != content:
        raise CheckpointError(
            f"{folder}: the domain has {domain.vocab_size} tokens, the model {content}; the files are of different runs"
        )
    named = saved["max_length"], saved["label_names"], saved["sampling"]
    return Run(model.eval(), domain, lengths, *named, load_profile(folder))


def _load_weights(model: Diffusion, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error
    expected = model.state_dict()
    odd = sorted(set(weights) ^ set(expected))
    if odd:
        raise CheckpointError(f"{path}: weights missing or unknown: {', '.join(odd[:4])} ({len(odd)} in all)")
    for name, value in weights.items():
        if value.shape != expected[name].shape:
            raise CheckpointError(
                f"{path}: {name} has shape {list(value.shape)}, the model's is {list(expected[name].shape)}"
            )
    model.load_state_dict(weights, assign=False)


def _sync(path: Path) -> None:
    """Force a file or folder onto the disk, where the system can."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


__all__ = ["PROFILE_FILE", "Run", "finish_save", "load_profile", "load_run", "save_profile", "save_run"]
