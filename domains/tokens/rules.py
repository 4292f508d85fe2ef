"""What may be asked of integers beside a template."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from discdiff.errors import TemplateError
from discdiff.languages import Language, compile_expression, count, one_of, span_of_lengths
from discdiff.rules import Rule
from domains.templates import expression, read_range
from domains.tokens.templates import read_choice, read_positions


def rules_of(vocab_size: Callable[[], int]) -> Mapping[str, Rule]:
    """The rules of integers 0 .. V − 1; V is asked for when a rule is used."""

    def rule(help_: str, example: str, language: Callable[[str, int], Language]) -> Rule:
        return Rule(help_, example, lambda value, span: language(value, vocab_size()))

    return {
        "require": rule("occurs somewhere, without a break", "5, 3, ?, 1|2", require),
        "forbid": rule("occurs nowhere", "5, 3, ?, 1|2", lambda value, size: ~require(value, size)),
        "regex": rule("the whole sequence, as in a template", "5, ?{2-6}, 1|2", whole),
        "count": rule("how often a token, or one of several, occurs", "7=1-3", counted),
        "length": Rule(
            "how many tokens",
            "20-40",
            lambda value, span: span_of_lengths(*span.bounds(*read_range(value)), vocab_size()),
        ),
    }


def require(value: str, vocab_size: int) -> Language:
    """Sequences in which a list, such as `5, 3, ?{2-6}, 1|2`, occurs."""
    every = one_of(range(vocab_size)).repeated(0, None)
    inside = expression(read_positions(value, vocab_size), vocab_size)
    return compile_expression(every + inside + every, vocab_size)


def whole(value: str, vocab_size: int) -> Language:
    """Sequences that a list with gaps describes as a whole."""
    return compile_expression(expression(read_positions(value, vocab_size), vocab_size), vocab_size)


def counted(value: str, vocab_size: int) -> Language:
    """`7=1-3`, `1|2=4`, `7=2-`: how often tokens occur.

    Raises:
        TemplateError: with a caret under the fault.
    """
    tokens, equals, _ = value.partition("=")
    if not equals:
        raise TemplateError("expected TOKEN=NUMBER", template=value, column=len(value), remedy="such as 7=1-3")
    low, high = read_range(value, start=len(tokens) + 1)
    return count(read_choice(tokens, vocab_size), low, high, vocab_size)


__all__ = ["rules_of"]
