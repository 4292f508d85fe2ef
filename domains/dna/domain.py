"""The DNA domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from discdiff.domain import unknown_option
from discdiff.errors import ConfigError, UnknownTokenError
from domains.alphabet import shown
from domains.letters import Gaps, Letters, OnUnknown

if TYPE_CHECKING:
    from torch import Tensor

    from discdiff.rules import Rule
    from domains.dna.windows import GenomeWindows

# Nomenclature of IUPAC-IUB, Nucleic Acids Res. 13:3021 (1985)
IUPAC = {
    "R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC",
    "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT",
}  # fmt: skip
URACIL = {"U": "T"}


class DNA(Letters):
    """Sequences of A, C, G and T; the order is that of the tokens.

    Templates state one base a position in IUPAC codes: `N{20}TATAWAW N{30} ATG`. `[AC]` is one of these, `[^G]` any
    but this, `W{7}` seven of these, `N{10-30}` ten to thirty; `_` is N; spaces are ignored and so is case. U is T.

    >>> dna = DNA()
    >>> dna.encode("acgt"), dna.decode([3, 2, 1, 0])
    ([0, 1, 2, 3], 'TGCA')
    >>> dna.template("N{20}TATAWAW N{30} ATG").length
    60

    Args:
        on_unknown: `error`, `skip`, `split` or `random`, for N and all else that is no base; see `Letters`.
        gaps: `error`, `drop` or `keep`; see `Letters`.
        rna: read U as T.
        min_length: the shortest valid sequence.
        max_length: the longest valid sequence, or None.
        streams: cut files (chromosomes) into blocks of the model's length.
    """

    name = "dna"
    unit = "base"
    letters = "ACGT"
    codes = IUPAC
    aliases = URACIL
    title = "DNA"

    def __init__(
        self,
        on_unknown: OnUnknown = "error",
        gaps: Gaps = "error",
        rna: bool = False,
        min_length: int = 1,
        max_length: int | None = None,
        streams: bool = False,
    ) -> None:
        super().__init__(on_unknown, gaps, min_length, max_length, streams)
        self.rna = rna
        if rna:
            self._translate({"U": "T", "u": "T"})

    def options(self) -> dict[str, Any]:
        return super().options() | {"rna": self.rna}

    def _remedy(self, character: str) -> str:
        if character == "U":
            return "RNA? rna=True reads U as T"
        if character in "EFILPQJOXZ":
            return "a protein? use the domain 'protein'"
        return super()._remedy(character)

    def windows(self, path: str | Path, *, length: int, **options: Any) -> GenomeWindows:
        """Windows of the chromosomes of a plain FASTA file, which is never read whole.

        Args:
            path: the file.
            length: bases in a window.
            options: `kind` ("tiled" or "random"), `stride`, `count`, `strands`, `max_unknown`, `chromosomes`,
                `exclude`, `seed`; see `domains.dna.windows.GenomeWindows`, which says what is raised.
        """
        from domains.dna.windows import GenomeWindows

        try:
            return GenomeWindows(self, path, length=length, **options)
        except TypeError as error:
            raise ConfigError(f"windows: {unknown_option(error, GenomeWindows)}") from error

    def window_table(self, ambiguous: int, foreign: int) -> bytes:
        """For `bytes.translate` of a genome's letters: tokens; or one number for ambiguity codes, one for the rest."""
        table = [token if token < self.vocab_size else foreign for token in self._tokens]
        for code in self.codes:
            for byte in (ord(code), ord(code.lower())):
                table[byte] = table[byte] if table[byte] < self.vocab_size else ambiguous
        return bytes(table)

    def foreign_base(self, letter: str, *, path: object, record: str, column: int) -> UnknownTokenError:
        """The error for a letter of a genome that is neither base nor ambiguity code."""
        return UnknownTokenError(
            f"{shown(letter)} is not in the DNA alphabet {self.alphabet.letters}", path=path, record=record,
            column=column, remedy=self._remedy(letter.upper()),
        )  # fmt: skip

    @property
    def rules(self) -> Mapping[str, Rule]:
        """Motifs, enzymes, runs, GC content and coding; see `domains.dna.rules`."""
        from domains.dna.rules import dna_rules

        return dna_rules(self.templates, self.alphabet.letters)

    def rate_matrix(self, name: str, **options: Any) -> Tensor:
        """JC69, K80 (`kappa`), HKY85 (`kappa`, `frequencies`), GTR (`exchangeabilities`, `frequencies`)."""
        from domains.dna.rates import MODELS
        from domains.rates import named_rates

        return named_rates(self.name, MODELS, name, options)

    def metrics(
        self, samples: Sequence[str], *, reference: Sequence[str] | None = None, training: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """`basic_metrics`, GC content (`gc`) and distances of k-mers (`kmers`); see `domains.dna.metrics`."""
        from domains.dna.metrics import gc_metrics, kmer_metrics

        result = super().metrics(samples, reference=reference, training=training)
        result["gc"] = gc_metrics(self, samples, reference)
        if reference is not None:
            result["kmers"] = kmer_metrics(self, samples, reference)
        return result

    def plots(
        self, folder: Path, samples: Sequence[str], *, reference: Sequence[str] | None = None
    ) -> Mapping[str, Path]:
        from domains.dna.plots import plot_dna

        return plot_dna(self, folder, samples, reference)
