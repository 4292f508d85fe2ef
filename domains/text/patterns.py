"""Languages of characters as languages of a tokenizer's tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from discdiff.errors import IncompatibleError, TemplateError
from discdiff.languages import EMPTY, Atoms, Choice, Expression, Language, compile_expression, one_of, regex, word
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
    """The texts that are `before`, as it stands, and then what a regular expression matches.

    Raises:
        TemplateError: with a caret under the fault; the expression is empty.
    """
    if not pattern:
        raise TemplateError("the regular expression is empty", template="", remedy="such as .* for anything")

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
        raise TemplateError("nothing to look for", template="", column=0, remedy="a text, or /a regular expression/")
    every = one_of(range(len(alphabet))).repeated(0, None)
    if found := _DELIMITED.fullmatch(wanted):
        return compile_expression(searched(found["pattern"], alphabet, every, lambda part: part), len(alphabet))
    return compile_expression(every + literal(wanted, alphabet) + every, len(alphabet))


def searched(
    pattern: str, alphabet: Sequence[str], every: Expression, encoded: Callable[[Expression], Expression]
) -> Expression:
    """Texts in which a regular expression finds something; `^` and `$` at the ends of an alternative are the text's.

    Args:
        pattern: the expression.
        alphabet: the characters.
        every: any text.
        encoded: how what is found is written.
    """
    options = []
    for part in _alternatives(pattern):
        ended = part.endswith("$") and (len(part) - len(part[:-1].rstrip("\\"))) % 2
        before, after = (EMPTY if part.startswith("^") else every), (EMPTY if ended else every)
        options.append(before + encoded(regex(part, alphabet)) + after)
    return Choice(tuple(options))


def _alternatives(pattern: str) -> list[str]:
    """What stands between the bars of a pattern that are in no brackets."""
    parts, depth, inside, skip = [""], 0, False, False
    for character in pattern:
        if character == "|" and not (depth or inside or skip):
            parts.append("")
            continue
        parts[-1] += character
        if skip or character == "\\":
            skip = not skip
        elif inside:
            inside = character != "]" or parts[-1].endswith(("[]", "[^]"))
        elif character in "[()":
            inside, depth = character == "[", depth + {"(": 1, ")": -1}.get(character, 0)
    return parts


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
    except (OSError, ValueError) as error:  # a path with a byte 0, bytes that are no UTF-8
        reason = getattr(error, "strerror", None) or str(error)
        raise IncompatibleError(what, got=f"@{path}", expected="a file of text (UTF-8)", remedy=f"{reason}.") from error


__all__ = ["Build", "literal", "nowhere", "over_tokens", "pattern_language", "read_file", "searched", "somewhere"]
