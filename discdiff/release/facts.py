"""What a run folder says of itself: its files read, but not its weights. It needs no torch."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from discdiff.errors import CheckpointError
from discdiff.manifest import CONFIG_FILE, WEIGHTS_FILE, check_files, read_manifest

FIRST_TOKENS = 60
DEFAULT_SAMPLER = {"class_path": "discdiff.samplers.Ancestral", "init_args": {}}
DEFAULT_OF_BLOCKS = {"class_path": "discdiff.samplers.Blockwise", "init_args": {}}
"""That of runs which state none; its module would import torch, so that a test compares."""


def facts(folder: Path) -> dict[str, Any]:
    """What a run folder says of itself, in JSON values; None where it says nothing.

    Raises:
        CheckpointError: no run, or files that are damaged.
    """
    saved = read_manifest(folder)
    check_files(folder, saved, unread=[WEIGHTS_FILE])
    known = training(folder, saved)
    try:
        parts = saved["model"]["init_args"]
        in_blocks = parts["network"]["init_args"].get("block_size") is not None
        by_default = DEFAULT_OF_BLOCKS if in_blocks else DEFAULT_SAMPLER
        found = {
            "run": str(folder),
            "generates": _generates(folder, saved),
            "model": {
                **{name: parts[name] for name in ("process", "schedule", "parameterization")},
                "loss": known["loss"],
                "network": parts["network"],
                "parameters": saved["parameters"],
            },
            "training": {name: known[name] for name in _SHOWN},
            "sampling": {**saved["sampling"], "sampler": saved["sampling"].get("sampler") or by_default},
        }
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise CheckpointError(f"{folder / CONFIG_FILE}: damaged ({type(error).__name__}: {error})") from error
    return found


_SHOWN = ("data", "steps", "seconds", "validation_bound", "started", "version")


def training(folder: Path, saved: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of the training, in JSON values: from `config.json` after an export, else from the run's files.

    `data`, `loss`, `command`, `steps`, `seconds`, `validation_bound`, `started` and `version`; None where it is not
    known.

    Raises:
        CheckpointError: a file that is damaged.
    """
    told = saved["training"]
    if told is not None:
        return {"loss": None, "command": None} | dict.fromkeys(_SHOWN) | told
    config, begun = _config(folder / "config.yaml"), _json(folder / "environment.json")
    return {
        "data": _mapping(config.get("data")).get("train"),
        "loss": config.get("loss"),
        "command": begun.get("command"),
        **_measured(folder / "metrics.csv"),
        "started": begun.get("time"),
        "version": saved["discdiff"],
    }


def _generates(folder: Path, saved: Mapping[str, Any]) -> dict[str, Any]:
    domain, law, parts = saved["domain"], saved["lengths"], saved["model"]["init_args"]
    vocabulary = _mapping(_mapping(_json(folder / "tokenizer.json").get("model")).get("vocab"))
    ended, size = law["end"] is not None, parts["process"]["init_args"].get("vocab_size")
    numbered, labels = parts["network"]["init_args"].get("num_labels"), saved["label_names"]
    if labels is None and numbered is not None:
        labels = [str(number) for number in range(numbered)]
    return {
        "domain": domain["name"],
        "options": domain["options"],
        "vocabulary_size": None if size is None else size - ended,
        "first_tokens": sorted(vocabulary, key=vocabulary.__getitem__)[:FIRST_TOKENS],
        "longest": saved["max_length"],
        "end_token": ended,
        "training_sequences": sum(law["counts"]),
        # to a model with an end token all sequences are of one length, which is none of the data's
        "training_lengths": None if ended else _lengths(law["lengths"], law["counts"]),
        "classes": labels,
    }


def _lengths(lengths: Sequence[int], counts: Sequence[int]) -> dict[str, int]:
    """The least, median (the lower of two) and greatest of increasing lengths that occur so many times."""
    half = (sum(counts) + 1) // 2
    median = next(length for length, below in zip(lengths, accumulate(counts), strict=True) if below >= half)
    return {"least": lengths[0], "median": median, "greatest": lengths[-1]}


def _measured(path: Path) -> dict[str, Any]:
    """Steps and seconds of the last line of `metrics.csv`, and the last bound on the validation set."""
    steps, seconds, bound = None, None, None
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                at = _number(row.get("step"))
                steps, seconds = (None if at is None else int(at)), _number(row.get("seconds"))
                nats = _number(row.get("val/nats_per_token"))
                if nats is not None:
                    error = _number(row.get("val/standard_error"))
                    figures = {"nats_per_token": nats, "standard_error_nats": error}
                    bound = {**figures, "bits_per_token": nats / math.log(2), "step": steps}
    return {"steps": steps, "seconds": seconds, "validation_bound": bound}


def _number(text: str | None) -> float | None:
    """A finite number, or None where the cell has none."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _config(path: Path) -> dict[str, Any]:
    import yaml

    return _content(path, yaml.safe_load, yaml.YAMLError)


def _json(path: Path) -> dict[str, Any]:
    return _content(path, json.loads, ValueError)


def _content(path: Path, read: Callable[[str], Any], fault: type[Exception]) -> dict[str, Any]:
    """A file's mapping; an empty one where there is no file."""
    if not path.is_file():
        return {}
    try:
        return _mapping(read(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, fault) as error:
        raise CheckpointError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


__all__ = ["DEFAULT_OF_BLOCKS", "DEFAULT_SAMPLER", "facts", "training"]
