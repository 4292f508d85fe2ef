"""Run folders: a trained model with all that it needs, as files that can be read anywhere and are checked when read.

    model.safetensors   weights
    tokenizer.json      the domain's vocabulary
    config.json         format version, the descriptions of domain and model, lengths, labels, sha256 of the files above
    profile.json        what revealing several positions at once loses, and which weights it was measured on

Training, `Pipeline.save` and `discdiff export` write this one format. Nothing in it is ever unpickled. Files are
replaced whole; `config.json` comes last, so that what it vouches for is there. `config.json` and `profile.json` carry
digests of themselves, so that a changed byte shows in any of the four.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from discdiff import __version__
from discdiff.data.lengths import LengthModel
from discdiff.description import build, describe
from discdiff.domain import Domain
from discdiff.errors import CheckpointError, DiscdiffError
from discdiff.manifest import (
    CONFIG_FILE,
    FORMAT_VERSION,
    OLD_FILES,
    WEIGHTS_FILE,
    check_file,
    check_files,
    read_manifest,
    sha256,
)
from discdiff.model import Diffusion
from discdiff.samplers.profile import Profile
from discdiff.sealed import DIGEST, check_seal, read_json, sealed
from discdiff.unfinished import SAVING, cut_short
from discdiff.weights import load_weights, save_weights
from discdiff.writing import sync

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
        training: what is known of the training (see `discdiff.release`), or None.
        source: the model of the Hugging Face Hub that this was loaded from, with its revision, or None.
    """

    model: Diffusion
    domain: Domain
    lengths: LengthModel
    max_length: int
    label_names: list[str] | None = None
    sampling: dict[str, Any] = field(default_factory=dict)
    profile: Profile | None = None
    training: dict[str, Any] | None = None
    source: str | None = None


def save_run(run: Run, folder: str | Path, *, beside: Mapping[str, str] | None = None) -> None:
    """Write a run folder, or bring one up to date; other files in it stay.

    Args:
        run: what it holds.
        folder: where.
        beside: texts of further files, by name, that `config.json` vouches for.

    Raises:
        CheckpointError: a weight is NaN; what stood in the folder stays.
        ConfigError: the model cannot be described.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=SAVING) as name:
        fresh = Path(name)
        run.domain.save_tokenizer(fresh)
        save_weights(run.model.state_dict(), fresh / WEIGHTS_FILE)
        for file, text in (beside or {}).items():
            (fresh / file).write_text(text, encoding="utf-8", newline="")
        files = sorted(path.name for path in fresh.iterdir())
        saved = {
            "format_version": FORMAT_VERSION,
            "discdiff": __version__,
            "domain": run.domain.to_json(),
            "model": describe(run.model),
            "lengths": run.lengths.to_json(),
            "max_length": run.max_length,
            "label_names": run.label_names,
            "parameters": sum(p.numel() for p in run.model.parameters()),
            "sampling": run.sampling,
            "training": run.training,
            "source": run.source,
            "sha256": {file: sha256(fresh / file) for file in files},
        }
        (fresh / CONFIG_FILE).write_text(sealed(saved), encoding="utf-8", newline="")
        mode = (fresh / CONFIG_FILE).stat().st_mode
        # Weights and config.json change from save to save and come last, so that `cut_short` can tell how far a save
        # came that was killed.
        files = [*(file for file in files if file != WEIGHTS_FILE), WEIGHTS_FILE, CONFIG_FILE]
        for file in files:
            (fresh / file).chmod(mode)  # safetensors writes for the owner alone
            sync(fresh / file)
        for file in files:
            (fresh / file).replace(folder / file)
    for old in OLD_FILES:
        (folder / old).unlink(missing_ok=True)
    sync(folder)
    if run.profile is not None:
        save_profile(run.profile, folder)


def finish_save(folder: Path) -> None:
    """Put in its place what a save that was killed left undone, and remove what it left over.

    Only for the one process that writes in the folder.
    """
    if (manifest := cut_short(folder, CONFIG_FILE)) is not None:
        manifest.replace(folder / CONFIG_FILE)
    for left in folder.glob(f"{SAVING}*"):
        shutil.rmtree(left, ignore_errors=True)


def save_profile(profile: Profile, folder: str | Path) -> None:
    """Keep a profile in a run folder, as one of the weights that are there; the file is replaced whole.

    Raises:
        CheckpointError: the folder holds no run.
    """
    folder = Path(folder)
    weights = read_manifest(folder)["sha256"][WEIGHTS_FILE]
    text = sealed(replace(profile, weights=weights).to_json(), indent=None)
    with tempfile.TemporaryDirectory(dir=folder, prefix=SAVING) as name:
        fresh = Path(name) / PROFILE_FILE
        fresh.write_text(text, encoding="utf-8", newline="")
        sync(fresh)
        fresh.replace(folder / PROFILE_FILE)
    sync(folder)


def load_profile(folder: str | Path) -> Profile | None:
    """The profile of a run folder's weights; None where there is none, or one of other weights.

    Raises:
        CheckpointError: no run, or a damaged profile.
    """
    path = Path(folder) / PROFILE_FILE
    manifest = read_manifest(Path(folder))
    if not path.exists() and not path.is_symlink():
        return None
    check_file(path)
    remedy = "Measure it anew with `discdiff profile`"
    saved = read_json(path, remedy=remedy)
    try:
        profile = Profile.from_json(saved)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: damaged ({error}). {remedy}.") from error
    fits = profile.weights == manifest["sha256"][WEIGHTS_FILE]
    if DIGEST in saved or (fits and manifest["format_version"] > 1):  # those of version 1 had no digest
        check_seal(path, remedy=remedy)
    return profile if fits else None


def load_run(folder: str | Path) -> Run:
    """Read a run folder, after a check of its version, keys and checksums.

    Raises:
        CheckpointError: one sentence on what is missing, damaged, or of another version.
    """
    folder = Path(folder)
    saved = read_manifest(folder)
    check_files(folder, saved)
    config = folder / (CONFIG_FILE if saved["format_version"] > 1 else OLD_FILES[0])
    try:
        domain = Domain.from_json(saved["domain"], folder)
        lengths = LengthModel.from_json(saved["lengths"])
        _check_sizes(saved, domain, lengths)
        model = load_weights(lambda: build(saved["model"], Diffusion), folder / WEIGHTS_FILE)
        _check_vocabulary(model.process.vocab_size, domain, lengths)
    except DiscdiffError as error:
        if str(error).startswith(str(folder)):  # names its file
            raise
        raise CheckpointError(f"{config}: {error}{_other_version(saved)}") from error
    named = saved["max_length"], saved["label_names"], saved["sampling"]
    profile = load_profile(folder)
    return Run(model.eval(), domain, lengths, *named, profile, saved["training"], saved["source"])


def _check_sizes(saved: dict[str, Any], domain: Domain, lengths: LengthModel) -> None:
    """Refuse a model of another vocabulary than the domain's, before a process is built as large as it says."""
    if lengths.end not in (None, domain.vocab_size):
        raise CheckpointError(
            f"lengths.end: got {lengths.end}, expected {domain.vocab_size}, the first past the domain"
        )
    process = saved["model"]["init_args"].get("process")
    arguments = process.get("init_args") if isinstance(process, Mapping) else None
    stated = arguments.get("vocab_size") if isinstance(arguments, Mapping) else None
    _check_vocabulary(stated, domain, lengths)


def _check_vocabulary(size: Any, domain: Domain, lengths: LengthModel) -> None:
    ended = lengths.end is not None
    if size is not None and size != domain.vocab_size + ended:
        raise CheckpointError(
            f"the domain has {domain.vocab_size} tokens{' and an end token' if ended else ''}, the model {size}; the "
            "files are of different runs"
        )


def _other_version(saved: dict[str, Any]) -> str:
    """A hint for what an older discdiff cannot know."""
    same = saved["discdiff"] == __version__
    return "" if same else f" (discdiff {saved['discdiff']} wrote it, this is {__version__})"


__all__ = ["PROFILE_FILE", "Run", "finish_save", "load_profile", "load_run", "save_profile", "save_run"]
