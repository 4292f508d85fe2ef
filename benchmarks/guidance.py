"""What guidance does: how far a property moves, and how far samples then are from real sequences of that class.

    python -m benchmarks.labelled yeast '../shared/data/dna/yeast_expr.{split}.tsv.xz' tables/
    discdiff train tables/yeast.train.tsv --domain dna --data.label_column bin --loss LabelDropout --output runs/yeast
    python -m benchmarks.guidance runs/yeast tables/yeast --to high --count 256 --threads 1
    python -m benchmarks.guidance --draw benchmarks/results/guidance.jsonl docs/pictures

Samples of one class are drawn from a label-conditioned model (trained with `LabelDropout`) by label guidance, by a
classifier of noised sequences (trained here in a minute; it guides the model without labels), exactly and by its slope,
and with particles. Each line has the mean of the property, the share of samples judged to be of the class, distances to
test sequences of that class and to all, and how much the samples differ from each other. As many validation sequences
show what real ones would have: distances fall as samples are more, so that only sets of one size compare.

DNA's property is judged by ridge regression on k-mers and positions of clean training sequences, which guides nothing;
how well it does on test sequences is given. Its class is the third of what it says of training sequences. The distance
is the Jensen-Shannon divergence of 4-mers. Molecules are judged by RDKit, valid ones alone; the distance is the mean
over descriptors of Wasserstein's, in standard deviations.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import discdiff as dd
from benchmarks.grammar import counted
from benchmarks.labelled import thirds
from benchmarks.real_data import hardware
from discdiff.guidance import Classifier, FirstOrderClassifier, Labels, Predictor, fit_predictor
from discdiff.metrics import encoded, jensen_shannon, ngram_counts, wasserstein
from discdiff.particles import Reward
from discdiff.randomness import Keys
from discdiff.samplers import FirstHitting
from discdiff.sequences import Sequences
from domains.smiles import chemistry
from domains.smiles.properties import evenly, internal_diversity, properties, valid_molecules

GAMMAS = (0.0, 1.0, 2.0, 4.0)
AXES = {"expression": "expression, as judged", "logp": "logP of the valid", "qed": "QED of the valid"}
REAL = {"real": "k", "real of all": "0.6"}
FEWEST = 10  # valid molecules of a point that is drawn
MOST = 1_000  # test molecules that samples are compared with


# ---- judges ----------------------------------------------------------------------------------------------------------
class Ridge:
    """A property of DNA from counts of k-mers up to 5 and the bases at each position, by ridge regression."""

    def __init__(self, texts: Sequence[str], values: np.ndarray, strength: float = 300.0) -> None:
        features = self.features(texts)
        self.mean, self.offset = features.mean(0), float(values.mean())
        centred = features - self.mean
        gram = centred.T @ centred + strength * np.eye(centred.shape[1])
        self.slopes = np.linalg.solve(gram, centred.T @ (values - self.offset))

    @staticmethod
    def features(texts: Sequence[str]) -> np.ndarray:
        """`[N, F]`."""
        codes = np.array([["ACGT".index(c) for c in text] for text in texts])
        found = [np.eye(4)[codes].reshape(len(codes), -1)]
        for k in range(1, 6):
            kmers = sum(codes[:, i : codes.shape[1] - k + 1 + i] * 4 ** (k - 1 - i) for i in range(k))
            counts = np.zeros((len(codes), 4**k))
            np.add.at(counts, (np.arange(len(codes))[:, None], kmers), 1)
            found.append(counts)
        return np.concatenate(found, 1)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        return np.asarray((self.features(texts) - self.mean) @ self.slopes + self.offset)


@dataclass
class Judge:
    """What is measured of samples of one set.

    Attributes:
        pipe: the run.
        tables: its splits, with properties and bins.
        to: the class that is wanted.
        count: samples a line.
    """

    pipe: dd.Pipeline
    tables: dict[str, pd.DataFrame]
    to: str
    count: int

    def __post_init__(self) -> None:
        self.dna = self.pipe.domain.name == "dna"
        held = self.tables["test"]
        self.all = held.sequence.tolist()
        self.alike = held[held.bin == self.to].sequence.tolist()
        train = self.tables["train"]
        if self.dna:
            texts = train.sequence.tolist()
            self.ridge = Ridge(texts, train.expression.to_numpy())
            self.training = {"expression": self.ridge(texts)}
        else:
            self.training = {name: train[name].to_numpy() for name in ("logp", "qed")}

    def about(self) -> dict[str, Any]:
        """How far the judge itself can be trusted, and what real sequences have."""
        found: dict[str, Any] = {"test": len(self.all), "test_of_class": len(self.alike)}
        if self.dna:
            test = self.tables["test"]
            judged, wanted = self.ridge(test.sequence.tolist()), (test.bin == self.to).to_numpy()
            found |= {
                "judge_correlation": float(np.corrcoef(judged, test.expression)[0, 1]),
                "judge_r2": r_squared(judged, test.expression.to_numpy()),
                "judge_auc": auc(judged, wanted),
            }
        valid = self.tables["valid"]
        for name, real in (("real", valid[valid.bin == self.to]), ("real_of_all", valid)):
            texts = list(evenly(real.sequence.tolist(), self.count))
            found[name] = {"samples": len(texts)} | self(texts)
        return found

    def __call__(self, samples: Sequence[str]) -> dict[str, Any]:
        return self._dna(samples) if self.dna else self._molecules(samples)

    def _dna(self, samples: Sequence[str]) -> dict[str, Any]:
        values = self.ridge(samples)
        return {
            "expression": mean_of(values),
            "of_class": self._share({"expression": values}),
            "diversity": hamming(samples),
            "to_class": self._kmers(samples, self.alike),
            "to_all": self._kmers(samples, self.all),
            "unique": len(set(samples)) / len(samples),
        }

    def _share(self, values: dict[str, np.ndarray]) -> float:
        """The share of samples of the class, by thirds of what training sequences have."""
        parts = [thirds(values[name], training) for name, training in self.training.items()]
        return float(np.mean(["-".join(each) == self.to for each in zip(*parts, strict=True)]))

    def _kmers(self, samples: Sequence[str], others: Sequence[str], k: int = 4) -> float:
        mine, theirs = (ngram_counts(encoded(self.pipe.domain, texts)[0], k, 4) for texts in (samples, others))
        return float(jensen_shannon(mine, theirs) or 0.0)

    def _molecules(self, samples: Sequence[str]) -> dict[str, Any]:
        valid = [one for one in samples if chemistry.fault(one) is None]
        if len(valid) < 2:
            return {"valid": len(valid) / len(samples)}
        molecules = valid_molecules(valid)
        values = {name: np.array(found) for name, found in properties(molecules).items()}
        return {
            "valid": len(valid) / len(samples),
            **{name: mean_of(values[name]) for name in ("logp", "qed")},
            "of_class": self._share(values),
            "diversity": internal_diversity(molecules),
            "to_class": described_apart(molecules, valid_molecules(self.alike, MOST)),
            "to_all": described_apart(molecules, valid_molecules(self.all, MOST)),
            "unique": len(set(valid)) / len(valid),
        }


def mean_of(values: np.ndarray) -> dict[str, float]:
    """A mean and its standard error."""
    return {"mean": float(values.mean()), "standard_error": float(values.std(ddof=1) / np.sqrt(len(values)))}


def described_apart(left: Sequence[Any], right: Sequence[Any]) -> float:
    """Wasserstein distance of each descriptor, in its standard deviations among `right`: the mean over descriptors."""
    mine, theirs = (counted(molecules) | properties(molecules) for molecules in (left, right))
    return float(np.mean([(wasserstein(mine[name], theirs[name]) or 0.0) / np.std(theirs[name]) for name in theirs]))


def r_squared(predicted: np.ndarray, values: np.ndarray) -> float:
    """The share of the variance that is predicted: negative where the mean does better."""
    return float(1 - ((values - predicted) ** 2).mean() / values.var())


def auc(scores: np.ndarray, wanted: np.ndarray) -> float:
    """The chance that one that is wanted scores above one that is not; ties count half (Mann and Whitney 1947)."""
    few, many = int(wanted.sum()), int((~wanted).sum())
    ranks = pd.Series(scores).rank().to_numpy()
    return float((ranks[wanted].sum() - few * (few + 1) / 2) / (few * many))


def hamming(texts: Sequence[str]) -> float:
    """The mean share of positions at which two of the texts differ; all have one length."""
    count, letters = len(texts), np.array([list(text) for text in texts])
    alike = sum((found * (found - 1)).sum() for found in ((letters == one).sum(0) for one in np.unique(letters)))
    return float(1 - alike / (count * (count - 1) * letters.shape[1]))


# ---- ways to draw ----------------------------------------------------------------------------------------------------
@dataclass
class Drawer:
    """Samples of one class by one way after another."""

    pipe: dd.Pipeline
    label: int
    count: int
    batch_size: int
    seed: int

    def __call__(
        self, model: dd.guidance.Guided | dd.Diffusion, *, labelled: bool, rules: dict[str, str], **how: Any
    ) -> list[str]:
        pipe, texts = self.pipe, []
        count = max(self.count // 4, 2) if "particles" in how else self.count  # they cost eight times as much
        lengths = pipe.lengths.sample(count, Keys(self.seed, torch.arange(count)))
        parts = [
            pipe.domain.rules[name].read(value, dd.rules.Span(1, pipe.max_length)) for name, value in rules.items()
        ]
        constraint = dd.constraints.Automaton(dict(zip(rules, parts, strict=True))) if rules else None
        for rows in torch.arange(count).split(self.batch_size):
            found = dd.sample(
                model,
                len(rows),
                lengths=lengths[rows],
                sampler=FirstHitting(),
                constraint=constraint,
                labels=torch.full((len(rows),), self.label) if labelled else None,
                generator=Keys(self.seed, rows),
                **how,
            )
            texts += [pipe.domain.decode(tokens) for tokens in found.lists()]
        return texts


def predictor_of(pipe: dd.Pipeline, train: pd.DataFrame, steps: int, seed: int) -> Predictor:
    """A classifier of noised sequences, trained on the run's own training set."""
    names = list(pipe.label_names or [])
    rows = [pipe.domain.encode(text) for text in train.sequence]
    sequences = Sequences.from_lists(rows, labels=[names.index(name) for name in train.bin])
    predictor = Predictor(pipe.model.process.num_states, len(names), seed=seed)
    fit_predictor(predictor, pipe.model, sequences, generator=torch.Generator().manual_seed(seed), steps=steps)
    return predictor


def qed(pipe: dd.Pipeline) -> Reward:
    """QED of what is valid, 0 of the rest; λ = 10."""

    def of(sequences: Sequences) -> torch.Tensor:
        texts = [pipe.domain.decode(tokens) for tokens in sequences.lists()]
        each = [properties(valid_molecules([text]))["qed"] for text in texts]  # one value, or none
        return torch.tensor([sum(values) for values in each], dtype=torch.float64)

    return Reward(of, strength=10.0, every=4)


def ways(pipe: dd.Pipeline, predictor: Predictor | None, label: int) -> Iterator[tuple[str, float, dict[str, Any]]]:
    """Names of methods, γ, and arguments of a `Drawer`."""
    free: tuple[str, dict[str, str]] = ("", {})
    every = [free] if pipe.domain.name == "dna" else [free, (" within the grammar", {"grammar": "", "valence": ""})]
    for with_rules, rules in every:
        for gamma in GAMMAS:
            model = Labels(pipe.model, gamma)
            yield f"labels{with_rules}", gamma, {"model": model, "labelled": True, "rules": rules}
    for with_rules, rules in every if pipe.domain.name == "smiles" else []:
        yield f"QED as reward{with_rules}, 8 particles", 1.0, {
            "model": pipe.model, "labelled": False, "rules": rules, "particles": 8, "reward": qed(pipe),
        }  # fmt: skip
    if predictor is not None:
        for gamma in GAMMAS[1:]:
            for name, kind in (("classifier", Classifier), ("classifier's slope", FirstOrderClassifier)):
                yield (
                    name,
                    gamma,
                    {"model": kind(pipe.model, predictor.of(label), gamma), "labelled": False, "rules": {}},
                )
    yield "labels, 8 particles", 2.0, {"model": Labels(pipe.model, 2.0), "labelled": True, "rules": {}, "particles": 8}
    if predictor is not None:
        guided = Classifier(pipe.model, predictor.of(label), 2.0)
        yield "classifier, 8 particles", 2.0, {"model": guided, "labelled": False, "rules": {}, "particles": 8}


# ---- pictures --------------------------------------------------------------------------------------------------------
def draw(results: Path, folder: Path) -> None:
    """One picture a set: the property against the distance to real ones of the class; numbers are γ, bars 95 %."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    table = pd.DataFrame([json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()])
    if "valid" in table:  # a mean of fewer molecules says nothing
        table = table[~(table.valid * table.samples < FEWEST)]
    for (name, to), rows in table.groupby(["set", "to"]):
        shown = [key for key in ("expression", "logp", "qed") if key in rows and rows[key].notna().any()]
        figure, axes = plt.subplots(
            1, len(shown), figsize=(6 * len(shown), 4.2), dpi=80, layout="constrained", squeeze=False
        )
        for axis, key in zip(axes[0], shown, strict=True):
            for method, line in rows[rows[key].notna()].groupby("method", sort=False):
                x = line["to_class"].to_numpy(dtype=float)
                y = np.array([value["mean"] for value in line[key]])
                error = [1.96 * value["standard_error"] for value in line[key]]
                real = str(method).startswith("real")
                style = {"marker": "*", "ms": 12, "color": REAL[str(method)]} if real else {"marker": "o", "ms": 4}
                axis.errorbar(x, y, error, lw=1, elinewidth=0.6, capsize=2, label=method, **style)
                for gamma, *place in zip(line.gamma, x, y, strict=True):
                    if not real:
                        axis.annotate(f"{gamma:g}", place, fontsize=7, xytext=(4, 3), textcoords="offset points")
            axis.set(xlabel="distance to test sequences of the class", ylabel=AXES[key], title=f"{name}, wanted: {to}")
        axes[0][0].legend(fontsize=7)
        figure.savefig(folder / f"guidance-{name}.png")
        plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("tables", nargs="?", help="what benchmarks.labelled wrote, up to .train.tsv")
    parser.add_argument("--to", default="high", help="the class that is wanted")
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--predictor-steps", type=int, default=1500, help="0: no classifier guidance")
    parser.add_argument("--methods", nargs="+", help="only these, by the names that the lines have")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--draw", type=Path, nargs=2, metavar=("RESULTS", "FOLDER"))
    arguments = parser.parse_args()
    if arguments.draw:
        draw(*arguments.draw)
        return
    if arguments.run is None or arguments.tables is None:
        parser.error("a run and its tables are needed")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    pipe = dd.Pipeline.load(arguments.run, device="cpu")
    tables = {split: pd.read_csv(f"{arguments.tables}.{split}.tsv", sep="\t") for split in ("train", "valid", "test")}
    common = {
        "set": Path(arguments.tables).name,
        "to": arguments.to,
        "count": arguments.count,
        "command": "python -m benchmarks.guidance " + " ".join(sys.argv[1:]),
        "seed": arguments.seed,
        "dtype": str(pipe.model.dtype).removeprefix("torch."),
        "length": pipe.max_length,
        "batch_size": arguments.batch_size,
        "hardware": hardware(),
    }
    judge = Judge(pipe, tables, arguments.to, arguments.count)
    about = judge.about()
    for name in ("real", "real_of_all"):
        print(json.dumps({"method": name.replace("_", " "), "gamma": 1.0} | about[name] | common), flush=True)
    label = list(pipe.label_names or []).index(arguments.to)
    started, predictor = time.time(), None
    if arguments.predictor_steps:
        predictor = predictor_of(pipe, tables["train"], arguments.predictor_steps, arguments.seed)
    judged = {key: value for key, value in about.items() if not key.startswith("real")}
    judged["predictor_training_seconds"] = time.time() - started
    drawer = Drawer(pipe, label, arguments.count, arguments.batch_size, arguments.seed)
    for name, gamma, how in ways(pipe, predictor, label):
        if arguments.methods and name not in arguments.methods:
            continue
        started = time.time()
        samples = drawer(**how)
        seconds = (time.time() - started) / len(samples)
        row = {"method": name, "gamma": gamma, "samples": len(samples), "seconds_per_sample": seconds} | judge(samples)
        print(json.dumps(row | judged | common), flush=True)


if __name__ == "__main__":
    main()
