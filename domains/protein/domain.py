"""The protein domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domains.letters import Letters
from domains.residues import AMBIGUOUS, AMINO_ACIDS
from domains.templates import LetterTemplates

if TYPE_CHECKING:
    from torch import Tensor

    from discdiff.rules import Rule

LACKING = {
    "O": "K, the residue that pyrrolysine resembles",
    "U": "C, the residue that selenocysteine resembles",
}


class Protein(Letters):
    """Sequences of the twenty amino acids, in alphabetical order of their letters.

    A `*` at the end (the stop codon of a translation) is dropped. B, J, O, U, X and Z are outside the alphabet; under
    `on_unknown="random"` they stand for D or N, I or L, K, C, any, E or Q.

    Templates are PROSITE's patterns for a whole sequence: `M-x(3)-[LIVM]-{P}-G`. `x` is any residue, `[LIVM]` one of
    these, `{P}` any but this, `x(3)` or `X{3}` three of them, `x(2,4)` two to four, a last `[G>]` G or its end;
    `-` and spaces are ignored, and so is case; `_` is x. Segments with gaps between them are a scaffold for motifs.
    Beyond PROSITE, which has x and the twenty letters alone, B is D or N, Z is E or Q, J is I or L and X is x, as in
    IUPAC's code; O and U are refused: the model has none of them.
    With `gaps="keep"` a `-` is the gap, not a separator.

    >>> protein = Protein()
    >>> protein.decode(protein.encode("mkv*"))
    'MKV'
    >>> protein.template("M-x(3)-[LIVM]-{P}-G").length
    7

    Args:
        on_unknown: `error`, `skip`, `split` or `random`; see `Letters`.
        gaps: `error`, `drop` or `keep`, for `-` and `.` of alignments; see `Letters`.
        min_length: the shortest valid sequence.
        max_length: the longest valid sequence, or None.
        streams: cut files into blocks of the model's length.
    """

    name = "protein"
    unit = "residue"
    letters = AMINO_ACIDS
    codes = AMBIGUOUS
    title = "protein"
    blanks = " \t\r\n-"
    prosite = True
    ending = "*"

    def _remedy(self, character: str) -> str:
        if character == "*":
            return "a stop codon is accepted at the end only; on_unknown='split' cuts there"
        return super()._remedy(character)

    @property
    def templates(self) -> LetterTemplates:
        """PROSITE's patterns; a residue that the model lacks is not read as the one that it resembles."""
        known = super().templates
        codes = {code: tokens for code, tokens in known.codes.items() if code not in LACKING}
        return replace(known, codes=codes, remedies={code: f"write {near}" for code, near in LACKING.items()})

    @property
    def rules(self) -> Mapping[str, Rule]:
        """PROSITE patterns, composition, charge; see `domains.protein.rules`."""
        from domains.protein.rules import protein_rules

        return protein_rules(self.templates, self.alphabet.letters)

    def rate_matrix(self, name: str, **options: Any) -> Tensor:
        """Substitution rates of Biopython's scoring matrices ("BLOSUM62", "PAM250", …); see `domains.protein.rates`."""
        from domains.protein.rates import substitution_rates

        return substitution_rates(self.letters, name, options)

    def metrics(
        self, samples: Sequence[str], *, reference: Sequence[str] | None = None, training: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """`basic_metrics` (its bigrams are dipeptides), and properties by Biopython; see `domains.protein.metrics`."""
        from domains.protein.metrics import property_metrics

        result = super().metrics(samples, reference=reference, training=training)
        result["properties"] = property_metrics(self, samples, reference)
        return result

    def plots(
        self, folder: Path, samples: Sequence[str], *, reference: Sequence[str] | None = None
    ) -> Mapping[str, Path]:
        from domains.protein.plots import plot_protein

        return plot_protein(self, folder, samples, reference)
