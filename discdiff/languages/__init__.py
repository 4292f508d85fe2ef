"""Regular languages over tokens: automata, expressions, counting. NumPy only; constraints run them."""

from discdiff.languages.concatenation import concatenated
from discdiff.languages.counting import (
    avoids,
    contains,
    count,
    longest_run,
    occurs,
    share,
    share_among,
    span_of_lengths,
    total,
    whole_numbers,
)
from discdiff.languages.expression import (
    EMPTY,
    Choice,
    Expression,
    Repeat,
    Sequential,
    Symbols,
    alternatives,
    compile_expression,
    one_of,
    word,
)
from discdiff.languages.language import DEAD, MAX_STATES, Language, anything, check_size, nothing
from discdiff.languages.regex import regex
from discdiff.languages.utf8 import Atoms
from discdiff.languages.windows import window

__all__ = [
    "DEAD",
    "EMPTY",
    "MAX_STATES",
    "Atoms",
    "Choice",
    "Expression",
    "Language",
    "Repeat",
    "Sequential",
    "Symbols",
    "alternatives",
    "anything",
    "avoids",
    "check_size",
    "compile_expression",
    "concatenated",
    "contains",
    "count",
    "longest_run",
    "nothing",
    "occurs",
    "one_of",
    "regex",
    "share",
    "share_among",
    "span_of_lengths",
    "total",
    "whole_numbers",
    "window",
    "word",
]
