"""What may be asked of a text beside a template."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from discdiff.errors import TemplateError
from discdiff.languages import Choice, Language, compile_expression, span_of_lengths
from discdiff.rules import Rule, Span
from domains.templates import read_range
from domains.text.patterns import literal, nowhere, over_tokens, pattern_language, somewhere
from domains.text.tokenizers import Tokenizer

_BAR = re.compile(r"(?<!\\)\|")


def rules_of(tokenizer: Callable[[], Tokenizer]) -> Mapping[str, Rule]:
    """The rules of text; the tokenizer is asked for when one is used."""
    from domains.text.json_schema import schema_language
    from domains.text.words import words_language

    def rule(help_: str, example: str, language: Callable[[Tokenizer, str], Language]) -> Rule:
        return Rule(help_, example, lambda value, span: language(tokenizer(), value))

    return {
        "regex": rule("the whole text matches a regular expression", r"\d{4}-\d{2}-\d{2}", pattern_language),
        "require": rule("occurs somewhere: a text, or /a regular expression/", "/colou?r/", somewhere),
        "forbid": rule("occurs nowhere: a text, or /a regular expression/", "very", nowhere),
        "choices": rule("the whole text is one of these", "yes|no|perhaps", choices_language),
        "words": rule("every word is one of these, or of @file; /i: in any case", "the,cat,sat/i", words_language),
        "json": rule("the text is JSON of a schema, or of the one in @file", '{"enum": ["a", 1]}', schema_language),
        "length": Rule("how many tokens", "20-40", lambda value, span: length_language(tokenizer(), value, span)),
        "characters": Rule(
            "how many characters", "80-120", lambda value, span: characters_language(tokenizer(), value, span)
        ),
    }


def length_language(tokenizer: Tokenizer, value: str, span: Span) -> Language:
    """Texts of so many tokens."""
    return span_of_lengths(*span.bounds(*read_range(value)), tokenizer.size)


def characters_language(tokenizer: Tokenizer, value: str, span: Span) -> Language:
    """Texts of so many characters."""
    longest = 1 if tokenizer.letters is not None else max(map(len, tokenizer.spelled()))
    low, high = span.bounds(*read_range(value), most=longest)
    return over_tokens(tokenizer, "", lambda alphabet: span_of_lengths(low, high, len(alphabet)))


def choices_language(tokenizer: Tokenizer, value: str) -> Language:
    r"""One of several texts with bars between them; `\|` is the bar itself.

    Raises:
        TemplateError: an empty text, or a character that the model does not know.
    """
    texts = [part.replace(r"\|", "|") for part in _BAR.split(value)]
    if not all(texts):
        at = 0 if not texts[0] else len(value) - 1 if not texts[-1] else value.index("||") + 1
        raise TemplateError("an empty choice", template=value, column=at, remedy="texts between bars, as in yes|no")

    def build(alphabet: Sequence[str]) -> Language:
        return compile_expression(Choice(tuple(literal(text, alphabet) for text in texts)), len(alphabet))

    return over_tokens(tokenizer, value, build)


__all__ = ["rules_of"]
