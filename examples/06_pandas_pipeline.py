"""From a pandas pipeline: score a table of sequences, keep the likely ones, propose variants of the best.

python examples/06_pandas_pipeline.py
"""

import tempfile
from pathlib import Path

import pandas as pd

import discdiff as dd
from discdiff.data import SequenceDataset

SEED = 0


def train(folder: Path, max_steps: int) -> None:
    """A small model of made-up promoters: a TATA box between random flanks."""
    table = pd.Series(range(400)).map(lambda i: f"{i:010b}".translate(str.maketrans("01", "AG")) + "TATAAT" + "GC" * 4)
    domain = dd.domain("dna")
    dataset = SequenceDataset.from_sequences(domain, table.tolist())
    process = dd.Absorbing(domain.vocab_size)
    network = dd.Transformer(process.num_states, dim=32, depth=2, heads=2)
    model = dd.Diffusion(network, process, dd.LogLinear(), dd.Conditional())
    dd.fit(model, dataset, max_steps=max_steps, folder=folder, samples=0, progress=False)


def main(max_steps: int = 300) -> pd.DataFrame:
    """Prints the scored table and the variants; returns the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "promoters")
        train(folder, max_steps)
        pipe = dd.Pipeline.load(folder)
        table = pd.DataFrame({"sequence": ["AGAGAGAGAGTATAATGCGCGCGC", "AGAGAGAGAGTCTCCTGCGCGCGC", "T" * 24]})
        scores = pipe.score(table["sequence"].tolist(), seed=SEED)
        table["bits_per_base"] = [score.bits_per_unit for score in scores]
        table = table.sort_values("bits_per_base", ignore_index=True)
        print(table)
        box = table["sequence"][0][10:16]
        variants = pipe.infill(f"N{{10}}{box}N{{8}}", 3, seed=SEED)
        print(pd.DataFrame({"variant": variants}))
    return table


if __name__ == "__main__":
    main()
