"""Molecules: train on those inside RDKit's wheel, then grow a given scaffold.

python examples/05_smiles_infill.py
"""

import discdiff as dd
from discdiff.data import SequenceDataset
from domains.smiles.shipped import shipped_smiles


def main(max_steps: int = 1500, dim: int = 128, molecules: int | None = None) -> list[str]:
    """Prints infills and which are valid; returns them."""
    domain = dd.domain("smiles")
    train, valid = SequenceDataset.from_sequences(domain, shipped_smiles()[:molecules]).split(0.05)
    process = dd.Absorbing(domain.vocab_size)
    network = dd.Transformer(process.num_states, dim=dim, depth=4, heads=4)
    model = dd.Diffusion(network, process, dd.LogLinear(), dd.Conditional())
    print(dd.fit(model, train, valid=valid, max_steps=max_steps, samples=0))

    pipe = dd.Pipeline.of(model, train)
    infills = pipe.infill("c1ccc(cc1){6}C(=O)O", 8, steps=32)
    for smiles in infills:
        print(f"{smiles:40} {domain.invalid(smiles) or 'valid'}")
    return infills


if __name__ == "__main__":
    main()
