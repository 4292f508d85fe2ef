"""Train a small model of molecules, sample, infill scaffolds, and write a report: one HTML file.

    python examples/demo.py --output demo/report.html

The molecules are those inside RDKit's wheel; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import discdiff as dd
from discdiff.data import SequenceDataset
from discdiff.metrics import basic_metrics, ratio
from discdiff.samplers import FirstHitting, State
from domains.smiles import atoms_within, shipped_smiles
from domains.smiles.report import Denoised, Figures, Infill, Story, story_page

SCAFFOLDS = ("O=C(N{10})c1ccccc1", "Cc1ccc(S(=O)(=O)N{10})cc1")
TEMPERATURES = (1.0, 0.7)
DENOISED, DENOISED_LENGTH = 64, 24


@dataclass(frozen=True)
class Sizes:
    """All that makes the demo longer or shorter."""

    minutes: float = 4.0
    max_steps: int = 100_000  # the time ends first
    samples: int = 400
    infills: int = 64
    molecules: int | None = None
    longest: int = 40  # characters; short strings are learned in minutes
    batch_size: int = 64
    dim: int = 128
    depth: int = 4


@dataclass
class Clock:
    """Says what is being done, and keeps how long it took."""

    started: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begin = time.monotonic()
        print(f"[{begin - self.started:4.0f} s] {name}", flush=True)
        yield
        self.seconds[name] = time.monotonic() - begin


def make_report(output: Path, *, seed: int = 0, sizes: Sizes | None = None) -> Story:
    """Do it all; the report is there when this returns, and not before. The model is kept beside it."""
    sizes, clock = sizes or Sizes(), Clock()
    run = output.parent / f"{output.stem}_model"
    domain = dd.domain("smiles")
    with clock.stage("reading the molecules inside RDKit's wheel"):
        corpus = shipped_smiles(longest=sizes.longest)[: sizes.molecules]
        train, held_out = SequenceDataset.from_sequences(domain, corpus).split(0.05, seed=seed)

    process = dd.Absorbing(domain.vocab_size)
    network = dd.Transformer(process.num_states, dim=sizes.dim, depth=sizes.depth, heads=4, seed=seed)
    model = dd.Diffusion(network, process, dd.LogLinear(), dd.Conditional())
    with clock.stage(f"training on {len(train):,} of them for {sizes.minutes:g} minutes"):
        fitted = dd.fit(
            model, train, valid=held_out, loss=dd.losses.AnyOrder(), max_minutes=sizes.minutes,
            max_steps=sizes.max_steps, batch_size=sizes.batch_size, learning_rate=5e-3, warmup_steps=100,
            validate_every=300, validate_sequences=256, samples=0, log_every=20, loggers=["csv"], folder=run,
            overwrite=True, seed=seed,
        )  # fmt: skip
        print(f"         {fitted}", flush=True)

    pipe = dd.Pipeline.of(model, train)
    sampled = {}
    for tau in TEMPERATURES:
        with clock.stage(f"drawing {sizes.samples} samples at temperature {tau:g}"):
            sampled[tau] = pipe.sample(
                sizes.samples, sampler=FirstHitting(), temperature=tau, seed=seed + 1, progress=True
            )
    with clock.stage("infilling scaffolds"):
        infills = [infill(pipe, scaffold, sizes.infills, seed + 2) for scaffold in SCAFFOLDS]
    with clock.stage("watching molecules come out of the masks"):
        traces = denoise(pipe, DENOISED, seed + 3)
    with clock.stage(f"bounding -log p of {len(held_out):,} held-out molecules"):
        bound = pipe.bound(held_out, samples=8, seed=seed, progress=True)
        baselines = ngrams(train.texts(), held_out.texts())
    with clock.stage("judging the samples"):
        figures = {tau: judge(domain, samples, set(train.texts())) for tau, samples in sampled.items()}

    story = Story(
        run=run,
        seed=seed,
        command=" ".join(["python examples/demo.py", *sys.argv[1:]]),
        seconds=clock.seconds,
        fitted=fitted,
        corpus=len(corpus),
        longest=sizes.longest,
        batch_size=sizes.batch_size,
        train=train,
        held_out=held_out,
        model=model,
        threads=torch.get_num_threads(),
        figures=figures,
        infills=infills,
        traces=traces,
        traces_drawn=DENOISED,
        traces_valid=all(domain.invalid(one.smiles) is None for one in traces),
        bound=bound,
        baselines=baselines,
    )
    print(f"[{time.monotonic() - clock.started:4.0f} s] drawing the report", flush=True)
    story_page(story, total=time.monotonic() - clock.started).write(output)
    return story


def infill(pipe: dd.Pipeline, template: str, n: int, seed: int) -> Infill:
    """Complete a scaffold; which atoms were given goes with each result."""
    constraint = pipe.domain.template(template)
    assert constraint.length is not None, "a template without gap ranges fixes its length"
    given = constraint.given(1, constraint.length)[1][0].tolist()
    # tokens, not strings: a string that the model wrote may be cut differently when it is read again
    drawn = draw(pipe, n, seed, constraint=constraint)
    symbols = [pipe.domain.symbols(row) for row in drawn.lists()]
    found = ["".join(row) for row in symbols]
    marked = [atoms_within(row, given) for row in symbols]
    return Infill(template, found, [pipe.domain.invalid(smiles) for smiles in found], marked)


def draw(pipe: dd.Pipeline, n: int, seed: int, **options: Any) -> dd.Sequences:
    """Samples as tokens; row i depends on the seed and on i alone."""
    model, keys = dd.Temperature(pipe.model, TEMPERATURES[-1]), dd.Keys(seed, torch.arange(n, device=pipe.model.device))
    return dd.sample(model, n, sampler=FirstHitting(), generator=keys, **options)


def denoise(pipe: dd.Pipeline, n: int, seed: int) -> list[Denoised]:
    """The first three valid ones of `n` samples of one length, with the step that wrote each token."""
    length = min(DENOISED_LENGTH, pipe.max_length)
    revealed = torch.zeros(n, length, dtype=torch.int64)

    def watch(step: int, total: int, state: State) -> None:
        written = state.tokens.cpu() < pipe.model.process.vocab_size
        revealed[written & (revealed == 0)] = step

    drawn = draw(pipe, n, seed, length=length, on_step=watch)
    symbols = [pipe.domain.symbols(row) for row in drawn.lists()]
    # False sorts before True: the valid ones come first, otherwise in the order in which they were drawn
    order = sorted(range(n), key=lambda i: pipe.domain.invalid("".join(symbols[i])) is not None)
    return [Denoised(symbols[i], revealed[i].tolist()) for i in order[:3]]


def judge(domain: dd.Domain, samples: list[str], training: set[str]) -> Figures:
    """Validity with reasons, uniqueness, novelty. The training set is canonical as it was read."""
    found = basic_metrics(domain, samples)
    shown: dict[str, None] = {}
    examples: dict[str, tuple[str, str]] = {}
    for smiles in samples:
        reason = domain.invalid(smiles)
        if reason is None:
            shown[domain.canonical(smiles)] = None
        else:
            examples.setdefault(reason.split(":", 1)[0], (smiles, reason))
    novel = ratio(len(shown.keys() - training), len(shown))
    return Figures(found["valid"], found["unique"], novel, found["valid"]["reasons"], examples, list(shown), training)


def ngrams(train: Sequence[str], test: Sequence[str]) -> dict[str, float]:
    """Bits per character of a unigram, and of a bigram interpolated with it (Witten and Bell 1991).

    p(c | h) = (n(h, c) + d(h) p(c)) / (n(h) + d(h)), with d(h) the number of different successors of h. As for the
    bound, the ends of strings are not predicted.
    """
    single: dict[str, int] = {}
    pairs: dict[str, dict[str, int]] = {}
    for text in train:
        for before, after in zip(" " + text, text, strict=False):
            single[after] = single.get(after, 0) + 1
            row = pairs.setdefault(before, {})
            row[after] = row.get(after, 0) + 1
    total = sum(single.values())
    sums = {before: sum(row.values()) for before, row in pairs.items()}
    unigram = bigram = 0.0
    for text in test:
        for before, after in zip(" " + text, text, strict=False):
            p = (single.get(after, 0) + 1 / (len(single) + 1)) / (total + 1)
            row = pairs.get(before, {})
            unigram -= math.log2(p)
            bigram -= math.log2((row.get(after, 0) + len(row) * p) / (sums[before] + len(row)) if row else p)
    characters = sum(map(len, test))
    return {"unigram": unigram / characters, "bigram": bigram / characters}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--output", type=Path, default=Path("demo/report.html"), help="the report (default: %(default)s)")
    add("--minutes", type=_positive, default=Sizes.minutes, help="time for training (default: %(default)g)")
    add("--samples", type=int, default=Sizes.samples, help="molecules to draw (default: %(default)s)")
    add("--seed", type=int, default=0, help="of training, sampling and bound (default: %(default)s)")
    options = parser.parse_args(argv)
    if options.samples < 1:
        parser.error("--samples: expected at least 1")
    if options.output.is_dir():
        parser.error(f"--output: {options.output} is a folder; name a file, such as {options.output / 'report.html'}")
    try:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        story = make_report(options.output, seed=options.seed, sizes=Sizes(options.minutes, samples=options.samples))
    except KeyboardInterrupt:
        print("\ninterrupted: no report was written", file=sys.stderr)
        return 130
    except (dd.DiscdiffError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    print(f"\nmodel:  {story.run}\nreport: {options.output.resolve()}")
    return 0


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"got {text}, expected a positive number")
    return value


if __name__ == "__main__":
    sys.exit(main())
