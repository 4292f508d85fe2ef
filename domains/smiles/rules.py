"""What may be asked of molecules beside a template: each rule is a regular language over the tokens of SMILES."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from discdiff.errors import TemplateError
from discdiff.languages import Language, avoids, contains, count, span_of_lengths
from discdiff.rules import Rule, Span
from domains.smiles.grammar import DEPTH, RINGS, Grammar
from domains.smiles.hints import hint
from domains.smiles.symbols import ORGANIC, digit_of, element_of
from domains.smiles.valence import Valence
from domains.smiles.vocabulary import ELEMENTS, Vocabulary
from domains.values import nearest

_RANGE = re.compile(
    r"\s*(?:(?P<low>[0-9]+)\s*(?:(?P<dash>-)\s*(?P<high>[0-9]*))?|(?:<=|-)\s*(?P<most>[0-9]+))\s*", re.ASCII
)
_CAP = re.compile(r"\s*([a-z]+)\s*=\s*([0-9]+)\s*", re.ASCII)


def rules(vocabulary: Vocabulary) -> Mapping[str, Rule]:
    """The rules over a vocabulary, by name."""

    def rule(help_: str, example: str, read: Callable[[Vocabulary, str, Span], Language]) -> Rule:
        return Rule(help_, example, partial(read, vocabulary))

    return {
        "grammar": rule(
            "the syntax of SMILES: branches to a depth, at most so many rings open at once", "depth=4,rings=4", _grammar
        ),
        "valence": rule("no atom has more bonds than it can, as far as it is seen before a branch", "", _valence),
        "elements": rule("only these elements (hydrogens aside)", "C,N,O", _elements),
        "rings": rule("so many ring bonds: 2, 1-3, -3 (at most) or 2-", "1-3", _rings),
        "heteroatoms": rule("so many atoms that are neither carbon nor hydrogen", "2-5", _heteroatoms),
        "require": rule("this fragment occurs, token by token as it stands", "C(=O)N", _require),
        "forbid": rule("this fragment occurs nowhere, token by token as it stands", "[N+](=O)[O-]", _forbid),
        "length": rule("so many tokens", "20-40", _length),
    }


# ---- values ----------------------------------------------------------------------------------------------------------
def _numbers(text: str) -> tuple[int, int | None]:
    """A number or a range: lowest and highest, None for no limit.

    Raises:
        TemplateError: neither, or a range that runs backwards.
    """
    found = _RANGE.fullmatch(text)
    if found is None:
        at = next((i for i, character in enumerate(text) if character not in "0123456789 -<="), len(text.rstrip()))
        raise TemplateError(
            "expected a number or a range", template=text, column=min(at, max(len(text) - 1, 0)),
            remedy="such as 2, 1-3, 2- (two or more) or -3 (at most three)",
        )  # fmt: skip
    if found["most"]:
        return 0, int(found["most"])
    low = int(found["low"])
    high = low if not found["dash"] else int(found["high"]) if found["high"] else None
    if high is not None and high < low:
        raise TemplateError(
            f"the range {text.strip()} runs backwards", template=text, column=found.start("low"),
            remedy=f"from {high} to {low}?",
        )  # fmt: skip
    return low, high


def _grammar(vocabulary: Vocabulary, text: str, span: Span) -> Language:
    caps = {"depth": DEPTH, "rings": RINGS}
    column = 0
    for part in text.split(",") if text.strip() else []:
        found = _CAP.fullmatch(part)
        if found is None or found[1] not in caps:
            raise TemplateError(
                f"{part.strip()!r} is no cap of the grammar", template=text,
                column=column + len(part) - len(part.lstrip()),
                remedy=f"such as depth={DEPTH},rings={RINGS}; without caps these are taken",
            )  # fmt: skip
        caps[found[1]] = int(found[2])
        column += len(part) + 1
    return Grammar(**caps).language(vocabulary.tokens)


def _valence(vocabulary: Vocabulary, text: str, span: Span) -> Language:
    if text.strip():
        raise TemplateError("expected nothing", template=text, remedy="write the rule alone: --rule valence")
    return Valence().language(vocabulary.tokens)


def _elements(vocabulary: Vocabulary, text: str, span: Span) -> Language:
    wanted = {"H"}
    column = 0
    for part in text.split(","):
        name = part.strip()
        if name not in ELEMENTS:
            cased = name.capitalize()
            near = [cased] if cased in ELEMENTS else nearest(name, ELEMENTS, cutoff=0.5)
            raise TemplateError(
                f"{name!r} is no element" if name else "an element is missing", template=text,
                column=column + len(part) - len(part.lstrip()),
                remedy=f"did you mean {' or '.join(near)}?" if near else "such as C,N,O,Cl",
            )  # fmt: skip
        wanted.add(name)
        column += len(part) + 1
    others = [i for i, token in enumerate(vocabulary.tokens) if (_atom(token) or "H") not in wanted]
    return count(others, 0, 0, len(vocabulary.tokens))


def _atom(token: str) -> str | None:
    """The element that a token brings, capitalised; in a closed vocabulary an element's own token."""
    element = element_of(token)
    element = element if element is not None else token if token in ELEMENTS or token.capitalize() in ELEMENTS else None
    return None if element is None else element.capitalize()


def _rings(vocabulary: Vocabulary, text: str, span: Span) -> Language:
    low, high = _numbers(text)
    digits = [i for i, token in enumerate(vocabulary.tokens) if digit_of(token) is not None]
    size = len(vocabulary.tokens)
    if "[" not in vocabulary.tokens:
        return count(digits, 2 * low, None if high is None else 2 * high, size)
    return _outside(vocabulary, digits, 2 * low, None if high is None else 2 * high)


def _outside(vocabulary: Vocabulary, tokens: Sequence[int], low: int, high: int | None) -> Language:
    """`low` to `high` of some tokens outside bracket atoms, which are spelled in parts."""
    classes = np.zeros(len(vocabulary.tokens), dtype=np.int32)
    classes[list(tokens)] = 1
    classes[[vocabulary.ids["["], vocabulary.ids["]"]]] = 2, 3
    top = low if high is None else high

    def step(state: tuple[int, bool], symbol: int) -> tuple[int, bool] | None:
        seen, inside = state
        if symbol >= 2:
            return seen, symbol == 2
        if inside or symbol == 0:
            return state
        return (min(seen + 1, top), inside) if high is None or seen < high else None

    return Language.explore((0, False), step, lambda state: state[0] >= low, classes, what="rings")


def _heteroatoms(vocabulary: Vocabulary, text: str, span: Span) -> Language:
    low, high = _numbers(text)
    tokens = [i for i, token in enumerate(vocabulary.tokens) if (_atom(token) or "C") not in ("C", "H")]
    return count(tokens, low, high, len(vocabulary.tokens))


def _length(vocabulary: Vocabulary, text: str, span: Span) -> Language:
    return span_of_lengths(*span.bounds(*_numbers(text)), len(vocabulary.tokens))


def _require(vocabulary: Vocabulary, text: str, span: Span) -> Language:
    return contains([_fragment(vocabulary, text)], len(vocabulary.tokens))


def _forbid(vocabulary: Vocabulary, text: str, span: Span) -> Language:
    return avoids([_fragment(vocabulary, text)], len(vocabulary.tokens))


def _fragment(vocabulary: Vocabulary, text: str) -> list[tuple[int]]:
    """A fragment's tokens.

    Raises:
        TemplateError: nothing, or a token that the vocabulary does not have.
    """
    written = text.strip()
    if not written:
        raise TemplateError("the fragment is empty", template=text, remedy="such as C(=O)N")
    at = len(text) - len(text.lstrip())
    found = []
    for piece in vocabulary.cut(written):
        if piece not in vocabulary.ids:
            raise TemplateError(
                f"{piece!r} is not in the {vocabulary.kind} vocabulary", template=text, column=at,
                remedy=hint(written, column=at) or "write the fragment as SMILES, with atoms that the model knows",
            )  # fmt: skip
        found.append((vocabulary.ids[piece],))
        at += len(piece)
    return found


__all__ = ["ORGANIC", "rules"]
