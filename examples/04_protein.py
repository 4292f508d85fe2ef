"""Generate proteins: WW domains, with part of the motif given.

    python examples/04_protein.py [PROTEINS.fasta]

Without a file it takes the 4,025 WW domains (Pfam PF00397) that come with logomaker.
"""

import sys
from pathlib import Path

import discdiff as dd
from discdiff.data import SequenceDataset
from discdiff.errors import require


def proteins(path: str | None) -> list[str]:
    """Sequences of a FASTA file, or the shipped ones without gaps and without unknown residues."""
    if path is not None:
        return [record.sequence for record in dd.domain("protein").read(path)]
    shipped = Path(str(require("logomaker", "viz").__file__)).parent / "examples" / "datafiles" / "ww_sequences.fa"
    rows = [line.strip().upper() for line in shipped.read_text().splitlines() if line.strip() and line[0] not in "#>"]
    rows = [row.replace("-", "").replace(".", "") for row in rows]
    return [row for row in dict.fromkeys(rows) if row and set(row) <= set("ACDEFGHIKLMNPQRSTVWY")]


def main(path: str | None = None, max_steps: int = 1000, dim: int = 96) -> list[str]:
    """Prints samples and infills; returns the infills."""
    domain = dd.domain("protein")
    train, valid = SequenceDataset.from_sequences(domain, proteins(path)).split(0.05)
    process = dd.Absorbing(domain.vocab_size)
    network = dd.Transformer(process.num_states, dim=dim, depth=4, heads=4)
    model = dd.Diffusion(network, process, dd.LogLinear(), dd.Conditional())
    print(dd.fit(model, train, valid=valid, max_steps=max_steps, samples=0))

    pipe = dd.Pipeline.of(model, train)
    for sequence in pipe.sample(3):
        print("sample:", sequence)
    # x is any residue, [YF] a set: the two tryptophan-like anchors of the fold are given.
    infills = pipe.infill("LPPGWEx(6)G-R-x-[YF]-[YF]-x(2)-H-x(2)-[TS]-x(2)-T-x-W-x(2)-P", 3)
    for sequence in infills:
        print("infill:", sequence)
    return infills


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
