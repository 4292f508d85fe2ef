"""What biologists ask of sequences, on trained runs: promoters with their boxes, coding DNA, a zinc finger.

    python -m benchmarks.constraints_bio runs/ecoli_promoters runs/uniprot --data ../shared/data

Prints one JSON line a task: the share of samples that an independent check accepts, seconds a sample with and without
what is asked, and how many free samples the check accepts (rejection sampling, the fair baseline).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

import discdiff as dd
from benchmarks.real_data import hardware

BOXES = "N{5-30} TTGACA N{16-18} TATAAT N{5-30}"
FORBIDDEN = ("EcoRI", "BsaI")
SITES = re.compile("GAATTC|GGTCTC|GAGACC")
FINGER = "C-x(2,4)-C-x(3)-[LIVMFYWC]-x(8)-H-x(3,5)-H"


def kmers(sequences: Iterable[str], k: int = 3) -> dict[str, float]:
    counts = Counter(s[i : i + k] for s in sequences for i in range(len(s) - k + 1))
    total = sum(counts.values())
    return {word: n / total for word, n in counts.items()}


def distance(first: Iterable[str], second: Iterable[str]) -> float:
    """Total variation of 3-mers."""
    a, b = kmers(first), kmers(second)
    return 0.5 * sum(abs(a.get(word, 0.0) - b.get(word, 0.0)) for word in a.keys() | b.keys())


def timed(draw: Callable[[], list[str]]) -> tuple[list[str], float]:
    started = time.time()
    found = draw()
    return found, (time.time() - started) / len(found)


def line(task: str, accepts: Callable[[str], bool], asked: Any, free: Any, **more: Any) -> None:
    (drawn, seconds), (loose, free_seconds) = asked, free
    hits = sum(map(accepts, loose))
    result = {
        "command": "python -m benchmarks.constraints_bio " + " ".join(sys.argv[1:]),
        "task": task,
        "samples": len(drawn),
        "satisfied": sum(map(accepts, drawn)) / len(drawn),
        "unique": len(set(drawn)) / len(drawn),
        "seconds_a_sample": round(seconds, 3),
        "free_seconds_a_sample": round(free_seconds, 3),
        "free_samples": len(loose),
        "free_samples_accepted": hits,
        "seconds_a_sample_by_rejection": round(free_seconds * len(loose) / hits, 1) if hits else None,
        **more,
        "examples": drawn[:2],
        "hardware": hardware(),
    }
    print(json.dumps(result), flush=True)


def promoters(pipe: dd.Pipeline, data: Path, count: int, free: Any) -> None:
    def accepts(sequence: str) -> bool:
        return bool(re.search("TTGACA.{16,18}TATAAT", sequence)) and not SITES.search(sequence)

    real = [record.sequence for record in pipe.domain.read(data / "dna/ecoli_promoters.train.tsv.xz")]
    near = [s for s in real if re.search("TTGAC.{17,19}TA..[AT]T", s)]
    rules = {"forbid": FORBIDDEN}
    asked = timed(lambda: pipe.infill(BOXES, count, rules=rules))
    weighed = timed(
        lambda: pipe.infill(BOXES, count // 4, rules=rules, particles=8, sampler=dd.samplers.FirstHitting())
    )
    line(
        "promoters with both boxes and no EcoRI or BsaI site",
        accepts,
        asked,
        free,
        real_promoters_with_boxes_nearly=len(near),
        trimer_distance_to_these=distance(asked[0], near),
        trimer_distance_of_free_samples=distance(free[0], near),
        trimer_distance_of_all_real_ones=distance(real, near),
        with_8_particles={
            "satisfied": sum(map(accepts, weighed[0])) / len(weighed[0]),
            "seconds_a_sample": round(weighed[1], 3),
            "trimer_distance_to_these": distance(weighed[0], near),
        },
    )


def codons(pipe: dd.Pipeline, proteins: list[str], free: Any) -> None:
    from Bio.Data import CodonTable
    from Bio.Seq import Seq

    asked = {protein[:15] for protein in proteins if protein.startswith("M")}
    chosen = sorted(asked)[:20]
    drawn, seconds, right = [], 0.0, 0
    for protein in chosen:
        found, each = timed(lambda p=protein: pipe.sample(8, rules={"codes": f"{p}*", "forbid": FORBIDDEN}))  # type: ignore[misc]
        right += sum(str(Seq(s).translate()) == f"{protein}*" and not SITES.search(s) for s in found)
        drawn += found
        seconds += each / len(chosen)
    table = CodonTable.unambiguous_dna_by_id[1].forward_table
    used = Counter(s[i : i + 3] for s in drawn for i in range(0, len(s) - 3, 3))
    choices = Counter(table.values())
    gc = sum(word.count("G") + word.count("C") for s in drawn for word in [s]) / sum(map(len, drawn))
    line(
        "20 peptides of 15 residues and a stop, no EcoRI or BsaI site",
        lambda s: str(Seq(s[: len(s) // 3 * 3]).translate()) in {f"{p}*" for p in chosen} and not SITES.search(s),
        (drawn, seconds),
        free,
        proteins=len(chosen),
        translated_right=right / len(drawn),
        codons_used=len(used),
        codons_possible=sum(choices.values()),
        gc_content=gc,
    )


def finger(pipe: dd.Pipeline, count: int) -> None:
    def accepts(sequence: str) -> bool:
        return bool(re.search("C.{2,4}C.{3}[LIVMFYWC].{8}H.{3,5}H", sequence))

    how = {"sampler": dd.samplers.Ancestral(), "steps": 64}
    asked = timed(lambda: pipe.sample(count, rules={"require": FINGER}, **how))  # type: ignore[arg-type]
    free = timed(lambda: pipe.sample(4 * count, **how))  # type: ignore[arg-type]
    line("a zinc finger, PS00028, somewhere", accepts, asked, free)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("promoters", type=Path)
    parser.add_argument("proteins", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--count", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    dna, protein = dd.Pipeline.load(arguments.promoters), dd.Pipeline.load(arguments.proteins)
    free = timed(lambda: dna.sample(1024))
    promoters(dna, arguments.data, arguments.count, free)
    file = next((arguments.data / "protein").glob("*uniprot*test*"))
    texts = [record.sequence for record in protein.domain.read(file)]
    codons(dna, texts, free)
    finger(protein, arguments.count // 4)


if __name__ == "__main__":
    main()
