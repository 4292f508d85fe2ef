"""DNA: sequences of A, C, G and T."""

from domains.dna.domain import DNA

__all__ = ["DNA"]
