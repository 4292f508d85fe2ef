"""Show what a trained run is: what it generates, its model, its training, its defaults.

examples:
  discdiff show runs/promoters
  discdiff show runs/promoters --json | jq .training

The weights are not read; what the run folder has not recorded is left out (with --json: null).
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import shlex
import textwrap
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, TextIO

from discdiff.cli import output
from discdiff.cli.domains import HELD_OUT, SHOWN, STARTS
from discdiff.errors import CheckpointError

WIDTH = 110
DEFAULT_SAMPLER = {"class_path": "discdiff.samplers.Ancestral", "init_args": {}}
DEFAULT_OF_BLOCKS = {"class_path": "discdiff.samplers.Blockwise", "init_args": {}}
"""That of runs which state none; its module would import torch, so that a test compares."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="folder that `discdiff train` wrote")
    output.add_output_arguments(parser, "text")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    output.check_output(arguments.output)
    found = facts(arguments.run_folder)
    with output.results(arguments.output) as stream:
        if arguments.json:
            output.write_json(found, stream)
        else:
            write_text(found, stream)
    return 0


# ---- reading ---------------------------------------------------------------------------------------------------------
def facts(folder: Path) -> dict[str, Any]:
    """What a run folder says of itself, in JSON values; None where it says nothing.

    Raises:
        CheckpointError: no run, or files that are damaged.
    """
    from discdiff.manifest import CONFIG_FILE, WEIGHTS_FILE, check_files, read_manifest

    saved = read_manifest(folder)
    check_files(folder, saved, unread=[WEIGHTS_FILE])
    config, begun = _config(folder / "config.yaml"), _json(folder / "environment.json")
    try:
        parts = saved["model"]["init_args"]
        in_blocks = parts["network"]["init_args"].get("block_size") is not None
        by_default = DEFAULT_OF_BLOCKS if in_blocks else DEFAULT_SAMPLER
        found = {
            "run": str(folder),
            "generates": _generates(folder, saved),
            "model": {
                **{name: parts[name] for name in ("process", "schedule", "parameterization")},
                "loss": config.get("loss"),
                "network": parts["network"],
                "parameters": saved["parameters"],
            },
            "training": {
                "data": _mapping(config.get("data")).get("train"),
                **_measured(folder / "metrics.csv"),
                "started": begun.get("time"),
                "version": saved["discdiff"],
            },
            "sampling": {**saved["sampling"], "sampler": saved["sampling"].get("sampler") or by_default},
        }
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise CheckpointError(f"{folder / CONFIG_FILE}: damaged ({type(error).__name__}: {error})") from error
    return {**found, "examples": examples(found)}


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
        "first_tokens": sorted(vocabulary, key=vocabulary.__getitem__)[:SHOWN],
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


# ---- examples --------------------------------------------------------------------------------------------------------
def examples(found: Mapping[str, Any]) -> list[str]:
    """Commands for this run: its own folder, a template that fits it, one of its classes."""
    made, folder = found["generates"], shlex.quote(found["run"])
    label = f" --label {shlex.quote(made['classes'][0])}" if made["classes"] else ""
    template = _template(made)
    infill = [] if template is None else [f"discdiff infill {folder} {shlex.quote(template)} -n 10{label}"]
    held_out = HELD_OUT.get(made["domain"], "held_out.txt")
    return [f"discdiff sample {folder} -n 10{label}", *infill, f"discdiff score {folder} {held_out}{label}"]


def _template(made: Mapping[str, Any]) -> str | None:
    """A template of the run's domain, of the median length of its training set; None where none is known to fit."""
    if made["domain"] not in STARTS:
        return None
    given, template = STARTS[made["domain"]]
    typical = made["longest"] if made["training_lengths"] is None else made["training_lengths"]["median"]
    gap = max(1, typical - len(given))
    fits = len(given) + gap <= made["longest"] and set(given) <= set(made["first_tokens"])
    return template % gap if fits else None


# ---- text ------------------------------------------------------------------------------------------------------------
def write_text(found: Mapping[str, Any], stream: TextIO) -> None:
    """Write the facts in groups of aligned lines."""
    groups = {"generates": _generates_lines, "model": _lines, "training": _training_lines, "sampling": _lines}
    stream.write(f"{found['run']}\n")
    for group, lines in groups.items():
        stream.write(f"\n{group}\n")
        for name, text in lines(found[group]).items():
            lead = f"  {name:<18}"
            wrapped = textwrap.wrap(text, WIDTH - len(lead), break_long_words=False, break_on_hyphens=False)
            stream.write("".join(f"{lead if not i else ' ' * len(lead)}{line}\n" for i, line in enumerate(wrapped)))
    stream.write("\nexamples\n" + "".join(f"  {example}\n" for example in found["examples"]))


def _generates_lines(made: Mapping[str, Any]) -> dict[str, str]:
    size, lengths, first = made["vocabulary_size"], made["training_lengths"], made["first_tokens"]
    tokens = f": {' '.join(map(_symbol, first))}" + (" …" if size is not None and size > len(first) else "")
    spread = ""
    if lengths is not None and lengths["least"] == lengths["greatest"]:
        spread = f" of {lengths['least']} tokens"
    elif lengths is not None:
        spread = f" of {lengths['least']} to {lengths['greatest']} tokens, median {lengths['median']}"
    lines = {
        "domain": made["domain"],
        "options": _arguments(made["options"]),
        "vocabulary": "" if size is None else f"{size} tokens{tokens if first else ''}",
        "longest": f"{made['longest']} tokens" + (", ended by a token of its own" if made["end_token"] else ""),
        "training set": f"{made['training_sequences']:,} sequences{spread}",
        "classes": ", ".join(made["classes"] or []),
    }
    return {name: line for name, line in lines.items() if line}


def _training_lines(training: Mapping[str, Any]) -> dict[str, str]:
    bound = training["validation_bound"]
    texts = dict(training)
    if training["seconds"] is not None:
        texts["seconds"] = f"{training['seconds']:,.0f}"
    if bound is not None:
        error = "" if bound["standard_error_nats"] is None else f" ± {bound['standard_error_nats']:.4f}"
        texts["validation_bound"] = (
            f"{bound['nats_per_token']:.4f}{error} nats per token ({bound['bits_per_token']:.4f} bits), "
            f"at step {bound['step']}"
        )
    return _lines(texts)


def _lines(group: Mapping[str, Any]) -> dict[str, str]:
    return {
        name.replace("_", " "): f"{value:,}" if isinstance(value, int) else _value(value)
        for name, value in group.items()
        if value is not None
    }


def _value(value: Any) -> str:
    """A value of a description or configuration, briefly."""
    if isinstance(value, Mapping) and "class_path" in value:
        name, arguments = str(value["class_path"]).rpartition(".")[2], _arguments(value.get("init_args") or {})
        return f"{name}({arguments})"
    if isinstance(value, Mapping):
        return f"{{{_arguments(value)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value[:4]))}{f', … {len(value)} in all' if len(value) > 4 else ''}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and (not value.isprintable() or not value.strip()):
        return repr(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _arguments(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_value(value)}" for name, value in values.items() if value is not None)


def _symbol(token: str) -> str:
    """A token that can be told from the space between tokens."""
    return token.replace(" ", "␣") if token.isprintable() else repr(token)[1:-1]
