"""Codon choices of a model of a genome, for proteins that it must encode, beside the genome's own.

    python -m benchmarks.codons --windows ../shared/data/dna/ecoli_k12.train.fasta.xz windows.fasta
    discdiff train windows.fasta --domain dna --output runs/genome --training.max_minutes 20
    python -m benchmarks.codons runs/genome --genome ../shared/data/dna/ecoli_k12.train.fasta.xz \
        --proteins ../shared/data/protein/uniprot.test.fasta.xz --group ecoli_k12 --threads 1
    python -m benchmarks.codons --draw benchmarks/results/codons.jsonl docs/pictures/codons.png

Draws in-frame DNA of the first residues of each protein, its stop codon and no EcoRI or BsaI site, and compares which
codons are chosen for each residue with those of the genome's long open reading frames (on both strands, from ATG,
found by Biopython), by total variation, weighted by residue. Uniform choice among synonyms is the baseline.
"""

from __future__ import annotations

import argparse
import json
import lzma
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

import discdiff as dd
from benchmarks.constraints_bio import FORBIDDEN, SITES
from benchmarks.real_data import hardware
from discdiff.errors import require

WIDTH, STEP = 150, 120
CODONS = 300
"""Codons in an open reading frame that counts: shorter ones are mostly chance."""

Usage = Mapping[str, Mapping[str, float]]


def chromosome(path: Path) -> str:
    """The bases of a FASTA file of one record."""
    seqio = require("Bio.SeqIO")
    with lzma.open(path, "rt") as stream:
        return "".join(str(record.seq) for record in seqio.parse(stream, "fasta"))


def windows(genome: str) -> Iterator[str]:
    """Pieces that overlap, of bases alone."""
    for at in range(0, len(genome) - WIDTH + 1, STEP):
        piece = genome[at : at + WIDTH]
        if set(piece) <= set("ACGT"):
            yield piece


def reading_frames(genome: str) -> Iterator[str]:
    """Open reading frames from an ATG to a stop, on both strands."""
    seq = require("Bio.Seq").Seq
    for strand in (genome, str(seq(genome).reverse_complement())):
        for frame in range(3):
            part = strand[frame:]
            protein = str(seq(part[: len(part) // 3 * 3]).translate())
            at = 0
            for piece in protein.split("*"):
                start = piece.find("M")
                if start >= 0 and len(piece) - start >= CODONS:
                    yield part[3 * (at + start) : 3 * (at + len(piece))]
                at += len(piece) + 1


def table_of_codons() -> dict[str, str]:
    """The residue of each codon, standard code."""
    table: dict[str, str] = require("Bio.Data.CodonTable").unambiguous_dna_by_id[1].forward_table
    return dict(table)


def usage(sequences: list[str]) -> tuple[Usage, Counter[str]]:
    """The share of each codon among its residue's, and how often each residue occurs."""
    table = table_of_codons()
    counts = Counter(s[i : i + 3] for s in sequences for i in range(0, len(s) - 2, 3))
    residues: Counter[str] = Counter()
    for codon, count in counts.items():
        if codon in table:
            residues[table[codon]] += count
    shares: dict[str, dict[str, float]] = defaultdict(dict)
    for codon, residue in table.items():
        if residues[residue]:
            shares[residue][codon] = counts[codon] / residues[residue]
    return shares, residues


def uniform() -> Usage:
    """Every synonym alike."""
    shares: dict[str, dict[str, float]] = defaultdict(dict)
    table = table_of_codons()
    sizes = Counter(table.values())
    for codon, residue in table.items():
        shares[residue][codon] = 1 / sizes[residue]
    return shares


def apart(first: Usage, second: Usage, weights: Mapping[str, int]) -> float:
    """Total variation of the choices for a residue, weighted by residue; those with one codon are left out."""
    total = away = 0.0
    for residue, weight in weights.items():
        if len(second[residue]) > 1 and residue in first:
            total += weight
            away += weight * 0.5 * sum(abs(first[residue].get(c, 0) - p) for c, p in second[residue].items())
    return away / total


def measure(arguments: argparse.Namespace) -> None:
    pipe = dd.Pipeline.load(arguments.run, device="cpu")
    frames = list(reading_frames(chromosome(arguments.genome)))
    of_genome, _ = usage(frames)
    seqio, seq = require("Bio.SeqIO"), require("Bio.Seq").Seq
    with lzma.open(arguments.proteins, "rt") as stream:
        known = [r for r in seqio.parse(stream, "fasta") if f"group={arguments.group}" in r.description]
    chosen = [
        p for p in (str(r.seq)[: arguments.residues] for r in known) if len(p) == arguments.residues and p[0] == "M"
    ]
    chosen = chosen[: arguments.count]
    drawn: list[str] = []
    right, started = 0, time.time()
    for protein in chosen:
        asked = {"codes": f"{protein}*", "forbid": FORBIDDEN}
        found = pipe.sample(
            arguments.each,
            rules=asked,
            sampler=dd.samplers.FirstHitting(),
            seed=arguments.seed,
            batch_size=arguments.each,
        )
        right += sum(str(seq(s).translate()) == f"{protein}*" and not SITES.search(s) for s in found)
        drawn += found
    seconds = (time.time() - started) / len(drawn)
    ours, weights = usage([s[3:-3] for s in drawn])  # the start codon is no choice
    half, rest = (usage(part)[0] for part in (frames[::2], frames[1::2]))
    shown = [
        {"codon": codon, "residue": residue, "genome": p, "ours": ours[residue].get(codon, 0.0)}
        for residue, shares in of_genome.items()
        for codon, p in shares.items()
        if residue in ours and len(shares) > 1
    ]
    print(
        json.dumps(
            {
                "command": "python -m benchmarks.codons " + " ".join(sys.argv[1:]),
                "proteins": len(chosen),
                "residues": arguments.residues,
                "samples": len(drawn),
                "right": right / len(drawn),
                "unique": len(set(drawn)) / len(drawn),
                "seconds_a_sample": seconds,
                "reading_frames": len(frames),
                "distance_to_genome": apart(ours, of_genome, weights),
                "distance_of_uniform_choice": apart(uniform(), of_genome, weights),
                "distance_of_half_the_genome_to_the_other": apart(half, rest, weights),
                "codons": shown,
                "seed": arguments.seed,
                "hardware": hardware(),
            }
        )
    )


def draw(results: Path, picture: Path) -> None:
    """Ours and uniform choice against the genome's, a point a codon."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    row = json.loads(results.read_text(encoding="utf-8").splitlines()[-1])
    figure, axis = plt.subplots(figsize=(5.5, 5.2), dpi=80, layout="constrained")
    genome = [point["genome"] for point in row["codons"]]
    every = uniform()
    for name, values in (
        ("uniform choice", [every[point["residue"]][point["codon"]] for point in row["codons"]]),
        ("model", [point["ours"] for point in row["codons"]]),
    ):
        axis.scatter(genome, values, s=16, label=name, alpha=0.8)
    for point in row["codons"]:
        axis.annotate(point["codon"], (point["genome"], point["ours"]), fontsize=6)
    axis.plot([0, 1], [0, 1], color="k", lw=0.7)
    title = f"distance {row['distance_to_genome']:.3f}; uniform choice {row['distance_of_uniform_choice']:.3f}"
    axis.set(xlabel="share among synonyms, genome", ylabel="share among synonyms, samples", title=title)
    axis.legend()
    figure.savefig(picture)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--genome", type=Path, help="FASTA, one record, xz")
    parser.add_argument("--proteins", type=Path, help="FASTA, xz")
    parser.add_argument("--group", default="ecoli_k12", help="of the proteins, as their headers say")
    parser.add_argument("--count", type=int, default=20, help="proteins")
    parser.add_argument("--residues", type=int, default=40)
    parser.add_argument("--each", type=int, default=8, help="samples a protein")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--windows", type=Path, nargs=2, metavar=("GENOME", "FASTA"))
    parser.add_argument("--draw", type=Path, nargs=2, metavar=("RESULTS", "PICTURE"))
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.windows:
        lines = (f">{i}\n{piece}\n" for i, piece in enumerate(windows(chromosome(arguments.windows[0]))))
        arguments.windows[1].write_text("".join(lines), encoding="ascii")
    elif arguments.draw:
        draw(*arguments.draw)
    elif arguments.run is None or arguments.genome is None or arguments.proteins is None:
        parser.error("a run, --genome and --proteins are needed")
    else:
        measure(arguments)


if __name__ == "__main__":
    main()
