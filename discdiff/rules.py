"""What a domain's users may ask of sequences beside a template: each rule is a regular language by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from discdiff.errors import ConfigError
from discdiff.languages import Language


@dataclass(frozen=True)
class Span:
    """The lengths, in tokens, that sequences may have."""

    shortest: int
    longest: int

    def bounds(self, low: int, high: int | None, *, most: int = 1) -> tuple[int, int | None]:
        """A range of counts, without an end that nothing reaches where a token counts `most` at most: an automaton has
        a state for each number up to the last.
        """
        limit = self.longest * most
        return low, None if high is not None and high >= limit else high


@dataclass(frozen=True)
class Rule:
    """One kind of demand, such as "forbid" or "gc".

    Attributes:
        help: what it demands, in one line.
        example: a value.
        read: turns a value and the possible lengths into a language over the domain's vocabulary; raises
            `DiscdiffError` where the value cannot be read.
    """

    help: str
    example: str
    read: Callable[[str, Span], Language]


Rules = Mapping[str, str | int | Sequence[str]]
"""Demands by the names of rules; each value, or each of several values, must hold. A whole number is as good as its
digits."""


def languages(known: Mapping[str, Rule], asked: Rules, span: Span, *, domain: str) -> dict[str, Language]:
    """The languages of some demands, by names that say what was asked.

    Raises:
        ConfigError: no such rule (the message lists what the domain has).
        DiscdiffError: a value that cannot be read.
    """
    if not isinstance(asked, Mapping):
        raise ConfigError(f"rules: got {asked!r}, expected names and values, such as {{'forbid': ['GAATTC']}}")
    found = {}
    for name, values in asked.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(
                f"the domain {domain!r} has no rule {name!r}; it has: {', '.join(known) or 'none'}.{hint}"
            )
        each: list[object] = list(values) if isinstance(values, Sequence) and not isinstance(values, str) else [values]
        for value in each:
            if isinstance(value, bool) or not isinstance(value, str | int):
                raise ConfigError(f"rule {name}: got {value!r}, expected a string such as {known[name].example!r}")
            found[f"{name} {value}".strip()] = known[name].read(str(value), span)
    return found


__all__ = ["Rule", "Rules", "Span", "languages"]
