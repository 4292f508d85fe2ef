"""Languages of characters as languages of a tokenizer's tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from discdiff.errors import IncompatibleError, TemplateError
from discdiff.languages import Expression, Language, compile_expression, one_of, regex, word
from discdiff.languages.utf8 import Atoms
from domains.text.tokenizers import Tokenizer

Build = Callable[[Sequence[str]], Language]
"""From characters to a language over them: the i-th character is token i."""
_DELIMITED = re.compile(r"/(?P<pattern>.+)/", re.DOTALL)


def over_tokens(tokenizer: Tokenizer, literals: Iterable[str], build: Build) -> Language:
    """A language of characters, over a tokenizer's tokens.

    With a tokenizer of characters these are the alphabet. With byte-level tokens the language is of the bytes of UTF-8,
    read along each token, so that a token may hold part of a character: all ways to cut an accepted text into tokens
    are accepted, that of `encode` among them.

    Args:
        tokenizer: of the model.
        literals: all characters that `build` names, and the ends of ranges.
        build: makes the language over an alphabet, in which each character stands for all that `literals` and the
            categories of Unicode do not tell apart from it.

    Raises:
        IncompatibleError: a tokenizer whose tokens are no bytes, or an automaton that is too large.
    """
    if tokenizer.letters is not None:
        return build(tokenizer.letters)
    spelled = tokenizer.spelled()
    atoms = Atoms.of(literals)
    return atoms.over_bytes(build(atoms.alphabet)).along(spelled)


def pattern_language(tokenizer: Tokenizer, pattern: str, before: str = "") -> Language:
    """The texts that are `before`, as it stands, and then what a regular expression matches."""

    def build(alphabet: Sequence[str]) -> Language:
        return compile_expression(literal(before, alphabet) + regex(pattern, alphabet), len(alphabet))

    return over_tokens(tokenizer, before + pattern, build)


def somewhere(tokenizer: Tokenizer, wanted: str) -> Language:
    """The texts in which `wanted` occurs: as it stands, or matched by it if it is `/a regular expression/`."""
    return over_tokens(tokenizer, wanted, lambda alphabet: _somewhere(alphabet, wanted))


def nowhere(tokenizer: Tokenizer, unwanted: str) -> Language:
    """The texts in which `unwanted` does not occur."""
    return over_tokens(tokenizer, unwanted, lambda alphabet: ~_somewhere(alphabet, unwanted))


def _somewhere(alphabet: Sequence[str], wanted: str) -> Language:
    if not wanted:
        raise TemplateError("nothing to look for", template=wanted, remedy="a text, or /a regular expression/")
    every = one_of(range(len(alphabet))).repeated(0, None)
    inside = regex(found["pattern"], alphabet) if (found := _DELIMITED.fullmatch(wanted)) else literal(wanted, alphabet)
    return compile_expression(every + inside + every, len(alphabet))


def literal(text: str, alphabet: Sequence[str]) -> Expression:
    """A text as it stands.

    Raises:
        TemplateError: a character outside the alphabet, with a caret under it.
    """
    place = {character: token for token, character in enumerate(alphabet)}
    for column, character in enumerate(text):
        if character not in place:
            raise TemplateError(
                f"{character!r} is not among the {len(alphabet)} characters that the model knows", template=text,
                column=column, remedy="leave it out",
            )  # fmt: skip
    return word(place[character] for character in text)


def read_file(path: str, what: str) -> str:
    """The text of a file that a rule names.

    Raises:
        IncompatibleError: it cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise IncompatibleError(what, got=f"@{path}", expected="a file of text (UTF-8)", remedy=f"{reason}.") from error


__all__ = ["Build", "literal", "nowhere", "over_tokens", "pattern_language", "read_file", "somewhere"]
