"""What a report on a model of molecules says, section by section."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

from domains.smiles.drawing import molecule_grid_svg
from domains.smiles.report.curves import curves_svg
from domains.smiles.report.denoising import Denoised, denoising_html
from domains.smiles.report.page import Page, bars, code, figure, paragraph, table

GRID = 20
INFILLS = 8
CELL = (255, 165)


@dataclass(frozen=True)
class Figures:
    """Quality of samples. Ratios are dictionaries of `ratio`, `count` and `of`.

    Attributes:
        valid, unique, novel: unique among the valid ones, novel among the unique ones.
        reasons: how many are invalid for what.
        examples: for each such kind one sample with the whole reason.
        molecules: the different valid ones, canonical, in the order in which they were drawn.
        training: canonical SMILES of the training set.
    """

    valid: dict[str, Any]
    unique: dict[str, Any]
    novel: dict[str, Any]
    reasons: dict[str, int]
    examples: dict[str, tuple[str, str]]
    molecules: list[str]
    training: set[str]


@dataclass(frozen=True)
class Infill:
    """Completions of a scaffold: for each string why it is invalid (None if it is not) and its given atoms."""

    template: str
    strings: list[str]
    reasons: list[str | None]
    given: list[list[int]]


@dataclass(frozen=True)
class Story:
    """All that the report is made of. `figures` is by temperature; the last is that of all pictures."""

    run: Path
    seed: int
    command: str
    seconds: Mapping[str, float]
    fitted: Any
    corpus: int
    longest: int
    batch_size: int
    train: Any
    held_out: Any
    model: Any
    threads: int
    figures: Mapping[float, Figures]
    infills: Sequence[Infill]
    traces: Sequence[Denoised]
    traces_drawn: int
    traces_valid: bool
    bound: Any
    baselines: Mapping[str, float]


def story_page(story: Story, *, total: float) -> Page:
    """The report; `total` is what all of it took, in seconds."""
    tau, best = list(story.figures.items())[-1]
    page = Page(
        "A discrete diffusion model of molecules",
        f"Trained with discdiff in {_minutes(story.fitted.seconds)} on {len(story.train):,} SMILES strings. It starts "
        "from a row of masks and writes one token at a time, in random order.",
    )
    error = story.bound.standard_error / math.log(2)
    page.tiles(
        [
            (_share(best.valid), "valid molecules", f"{_count(best.valid)} samples, temperature {tau:g}"),
            (_share(best.unique), "unique", f"{_count(best.unique)} valid ones"),
            (_share(best.novel), "new", f"{_count(best.novel)} not in the training set"),
            (f"{story.bound.bits_per_unit:.3f}", "bits per character", f"± {error:.3f}, held-out molecules"),
            (_minutes(total), "for everything", f"of which {_minutes(story.fitted.seconds)} training"),
        ]
    )
    page.section("samples", "Samples", *_samples(best, tau))
    page.section("denoising", "From masks to molecules", *_denoising(story, tau))
    page.section("infill", "Completing a scaffold", *(block for one in story.infills for block in _infill(one, tau)))
    page.section("training", "Training", *_training(story))
    page.section("quality", "Quality of the samples", *_quality(story))
    page.section("own", "The same with your own molecules", *_own(story))
    page.section("made", "How this was made", *_made(story, total))
    return page


def _samples(found: Figures, tau: float) -> list[str]:
    shown = found.molecules[:GRID]
    if not shown:
        return [paragraph(f"None of {found.valid['of']} samples is valid: this model was trained too briefly.")]
    legends = ["in the training set" if smiles in found.training else "new" for smiles in shown]
    return [
        paragraph(
            f"The first {len(shown)} different valid samples at temperature {tau:g}, in the order in which they were "
            "drawn; none was picked by hand."
        ),
        figure(molecule_grid_svg(shown, legends=legends, columns=4, size=CELL)),
    ]


def _denoising(story: Story, tau: float) -> list[str]:
    length = len(story.traces[0].symbols)
    which = f"the first {len(story.traces)} valid ones" if story.traces_valid else "three, not all of them valid,"
    return [
        paragraph(
            f"First-hitting sampling at temperature {tau:g}: each step writes one token at a random place, given all "
            f"that stands already, and never changes it. These are {which} of {story.traces_drawn} samples of {length} "
            "tokens. An atom's color says when it was written."
        ),
        denoising_html(story.traces),
    ]


def _infill(found: Infill, tau: float) -> list[str]:
    n = len(found.strings)
    chosen: dict[str, list[int]] = {}
    for smiles, reason, given in zip(found.strings, found.reasons, found.given, strict=True):
        if reason is None:
            chosen.setdefault(smiles, given)
    valid = sum(reason is None for reason in found.reasons)
    text = (
        "What the template gives stands in every result, by construction; `{10}` is ten tokens for the model to "
        f"write. {valid} of {n} are valid, {len(chosen)} different ones among them (temperature {tau:g}). "
    )
    head = f"<h3>Template <code>{escape(found.template)}</code></h3>"
    if not chosen:
        return [head, paragraph(text)]
    shown = dict(list(chosen.items())[:INFILLS])
    drawing = molecule_grid_svg(list(shown), list(shown.values()), list(shown), columns=4, size=CELL)
    return [head, paragraph(text + f"The first {len(shown)}, with the given atoms marked in blue:"), figure(drawing)]


def _training(story: Story) -> list[str]:
    per_unit = int(story.bound.bound.tokens.sum()) / story.bound.units
    error = story.bound.standard_error / math.log(2)
    svg = curves_svg(
        story.run / "metrics.csv", tokens_per_unit=per_unit, baselines=story.baselines, unit=story.bound.unit
    )
    ours = f"{story.bound.bits_per_unit:.3f} ± {error:.3f}"
    lines = [(name, bits, f"{bits:.3f}") for name, bits in story.baselines.items()]
    return [
        figure(
            svg, "Left: the loss over single batches and its moving average. Right: the bound with its standard error."
        ),
        "<h3>Bits per character on held-out molecules (less is better)</h3>",
        bars([*lines, ("this model", story.bound.bits_per_unit, ours)]),
        paragraph(
            f"{len(story.held_out):,} molecules that were not trained on. The model's figure is an upper bound on its "
            "-log p given the length, with the standard error of the Monte Carlo estimate, at temperature 1; those of "
            "unigram and bigram (Witten-Bell) are exact."
        ),
    ]


def _quality(story: Story) -> list[str]:
    columns = list(story.figures.values())
    rows = [
        ["valid (RDKit, the string as it was drawn)", *(f"{_share(f.valid)}  ({_count(f.valid)})" for f in columns)],
        ["unique among the valid", *(f"{_share(f.unique)}  ({_count(f.unique)})" for f in columns)],
        ["new among the unique", *(f"{_share(f.novel)}  ({_count(f.novel)})" for f in columns)],
    ]
    head = ["", *(f"temperature {tau:g}" for tau in story.figures)]
    kinds = sorted({kind for f in columns for kind in f.reasons}, key=lambda kind: -columns[-1].reasons.get(kind, 0))
    example = {kind: found for f in columns for kind, found in f.examples.items()}
    reasons = [
        [kind, *(str(f.reasons.get(kind, 0)) for f in columns), f"`{example[kind][0]}` {example[kind][1]}"]
        for kind in kinds
    ]
    blocks = [
        paragraph(
            "Temperature 1 is the model itself. Below 1 each choice is sharper: more samples are valid, and they vary "
            "less. Nothing is repaired. Molecules are compared as canonical SMILES, with the training set's too."
        ),
        table(head, rows),
    ]
    if reasons:
        blocks += ["<h3>Why the others are invalid</h3>", table(["reason", *head[1:], "for example"], reasons)]
    return blocks


def _own(story: Story) -> list[str]:
    return [
        paragraph("A file with one SMILES a line, or a CSV, Parquet or SD file:"),
        code(
            [
                "discdiff train my.smi --domain smiles --output runs/mine  # 20 minutes at most without a GPU",
                "discdiff sample runs/mine -n 100 -o samples.smi",
                f"discdiff infill runs/mine '{story.infills[0].template}' -n 16",
                "discdiff score runs/mine others.smi",
                "discdiff evaluate runs/mine --reference held_out.smi --training my.smi",
            ]
        ),
        paragraph("The model of this report is a run folder too:"),
        code([f"discdiff sample {story.run} -n 20 --sampler first_hitting --temperature {list(story.figures)[-1]:g}"]),
    ]


def _made(story: Story, total: float) -> list[str]:
    parameters = sum(weight.numel() for weight in story.model.parameters())
    packages = ", ".join(f"{name} {version(name)}" for name in ("discdiff", "torch", "lightning", "rdkit"))
    network = story.model.network
    stages = "; ".join(f"{name} {seconds:.0f} s" for name, seconds in story.seconds.items())
    facts = {
        "command": f"`{story.command}`",
        "molecules": f"{story.corpus:,} different ones inside RDKit's wheel (`Data/NCI/first_5K.smi`, "
        f"`Data/Pains/test_data`), of one fragment and at most {story.longest} characters; "
        f"{len(story.train):,} to train on, {len(story.held_out):,} held out",
        "model": f"transformer of width {network.dim} and depth {network.depth}, {parameters:,} parameters; absorbing "
        "process, any-order loss, averaged weights",
        "training": f"{story.fitted.steps:,} steps of at most {story.batch_size} molecules, "
        f"{story.fitted.tokens_per_second:,.0f} tokens a second on {story.threads} threads",
        "time": f"{total:.0f} s: {stages}",
        "seed": f"{story.seed}. Training ends by the clock, so another machine takes another number of steps; with the "
        "same model, samples and bound repeat.",
        "versions": f"{packages}, Python {platform.python_version()}",
    }
    return [table(["", ""], facts.items())]


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def _share(ratio: Mapping[str, Any]) -> str:
    return "-" if ratio["ratio"] is None else f"{ratio['ratio']:.1%}"


def _count(ratio: Mapping[str, Any]) -> str:
    return f"{ratio['count']} of {ratio['of']}"
