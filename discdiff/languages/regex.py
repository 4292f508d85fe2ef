"""Regular expressions over characters, read into an `Expression`: the part of the usual syntax that is regular."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence

from discdiff.errors import TemplateError
from discdiff.languages.expression import Choice, Expression, Repeat, Sequential, one_of

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}
_SHORT: dict[str, Callable[[str], bool]] = {
    "d": str.isdecimal,
    "w": lambda c: c.isalnum() or c == "_",
    "s": str.isspace,
}
_IRREGULAR = {
    "(?=": "look-ahead",
    "(?!": "look-ahead",
    "(?<=": "look-behind",
    "(?<!": "look-behind",
    "(?P=": "a back-reference",
    "(?>": "an atomic group",
    "(?(": "a conditional group",
    **{f"(?{flag}": "a flag here" for flag in "aimsxuL"},
}
_MOST = 10_000
_DEEPEST = 100


def regex(pattern: str, alphabet: Sequence[str]) -> Expression:
    r"""The expression of a pattern, which must match a sequence as a whole.

    Literals, `.`, `[a-z]`, `[^a-z]`, `\d \w \s` and their opposites, `|`, groups, `* + ? {2} {2,} {2,4}`; `^` and `$`
    at the ends say nothing more. A dot stands for any character but `\n`, as in Python's `re`. `\d`, `\w` and `\s` are
    those of Unicode, or of ASCII after `(?a)` at the pattern's begin.

    Args:
        pattern: such as `[A-Z][a-z]+ \d{4}`.
        alphabet: the characters; a character's place is its token.

    Raises:
        TemplateError: with a caret under the fault: brackets that do not match, a character outside the alphabet, a
            repeat of nothing, syntax that is not regular.
    """
    return _Parser(pattern, alphabet).whole()


class _Parser:
    def __init__(self, pattern: str, alphabet: Sequence[str]) -> None:
        self.pattern, self.at, self.depth, self.ascii = pattern, 0, 0, False
        self.alphabet = alphabet
        self.place = {character: token for token, character in enumerate(alphabet)}

    def fault(self, message: str, column: int | None = None, remedy: str | None = None) -> TemplateError:
        return TemplateError(
            message, template=self.pattern, column=self.at if column is None else column, remedy=remedy
        )

    def peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def take(self) -> str:
        self.at += 1
        return self.pattern[self.at - 1]

    def whole(self) -> Expression:
        if self.pattern.startswith("(?a)"):
            self.ascii, self.at = True, 4
        if self.peek() == "^":
            self.take()
        found = self.choice()
        if self.peek() == ")":
            raise self.fault("')' closes nothing", remedy=r"write \) for the character itself")
        return found

    def choice(self) -> Expression:
        parts = [self.sequence()]
        while self.peek() == "|":
            self.take()
            parts.append(self.sequence())
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))

    def sequence(self) -> Expression:
        parts = []
        while (character := self.peek()) and character not in "|)":
            if character == "$" and self.at + 1 == len(self.pattern):
                self.take()
                break
            parts.append(self.repeated(self.item()))
        return parts[0] if len(parts) == 1 else Sequential(tuple(parts))

    def repeated(self, part: Expression) -> Expression:
        while (character := self.peek()) and character in "*+?{":
            here = self.at
            low, high = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(character) or self.numbers()
            if character != "{":
                self.take()
            if self.peek() == "?":
                raise self.fault("a lazy repeat", remedy="leave the question mark out: a language has no greed")
            if self.peek() == "+":
                raise self.fault("a possessive repeat", remedy="leave the plus out: a language has no greed")
            if (high is not None and high > _MOST) or low > _MOST:
                raise self.fault("the repeat is too long", here, f"at most {_MOST}")
            part = Repeat(part, low, high)
        return part

    def numbers(self) -> tuple[int, int | None]:
        found = re.compile(r"\{\s*(\d*)\s*(,|-)?\s*(\d*)\s*\}").match(self.pattern, self.at)
        if not found or not (found[1] or found[3]) or not (found[1] or found[2]):
            raise self.fault("expected {n}, {n,} or {n,m}", remedy=r"write \{ for the character itself")
        low = int(found[1] or 0)
        high = low if not found[2] else int(found[3]) if found[3] else None
        if high is not None and high < low:
            raise self.fault(f"the range {low} to {high} runs backwards", remedy=f"from {high} to {low}?")
        self.at = found.end()
        return low, high

    def item(self) -> Expression:
        here, character = self.at, self.take()
        if character == "(":
            return self.group(here)
        if character == "[":
            return self.bracket(here)
        if character == ".":
            return one_of({token for token, c in enumerate(self.alphabet) if c != "\n"})
        if character == "\\":
            return one_of(self.escape(here))
        if character in "*+?{":
            raise self.fault(f"{character!r} repeats nothing", here, f"write \\{character} for the character itself")
        if character in "^$":
            raise self.fault(
                f"{character!r} stands only at the end of a pattern", here, f"write \\{character} for the character"
            )
        return one_of((self.token(character, here),))

    def group(self, here: int) -> Expression:
        for opening, name in _IRREGULAR.items():
            if self.pattern.startswith(opening, here):
                raise self.fault(f"{name} is not supported", here, "combine two constraints instead")
        self.depth += 1
        if self.depth > _DEEPEST:
            raise self.fault("groups are nested too deep", here, f"at most {_DEEPEST}")
        if opened := re.compile(r"\?(:|P<\w+>)").match(self.pattern, self.at):
            self.at = opened.end()
        inside = self.choice()
        if self.peek() != ")":
            raise self.fault("'(' is never closed", here, "add ')'")
        self.take()
        self.depth -= 1
        return inside

    def bracket(self, here: int) -> Expression:
        negative = self.peek() == "^"
        if negative:
            self.take()
        chosen: set[int] = set()
        first = True
        while first or self.peek() != "]":
            if not self.peek():
                raise self.fault("'[' is never closed", here, "add ']'")
            chosen |= self.member()
            first = False
        self.take()
        if negative:
            chosen = set(range(len(self.alphabet))) - chosen
        if not chosen:
            raise self.fault("this allows no character at all", here)
        return one_of(chosen)

    def member(self) -> set[int]:
        here, character = self.at, self.take()
        if character == "\\":
            found = self.escape(here)
            kind = self.pattern[self.at - 1].lower() in _SHORT
            if kind or self.peek() != "-" or self.pattern[self.at + 1 : self.at + 2] in ("]", ""):
                return found
            character = self.alphabet[next(iter(found))]
        if self.peek() == "-" and self.pattern[self.at + 1 : self.at + 2] not in ("]", ""):
            self.take()
            end = self.take()
            if end == "\\":
                found = self.escape(self.at - 1)
                if self.pattern[self.at - 1].lower() in _SHORT:
                    raise self.fault("a range ends with a character, not with a kind of character", here)
                end = self.alphabet[next(iter(found))]
            if end < character:
                raise self.fault(f"the range {character}-{end} runs backwards", here)
            found = {token for token, c in enumerate(self.alphabet) if character <= c <= end}
            if not found:
                raise self.fault(f"no character of the alphabet lies in {character}-{end}", here)
            return found
        return {self.token(character, here)}

    def escape(self, here: int) -> set[int]:
        if not self.peek():
            raise self.fault("a backslash at the end", here, r"write \\ for the character itself")
        character = self.take()
        if character.lower() in _SHORT:
            rule, wanted = _SHORT[character.lower()], character.islower()
            known = str.isascii if self.ascii else bool
            found = {token for token, c in enumerate(self.alphabet) if (rule(c) and known(c)) == wanted}
            if not found:
                raise self.fault(f"no character of the alphabet is \\{character}", here)
            return found
        if character in string.ascii_letters + string.digits and character not in _ESCAPES:
            what = "a back-reference" if character.isdigit() else f"\\{character}"
            raise self.fault(f"{what} is not supported", here, r"known: \d \w \s \D \W \S \n \t")
        return {self.token(_ESCAPES.get(character, character), here)}

    def token(self, character: str, here: int) -> int:
        if character not in self.place:
            raise self.fault(f"{character!r} is not in the alphabet", here, "use the characters that the model knows")
        return self.place[character]


__all__ = ["regex"]
