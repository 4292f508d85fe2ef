"""What may be asked of DNA: motifs, sites of restriction enzymes, runs, GC content, the protein that it codes for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import ceil, floor

from discdiff.errors import ConfigError, IncompatibleError, TemplateError, require
from discdiff.languages import MAX_STATES, Language, avoids, longest_run, window
from discdiff.rules import Rule, Span
from domains.dna.codons import EXAMPLE, coding
from domains.templates import Gap, Letter, LetterTemplates, Pattern
from domains.values import band, letter_rules, nearest, nowhere, shares, somewhere, whole

COMPLEMENT = {"A": "T", "C": "G", "G": "C", "T": "A"}
MOST_HISTORIES = 20_000
"""States of windows further apart that are recommended: more of them, and each draw takes seconds."""
_WINDOW = re.compile(r"\s*(\d{1,6})\s*(?:/\s*(\d{1,6}))?\s*:(.*)", re.ASCII | re.DOTALL)
_ENZYME = re.compile(r"[A-Za-z]{3}[A-Za-z0-9-]*", re.ASCII)


def dna_rules(templates: LetterTemplates, letters: str) -> Mapping[str, Rule]:
    """The rules over an alphabet of bases.

    Args:
        templates: the IUPAC codes.
        letters: the alphabet in the order of its tokens.
    """
    size, strong = templates.vocab_size, [letters.index("G"), letters.index("C")]
    complement = [letters.index(COMPLEMENT.get(letter, letter)) for letter in letters]

    def required(value: str, span: Span) -> Language:
        motif, slash, strand = value.partition("/")
        if slash and strand.strip().lower() not in ("both", "+", "-"):
            raise ConfigError(f"require: got strand {strand!r}, expected MOTIF/both, MOTIF/+ or MOTIF/-")
        forward = templates.pattern(motif)
        back = reverse_complement(forward, complement)
        asked = {"both": [forward, back], "-": [back]}.get(strand.strip().lower(), [forward])
        found = [somewhere(pattern, size, what=f"require {value}") for pattern in asked]
        return found[0] if len(found) == 1 else found[0] | found[1]

    def forbidden(value: str, span: Span) -> Language:
        language: Language | None = None
        for site in sites(value, templates):
            forward = templates.pattern(site)
            both = [forward, reverse_complement(forward, complement)]
            if not any(isinstance(position, Gap) for position in forward.positions) and forward.positions:
                every = range(size)
                words = [[every if p is None else p for p in each.positions if not isinstance(p, Gap)] for each in both]
                parts = [avoids(words, size)]
            else:
                parts = [nowhere(each, size, what=f"forbid {value}") for each in both]
            for part in parts:
                language = part if language is None else language & part
        assert language is not None
        return language

    def homopolymer(value: str, span: Span) -> Language:
        longest = whole(value, rule="homopolymer", example="5")
        return longest_run([[letters.index(base)] for base in COMPLEMENT], longest, size)

    def gc(value: str, span: Span) -> Language:
        low, high = band(value, rule="gc", example="40-60%").shares("gc", "40-60%")
        return shares(strong, low, high, span, size)

    def gc_window(value: str, span: Span) -> Language:
        found = _WINDOW.fullmatch(value)
        if found is None:
            raise ConfigError(f"gc_window: cannot read {value!r}, expected WIDTH:BAND or WIDTH/STEP:BAND")
        width, every = int(found[1]), None if found[2] is None else int(found[2])
        low, high = band(found[3], rule="gc_window", example="30-70%").shares("gc_window", "12:30-70%")
        least, most = ceil(low * width - 1e-9), floor(high * width + 1e-9)
        if width < 1 or least > most:
            raise ConfigError(f"gc_window: no whole number of {width} bases is {low:.1%} to {high:.1%} of them")
        if every is not None and (every < 1 or width % every):
            divisors = ", ".join(str(d) for d in range(1, width + 1) if width % d == 0)
            raise ConfigError(f"gc_window: windows of {width} cannot be {every} bases apart; take one of {divisors}")
        try:
            return window(strong, width, least, most, size, every=every)
        except IncompatibleError as error:
            raise _too_wide(value, width, least, most) from error

    return {
        "require": Rule(
            "a motif in IUPAC codes, with gaps, somewhere; MOTIF/both: on either strand",
            "TTGACA N{16-18} TATAAT",
            required,
        ),
        "forbid": Rule("an IUPAC motif, or a restriction enzyme's site: on neither strand", "EcoRI", forbidden),
        "homopolymer": Rule("no base more often than this in a row", "5", homopolymer),
        "gc": Rule("share of G and C", "40-60%", gc),
        "gc_window": Rule(
            "share of G and C in every window; WIDTH/STEP:BAND looks at windows STEP bases apart",
            "12:25-75%",
            gc_window,
        ),
        "codes": Rule(
            "the protein that the sequence codes for (* a stop codon; options table, stop, start, before, after)",
            EXAMPLE,
            lambda value, span: coding(value, letters),
        ),
        **letter_rules(templates, letters),
    }


def reverse_complement(pattern: Pattern, complement: list[int]) -> Pattern:
    """The pattern as the other strand has it."""

    def other(position: Letter) -> Letter:
        if isinstance(position, Gap):
            tokens = None if position.tokens is None else frozenset(complement[token] for token in position.tokens)
            return Gap(tokens, position.low, position.high)
        return None if position is None else frozenset(complement[token] for token in position)

    return Pattern([other(position) for position in reversed(pattern.positions)])


def sites(value: str, templates: LetterTemplates) -> list[str]:
    """What is to be forbidden, in IUPAC codes: an enzyme's recognition sites, or the motif itself.

    The name of an enzyme comes first; Biopython's list is read only for what may be one.

    Raises:
        TemplateError: neither a motif nor an enzyme; the nearest names are suggested.
    """
    name = value.strip()
    wrong = next((at for at, letter in enumerate(name) if letter.upper() not in templates.codes), None)
    mixed = name not in (name.upper(), name.lower())
    if not _ENZYME.fullmatch(name) or (wrong is None and not mixed):
        return [value]
    restriction = require("Bio.Restriction")
    enzymes = {str(enzyme).casefold(): enzyme for enzyme in restriction.AllEnzymes}
    if name.casefold() in enzymes:
        found: list[str] = enzymes[name.casefold()].site.split("|")
        return found
    # a 1 or a small L is an I misread
    near = nearest(re.sub("[1l]", "I", name), map(str, restriction.AllEnzymes))
    what = f"{name[wrong]!r} is no {templates.kind}, and {name!r}" if wrong is not None else repr(name)
    raise TemplateError(
        f"{what} is no restriction enzyme that Biopython knows",
        template=name,
        column=wrong or 0,
        remedy=f"did you mean {', '.join(near)}?" if near else "give the site in IUPAC codes, in capitals",
    )


def _too_wide(value: str, width: int, least: int, most: int) -> IncompatibleError:
    """Two ways out: windows further apart, and a band for these that implies the one asked for in all windows."""
    divisors = [d for d in range(2, width + 1) if width % d == 0]
    step = next((d for d in divisors if _apart(width, d) <= MOST_HISTORIES), width)
    remedy = f"Take shorter windows, or look only at windows {step} bases apart, {width}/{step}:..."
    # A window begins at most d - 1 bases after one of those d apart, and so holds at most as many more or fewer.
    inner = [(d, least + d - 1, most - d + 1) for d in divisors if _apart(width, d) <= MAX_STATES]
    for d, low, high in [each for each in inner if each[1] <= each[2]][:1]:
        band = f"{ceil(1000 * low / width) / 10:g}-{floor(1000 * high / width) / 10:g}%"
        remedy += f"; {width}/{d}:{band} implies what you ask, in every window"
    return IncompatibleError(
        f"gc_window {value}",
        got=f"more than {MAX_STATES:,} windows to tell apart",
        expected="fewer, as of windows of 17 bases, or of 20 in a wide band",
        remedy=f"{remedy}.",
    )


def _apart(width: int, every: int) -> int:
    """States of `window` with `every`: counts of the whole blocks before, tokens and count of the one begun."""
    return (every + 1) ** (width // every - 1) * (every * (every + 1) // 2)


__all__ = ["dna_rules", "reverse_complement", "sites"]
