"""Generate DNA: binding sites of the transcription factor CRP.

    python examples/03_dna.py [SITES.fasta]

Without a file it takes the 358 E. coli sites of RegulonDB that come with logomaker (`pip install 'discdiff[viz]'`).
"""

import sys
from pathlib import Path

import discdiff as dd
from discdiff.data import SequenceDataset
from discdiff.errors import require


def sites(path: str | None) -> list[str]:
    """Sequences of a FASTA file, or the shipped ones."""
    if path is not None:
        return [record.sequence for record in dd.domain("dna").read(path)]
    shipped = Path(str(require("logomaker", "viz").__file__)).parent / "examples" / "datafiles" / "crp_sites.fa"
    return [line.strip() for line in shipped.read_text().splitlines() if line.strip() and line[0] not in "#>"]


def main(path: str | None = None, max_steps: int = 600, dim: int = 64) -> list[str]:
    """Prints samples with the site's core given; returns them."""
    domain = dd.domain("dna")
    train, valid = SequenceDataset.from_sequences(domain, sites(path)).split(0.1)
    process = dd.Absorbing(domain.vocab_size)
    network = dd.Transformer(process.num_states, dim=dim, depth=3, heads=4, dropout=0.1)
    model = dd.Diffusion(network, process, dd.LogLinear(), dd.Conditional())
    print(dd.fit(model, train, valid=valid, max_steps=max_steps, batch_size=64, samples=0))

    pipe = dd.Pipeline.of(model, train)
    fresh = pipe.sample(200, sampler=dd.samplers.FirstHitting())
    reference = valid.texts()
    print({k: v for k, v in domain.metrics(fresh, reference=reference).items() if "kmer" in k or "gc" in k})
    # IUPAC codes are sets: N any base, W is A or T. The half-site TGTGA is given.
    filled = pipe.infill("N{4}TGTGA N{4} WWN TCACAN{2}", 5, sampler=dd.samplers.FirstHitting())
    for sequence in filled:
        print("infill:", sequence)
    return filled


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
