"""What the grammar of SMILES does to samples of one trained run, beside free samples and rejection.

    python -m benchmarks.grammar runs/zinc250k --data ../shared/data/smiles/zinc250k.csv.xz --count 500 --threads 1
    python -m benchmarks.grammar --draw benchmarks/results/zinc250k-grammar.jsonl docs/pictures/grammar-zinc250k.png

Prints one JSON line a setting: the share of strings that RDKit parses, the share that is valid as it stands (nothing
is repaired or left out), why the others are not, what a valid string costs by rejection, and distances of the valid
ones to held-out molecules. Then decorations of scaffolds and linkers, made of held-out molecules cut by BRICS (Degen et
al. 2008): the share of samples that is valid, unique, holds the fragments, and has the original's length.
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import reduce
from operator import and_
from pathlib import Path
from typing import Any

import numpy as np
import torch

import discdiff as dd
from benchmarks.real_data import hardware
from discdiff.errors import DiscdiffError, require
from discdiff.metrics import wasserstein
from discdiff.rules import Span
from domains.smiles import chemistry
from domains.smiles.grammar import Grammar
from domains.smiles.properties import evenly, valid_molecules

GRAMMAR = "depth=4,rings=4"
SETTINGS: dict[str, dict[str, Any]] = {
    "free": {},
    "grammar depth=2,rings=3": {"rules": {"grammar": "depth=2,rings=3"}},
    f"grammar {GRAMMAR}": {"rules": {"grammar": GRAMMAR}},
    "grammar and valence": {"rules": {"grammar": GRAMMAR, "valence": ""}},
    "valid": {"valid": True},
}
SIZE = 2_000
SLACK = 2
MOST_BATCHES = 12
"""Batches of `--count` samples that are drawn for as many valid ones."""


# ---- whole molecules -------------------------------------------------------------------------------------------------
def fingerprint_shares(molecules: Sequence[Any]) -> np.ndarray:
    """The share of molecules that have each bit: Morgan fingerprints of radius 2, 2048 bits."""
    generator = require("rdkit.Chem.rdFingerprintGenerator").GetMorganGenerator(radius=2, fpSize=2048)
    return np.mean([generator.GetFingerprintAsNumPy(one) for one in molecules], axis=0)


def counted(molecules: Sequence[Any]) -> dict[str, list[float]]:
    """Numbers that the grammar could move: rings, atoms, branches."""
    found = require("rdkit.Chem.rdMolDescriptors")
    return {
        "rings": [float(found.CalcNumRings(one)) for one in molecules],
        "aromatic_rings": [float(found.CalcNumAromaticRings(one)) for one in molecules],
        "heavy_atoms": [float(one.GetNumHeavyAtoms()) for one in molecules],
        "branched_atoms": [float(sum(atom.GetDegree() > 2 for atom in one.GetAtoms())) for one in molecules],
    }


def distances(samples: Sequence[str], held_out: Sequence[str]) -> dict[str, Any]:
    """Distances of the valid samples to held-out molecules, in each property's unit."""
    mine, theirs = valid_molecules(samples), valid_molecules(held_out, SIZE)
    if not mine:
        return {}
    numbers, expected = counted(mine), counted(theirs)
    return {
        "wasserstein": {name: wasserstein(numbers[name], expected[name]) for name in numbers},
        "fingerprint_bits": float(np.abs(fingerprint_shares(mine) - fingerprint_shares(theirs)).sum()),
        "fcd": frechet_chemnet(mine, theirs),
        "molecules": len(mine),
    }


def frechet_chemnet(mine: Sequence[Any], theirs: Sequence[Any]) -> float | str:
    """The Fréchet ChemNet distance (Preuer et al. 2018) where `fcd_torch` is installed; biased for few molecules."""
    try:
        fcd = importlib.import_module("fcd_torch").FCD(device="cpu", n_jobs=1)
    except ImportError:
        return "fcd_torch is not installed"
    write = require("rdkit.Chem").MolToSmiles
    return float(fcd([write(one) for one in mine], [write(one) for one in theirs]))


def quality(
    pipe: dd.Pipeline, samples: list[str], held_out: list[str], training: list[str], valid: list[str] | None = None
) -> dict[str, Any]:
    """Raw validity, with its reasons, and what is known of the valid ones; distances are of `valid`, if it is given."""
    faults = Counter((chemistry.fault(one) or "valid").split(":")[0] for one in samples)
    metrics = pipe.domain.metrics(samples, reference=held_out, training=training)
    if valid is not None:
        metrics["properties"] = pipe.domain.metrics(valid, reference=held_out)["properties"]
    far = distances(samples if valid is None else valid, held_out)
    for name, values in metrics["properties"].items():
        far["wasserstein"][name] = values["wasserstein"]
    return {
        "count": len(samples),
        "parsable": sum(chemistry.syntax_fault(one) is None for one in samples) / len(samples),
        "valid": faults["valid"] / len(samples),
        "faults": dict(faults),
        "unique": metrics["unique"]["ratio"],
        "novel": metrics["novel"]["ratio"],
        "internal_diversity": metrics["internal_diversity"]["mean"],
        "means": {name: values["mean"] for name, values in metrics["properties"].items()},
        "distances": far,
    }


def whole(pipe: dd.Pipeline, arguments: argparse.Namespace, splits: dict[str, list[str]]) -> Iterator[dict[str, Any]]:
    """Lines for samples of whole molecules: held-out ones for comparison, then each setting."""
    test = evenly(splits["test"], None)
    same_size = list(evenly(splits["valid"], arguments.count))
    yield {"setting": "held-out molecules"} | quality(pipe, same_size, list(test), splits["train"])
    for name, asked in SETTINGS.items():
        started = time.time()
        rules = asked.get("rules", dict(pipe.domain.validity) if asked else {})
        built = [pipe.domain.rules[key].read(value, Span(1, pipe.max_length)) for key, value in rules.items()]
        language = reduce(and_, built) if built else None
        building = time.time() - started
        started = time.time()
        how = {"seed": arguments.seed, "batch_size": arguments.batch_size, "sampler": dd.samplers.FirstHitting()}
        samples = pipe.sample(arguments.count, **asked, **how)
        seconds = (time.time() - started) / len(samples)
        # Distances of few molecules are larger: every setting gives as many, drawn until they are valid.
        valid = [one for one in samples if chemistry.fault(one) is None]
        for more in range(1, MOST_BATCHES):
            if len(valid) < arguments.count:
                drawn = pipe.sample(arguments.count, **asked, **how | {"seed": arguments.seed + 1000 * more})
                valid += [one for one in drawn if chemistry.fault(one) is None]
        row = {"setting": name, **asked}
        row |= quality(pipe, samples, list(test), splits["train"], valid[: arguments.count])
        if language is not None:
            row |= {"states": language.num_states, "classes": language.num_classes, "building_seconds": building}
            held = {split: splits[split][:3000] for split in ("valid", "test")}
            row["held_out_accepted"] = {
                split: sum(language.accepts(pipe.domain.encode(one)) for one in rows) / len(rows)
                for split, rows in held.items()
            }
        yield row | {
            "seconds_per_sample": seconds,
            "rejection": {
                kind: {"samples": 1 / row[kind], "seconds": seconds / row[kind]} for kind in ("parsable", "valid")
            },
        }


# ---- scaffolds and linkers -------------------------------------------------------------------------------------------
def written(fragment: Any, last: bool, draws: random.Random) -> str | None:
    """A fragment's SMILES whose attachment point is its last (or first) atom, without the point itself."""
    chem = require("rdkit.Chem")
    point = next(atom.GetIdx() for atom in fragment.GetAtoms() if atom.GetAtomicNum() == 0)
    fragment.GetAtomWithIdx(point).SetIsotope(0)
    if not last:
        text = str(chem.MolToSmiles(fragment, rootedAtAtom=point))
        return text[1:] if text.startswith("*") and text[1:2] not in "-=#/\\(" else None
    others = [atom.GetIdx() for atom in fragment.GetAtoms() if atom.GetIdx() != point]
    for _ in range(40):
        text = str(chem.MolToSmiles(fragment, rootedAtAtom=draws.choice(others), doRandom=True, canonical=False))
        if text.endswith("*") and text[-2] not in "-=#/\\)":
            return text[:-1]
    return None


def bare(fragment: Any) -> Any:
    """A fragment without its attachment point, whose bond the model chooses: atoms and bonds to look for."""
    shape = require("rdkit.Chem").RWMol(fragment)
    for atom in [atom.GetIdx() for atom in shape.GetAtoms() if atom.GetAtomicNum() == 0]:
        shape.RemoveAtom(atom)
    return shape.GetMol()


def pieces(molecule: Any, points: int) -> list[tuple[list[Any], int]]:
    """Ways to cut a molecule at BRICS bonds: fragments that are kept, and atoms of the piece that is taken out."""
    chem, brics = require("rdkit.Chem"), require("rdkit.Chem.BRICS")
    bonds = [molecule.GetBondBetweenAtoms(*ends).GetIdx() for ends, _ in brics.FindBRICSBonds(molecule)]
    chosen = [(bond,) for bond in bonds] if points == 1 else [(a, b) for a in bonds for b in bonds if a < b]
    found = []
    for cut in chosen:
        parts = chem.GetMolFrags(chem.FragmentOnBonds(molecule, list(cut)), asMols=True, sanitizeFrags=True)
        loose = [sum(atom.GetAtomicNum() == 0 for atom in part.GetAtoms()) for part in parts]
        sizes = [part.GetNumHeavyAtoms() for part in parts]
        if points == 1:
            kept, gone = (0, 1) if sizes[0] >= sizes[1] else (1, 0)
            found.append(([parts[kept]], sizes[gone]))
        elif sorted(loose) == [1, 1, 2]:
            ends = [part for part, count in zip(parts, loose, strict=True) if count == 1]
            found.append((ends, sizes[loose.index(2)]))
    return [(kept, gone) for kept, gone in found if gone >= 3 and all(part.GetRingInfo().NumRings() for part in kept)]


def tasks(pipe: dd.Pipeline, molecules: Sequence[str], points: int, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Templates with one gap, the fragments given in each, and the tokens of the original."""
    chem, draws = require("rdkit.Chem"), random.Random(seed)
    grammar = Grammar(4, 4).language(pipe.domain.vocabulary.tokens)  # type: ignore[attr-defined]
    order = list(molecules)
    draws.shuffle(order)
    found = 0
    for smiles in order:
        cuts = pieces(chem.MolFromSmiles(smiles), points)
        if not cuts:
            continue
        kept, _ = draws.choice(cuts)
        texts = [written(part, last=points == 2 and i == 0, draws=draws) for i, part in enumerate(kept)]
        if any(text is None for text in texts):
            continue
        try:
            given = [len(pipe.domain.encode(str(text))) for text in texts]
            size = len(pipe.domain.encode(smiles))
        except DiscdiffError:
            continue
        gap = size - sum(given)
        if gap < 3 or not grammar.accepts(pipe.domain.encode(smiles)):
            continue
        hole = f"{{{gap - SLACK}-{gap + SLACK}}}"
        template = f"{texts[0]}{hole}{texts[1]}" if points == 2 else f"{hole}{texts[0]}"
        shapes = [bare(part) for part in kept]
        yield {
            "template": template,
            "fragments": [str(text) for text in texts],
            "shapes": shapes,
            "original": smiles,
            "tokens": size,
        }
        found += 1
        if found == count:
            return


def designed(pipe: dd.Pipeline, arguments: argparse.Namespace, held_out: list[str]) -> Iterator[dict[str, Any]]:
    """Lines for decorations and linkers, without and with the grammar."""
    chem = require("rdkit.Chem")
    for kind, points in (("decoration", 1), ("linker", 2)):
        known = list(tasks(pipe, held_out, points, arguments.tasks, arguments.seed))
        for name, asked in ((name, SETTINGS[name]) for name in ("free", f"grammar {GRAMMAR}", "valid")):
            figures: Counter[str] = Counter()
            each, refused = [], 0
            started = time.time()
            for task in known:
                try:
                    samples = pipe.infill(
                        task["template"], arguments.each, **asked, seed=arguments.seed, batch_size=arguments.each
                    )
                except DiscdiffError as error:
                    refused += 1
                    each.append({"template": task["template"], "refused": str(error).splitlines()[0]})
                    continue
                valid = [one for one in samples if chemistry.fault(one) is None]
                holds = sum(all(map(chem.MolFromSmiles(one).HasSubstructMatch, task["shapes"])) for one in valid)
                shown = {key: value for key, value in task.items() if key != "shapes"}
                figures.update(
                    samples=len(samples),
                    parsable=sum(chemistry.syntax_fault(one) is None for one in samples),
                    valid=len(valid),
                    unique=len({chemistry.canonical(one) for one in valid}),
                    given=sum(all(text in one for text in task["fragments"]) for one in samples),
                    substructure=holds,
                    length=sum(len(pipe.domain.encode(one)) == task["tokens"] for one in samples),
                    solved=bool(valid),
                    recovered=chemistry.canonical(task["original"]) in {chemistry.canonical(one) for one in valid},
                )
                each.append(shown | {"valid": len(valid), "example": valid[0] if valid else None})
            drawn, good = max(figures["samples"], 1), max(figures["valid"], 1)
            yield {
                "setting": f"{kind}, {name}",
                "tasks": len(known),
                "refused": refused,
                "count": figures["samples"],
                "parsable": figures["parsable"] / drawn,
                "valid": figures["valid"] / drawn,
                "unique_of_valid": figures["unique"] / good,
                "holds_fragments_as_text": figures["given"] / drawn,
                "holds_fragments_of_valid": figures["substructure"] / good,
                "length_of_original": figures["length"] / drawn,
                "tasks_with_a_valid_sample": figures["solved"],
                "originals_recovered": figures["recovered"],
                "seconds_per_sample": (time.time() - started) / drawn,
                "each": each,
            }


# ---- the picture -----------------------------------------------------------------------------------------------------
def draw(results: Path, picture: Path) -> None:
    """Bars: parsable and valid shares, and distances to held-out molecules."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.4), dpi=80, layout="constrained")
    panels = (
        ("whole molecules", [row for row in rows if "distances" in row and row["setting"] in SETTINGS]),
        ("scaffolds and linkers", [row for row in rows if "tasks" in row]),
    )
    for axis, (title, shown) in zip(axes, panels, strict=False):
        places = np.arange(len(shown))
        for shift, key in ((-0.2, "parsable"), (0.2, "valid")):
            bars = axis.bar(places + shift, [row[key] for row in shown], 0.38, label=key)
            axis.bar_label(bars, fmt="%.3g", fontsize=7)
        axis.set_xticks(places, [row["setting"].replace(" ", "\n") for row in shown], fontsize=7)
        axis.set(title=f"{title}: raw shares", ylim=(0, 1.12))
        axis.legend(fontsize=7, loc="upper left")
    compared = [row for row in rows if "distances" in row]
    names = list(compared[0]["distances"]["wasserstein"])
    base = compared[0]["distances"]["wasserstein"]
    for k, row in enumerate(compared[1:]):
        ratios = [row["distances"]["wasserstein"][name] / base[name] for name in names]
        axes[2].bar(np.arange(len(names)) + (k - 2) * 0.16, ratios, 0.15, label=row["setting"])
    axes[2].axhline(1, color="k", lw=0.7)
    axes[2].set_xticks(np.arange(len(names)), [name.replace("_", "\n") for name in names], fontsize=7)
    axes[2].set(title="valid ones: Wasserstein distance to held-out\n(1: another held-out set)", yscale="log")
    axes[2].legend(fontsize=7)
    figure.savefig(picture)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--data", type=Path, help="table with the columns smiles and split")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--each", type=int, default=10, help="samples a task")
    parser.add_argument("--only", choices=["whole", "tasks"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--draw", type=Path, nargs=2, metavar=("RESULTS", "PICTURE"))
    arguments = parser.parse_args()
    if arguments.draw:
        draw(*arguments.draw)
        return
    if arguments.run is None or arguments.data is None:
        parser.error("a run and --data are needed")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    pipe = dd.Pipeline.load(arguments.run, device="cpu")
    splits = {
        split: [record.sequence for record in pipe.domain.read(arguments.data, where={"split": split})]
        for split in ("train", "valid", "test")
    }
    common = {
        "command": "python -m benchmarks.grammar " + " ".join(sys.argv[1:]),
        "seed": arguments.seed,
        "hardware": hardware(),
    }
    if arguments.only != "tasks":
        for row in whole(pipe, arguments, splits):
            print(json.dumps(row | common), flush=True)
    if arguments.only != "whole":
        for row in designed(pipe, arguments, splits["test"]):
            print(json.dumps(row | common), flush=True)


if __name__ == "__main__":
    main()
