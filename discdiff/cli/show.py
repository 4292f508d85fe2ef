"""Show what a trained run is: what it generates, its model, its training, its defaults.

examples:
  discdiff show runs/promoters
  discdiff show runs/promoters --json | jq .training

The weights are not read; what the run folder has not recorded is left out (with --json: null).
"""

from __future__ import annotations

import argparse
import shlex
import textwrap
from collections.abc import Mapping
from typing import Any, TextIO

from discdiff.cli import options, output
from discdiff.cli.domains import HELD_OUT, STARTS
from discdiff.release.facts import facts

WIDTH = 110


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_folder_argument(parser)
    output.add_output_arguments(parser, "text")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    output.check_output(arguments.output)
    found = {**facts(arguments.run_folder), "run": options.name_of(arguments)}
    found["examples"] = examples(found)
    with output.results(arguments.output) as stream:
        if arguments.json:
            output.write_json(found, stream)
        else:
            write_text(found, stream)
    return 0


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
