"""The shapes at which speed is measured and bounded: small enough for a CPU (S1 to S3), and for one GPU (G1, G2)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A transformer, and the batches that it sees.

    Attributes:
        name: in tables and records.
        dim, depth, heads: of the network; the MLP is four times as wide.
        length: positions of a row; the longest where lengths differ.
        batch: rows.
        vocab: S, the states, the mask included: 50,258 are GPT-2's 50,257 tokens and the mask.
        dtype: what matrices are multiplied in, "float32" or "bfloat16" (autocast).
        kernel: of the local mixing; 0 for none, as published networks have.
        mean_length: real tokens of a row on average, where lengths differ.
    """

    name: str
    dim: int
    depth: int
    heads: int
    length: int
    batch: int
    vocab: int
    dtype: str = "float32"
    kernel: int = 0
    mean_length: float | None = None

    @property
    def tokens(self) -> int:
        """Positions of a batch, padding included."""
        return self.batch * self.length

    @property
    def real_tokens(self) -> float:
        """Positions of a batch that are not padding."""
        return self.batch * (self.length if self.mean_length is None else self.mean_length)


#: S1: a large vocabulary. S2: a small one. S3: molecules of differing lengths (ZINC250k, at most 71 atom-level tokens).
#: G1: language. G2: text8.
SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        Shape("S1", dim=256, depth=6, heads=8, length=128, batch=16, vocab=50_258),
        Shape("S2", dim=256, depth=6, heads=8, length=128, batch=32, vocab=64),
        Shape("S3", dim=256, depth=6, heads=8, length=72, batch=128, vocab=63, mean_length=38.3),
        Shape("G1", dim=768, depth=12, heads=12, length=1024, batch=32, vocab=50_258, dtype="bfloat16"),
        Shape("G2", dim=320, depth=8, heads=5, length=256, batch=512, vocab=28, dtype="bfloat16"),
    )
}
