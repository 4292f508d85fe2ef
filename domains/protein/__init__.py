"""Proteins: sequences of the twenty amino acids."""

from domains.protein.domain import Protein

__all__ = ["Protein"]
