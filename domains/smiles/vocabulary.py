"""Tokens of SMILES: a closed vocabulary that no molecule leaves, and one learned from a training set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from discdiff.errors import DataError, UnknownTokenError
from domains.smiles.hints import hint

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# fmt: off
ELEMENTS = (
    "H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg", "Al", "Si", "P", "S", "Cl", "Ar", "K", "Ca",
    "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se", "Br", "Kr", "Rb", "Sr", "Y",
    "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb", "Te", "I", "Xe", "Cs", "Ba", "La", "Ce",
    "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu", "Hf", "Ta", "W", "Re", "Os", "Ir",
    "Pt", "Au", "Hg", "Tl", "Pb", "Bi", "Po", "At", "Rn", "Fr", "Ra", "Ac", "Th", "Pa", "U", "Np", "Pu", "Am", "Cm",
    "Bk", "Cf", "Es", "Fm", "Md", "No", "Lr", "Rf", "Db", "Sg", "Bh", "Hs", "Mt", "Ds", "Rg", "Cn", "Nh", "Fl", "Mc",
    "Lv", "Ts", "Og",
)
# fmt: on
# Systematic names of elements 110 to 118, which RDKit still reads.
SYSTEMATIC = ("Uun", "Uuu", "Uub", "Uut", "Uuq", "Uup", "Uuh", "Uus", "Uuo")
AROMATIC = ("b", "c", "n", "o", "p", "s", "se", "as", "te", "si")
CHIRAL = ("@", "@@", "@TH", "@AL", "@SP", "@TB", "@OH")
SIGNS = tuple("()[].-=#$:/\\~%+*<>'0123456789")
CLOSED = (*SIGNS, *CHIRAL, *ELEMENTS, *AROMATIC, *SYSTEMATIC)
"""The closed vocabulary: 173 tokens. The order is part of the file format; append, never insert."""

_LETTERS = {token for token in CLOSED if len(token) == 1}
_LONG = sorted((token for token in CLOSED if len(token) > 1), key=lambda token: (-len(token), token))
# `Cn` is copernicium in `[Cn]` and a methyl group on nitrogen in `Cn1cccc1`: a token that could also be read as
# single letters is one token only inside a bracket, which is where the next bracket ahead closes one.
_OPEN = [token for token in _LONG if set(token) <= _LETTERS and token not in {"Cl", "Br", "@@"}]
_PLAIN = [token for token in _LONG if token not in _OPEN]
CLOSED_PATTERN = rf"(?:{'|'.join(_OPEN)})(?=[^\[\]]*\])|{'|'.join(_PLAIN)}"
_BRACKET = r"\[[^\[\]\n]*\]"
ATOM_PATTERN = rf"{_BRACKET}|Br|Cl|@@|%\([0-9]+\)|%[0-9][0-9]"

_CODE = 0xE000  # private-use characters stand for tokens of more than one character
_REMEMBERED = 100_000


class Vocabulary:
    """Tokens of an ordered list, cut out of a string by a pattern; what the pattern leaves is cut into characters.

    Args:
        tokens: the tokens in the order of their ids.
        pattern: regular expression of the tokens that are longer than a character.
        apart: expression of the pieces whose tokens depend on nothing outside them; cutting them is remembered.
        kind: the vocabulary's name in messages.
    """

    def __init__(self, tokens: Sequence[str], pattern: str, *, apart: str, kind: str) -> None:
        self.tokens = tuple(tokens)
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        self.pattern, self.kind = pattern, kind
        self._cut = re.compile(f"{pattern}|.", re.DOTALL)
        self._apart = re.compile(apart)
        self._pieces: dict[str, str] = {}
        long = [token for token in self.tokens if len(token) > 1]
        self._codes = {token: chr(_CODE + i) for i, token in enumerate(long)}
        self._quick = {self._codes.get(token, token): i for token, i in self.ids.items()}

    def cut(self, smiles: str) -> list[str]:
        """The pieces of a string, known or not; joined, they are the string."""
        return self._cut.findall(smiles)

    def encode(self, smiles: str, *, record: object | None = None) -> list[int]:
        """Ids of a string's tokens.

        Raises:
            UnknownTokenError: names the record, the 1-based position and the token.
        """
        if smiles.isascii():
            # Longer tokens become one private character each; then a token is a character. Five times as fast as
            # cutting the whole string, to which it goes back wherever anything is unusual.
            try:
                return list(map(self._quick.__getitem__, self._apart.sub(self._coded, smiles)))
            except KeyError:
                pass
        pieces = self.cut(smiles)
        try:
            return [self.ids[piece] for piece in pieces]
        except KeyError:
            at = next(i for i, piece in enumerate(pieces) if piece not in self.ids)
        column = len("".join(pieces[:at]))
        remedy = hint(smiles, column=column)
        if remedy is None and self.kind != "closed":
            remedy = "it is not in the training set; tokenizer='closed' knows every molecule"
        raise UnknownTokenError(
            f"{pieces[at]!r} is not in the {self.kind} vocabulary of SMILES tokens (in {short(smiles)!r})",
            record=record,
            column=column + 1,
            remedy=remedy,
        )

    def _coded(self, match: re.Match[str]) -> str:
        piece = match[0]
        coded = self._pieces.get(piece)
        if coded is None:
            coded = "".join(self._codes.get(token, token) for token in self.cut(piece))
            if len(self._pieces) < _REMEMBERED:
                self._pieces[piece] = coded
        return coded

    def tokenizer(self) -> Tokenizer:
        """The same vocabulary in the Hugging Face `tokenizers` format; it raises on an unknown token."""
        from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

        built = Tokenizer(models.WordLevel(vocab=self.ids, unk_token="[UNK]"))  # noqa: S106 (no password)
        built.pre_tokenizer = pre_tokenizers.Split(Regex(f"{self.pattern}|(?m:.)"), "isolated")
        built.decoder = decoders.Fuse()
        return built


class ClosedVocabulary(Vocabulary):
    """Every SMILES in 173 tokens: bracket atoms are cut into isotope digits, element, chirality, hydrogens, charge.

    `[13C@@H]` is `[ 1 3 C @@ H ]`. No molecule that RDKit reads has an unknown token.
    """

    def __init__(self) -> None:
        super().__init__(CLOSED, CLOSED_PATTERN, apart=f"{_BRACKET}|Br|Cl|@@", kind="closed")
        # A bracket without its partner changes what `Cn` means far away: such strings are cut as a whole.
        inside = {bracket: chr(_CODE + len(CLOSED) + i) for i, bracket in enumerate("[]")}
        self._codes |= inside
        self._quick |= {code: self._quick.pop(bracket) for bracket, code in inside.items()}


class AtomVocabulary(Vocabulary):
    """Atom-level tokens as in Schwaller et al. 2019: a bracket atom is one token, and so is a `%12` ring bond.

    Args:
        tokens: the tokens, sorted.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        super().__init__(tokens, ATOM_PATTERN, apart=ATOM_PATTERN, kind="learned atom-level")

    @classmethod
    def learn(cls, smiles: Iterable[str]) -> AtomVocabulary:
        """The tokens of a training set.

        Raises:
            DataError: there is no molecule to learn from.
        """
        cut = re.compile(f"{ATOM_PATTERN}|.", re.DOTALL)
        found: set[str] = set()
        for one in smiles:
            found.update(cut.findall(one))
        if not found:
            raise DataError("no SMILES to learn the vocabulary from", remedy="fit needs a training set")
        return cls(sorted(found))


def short(smiles: str, most: int = 60) -> str:
    """A SMILES as messages show it."""
    return smiles if len(smiles) <= most else smiles[: most - 1] + "…"
