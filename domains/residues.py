"""The letters of proteins, for their domain and for the DNA that codes for them."""

AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
# IUPAC's codes for several residues; pyrrolysine and selenocysteine by the residue they stand in for
AMBIGUOUS = {"B": "DN", "J": "IL", "O": "K", "U": "C", "X": AMINO_ACIDS, "Z": "EQ"}

__all__ = ["AMBIGUOUS", "AMINO_ACIDS"]
