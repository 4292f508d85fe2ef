"""What may be asked of proteins: PROSITE patterns, composition, net charge."""

from __future__ import annotations

import re
from collections.abc import Mapping

from discdiff.errors import ConfigError, TemplateError
from discdiff.languages import Language, total
from discdiff.rules import Rule, Span
from domains.templates import LetterTemplates
from domains.values import band, letter_rules, members, nearest, nowhere, only, somewhere

# PROSITE (Sigrist et al. 2013, Nucleic Acids Res. 41:D344), by accession and by what people call it
PATTERNS = {
    ("PS00001", "N-glycosylation"): "N-{P}-[ST]-{P}",
    ("PS00004", "cAMP-phosphorylation"): "[RK](2)-x-[ST]",
    ("PS00005", "PKC-phosphorylation"): "[ST]-x-[RK]",
    ("PS00006", "CK2-phosphorylation"): "[ST]-x(2)-[DE]",
    ("PS00008", "N-myristoylation"): "G-{EDRKHPFYW}-x(2)-[STAGCN]-{P}",
    ("PS00009", "amidation"): "x-G-[RK]-[RK]",
    ("PS00014", "ER-retention"): "[KRHQSA]-[DENQ]-E-L>",
    ("PS00016", "cell-attachment"): "R-G-D",
    ("PS00017", "P-loop"): "[AG]-x(4)-G-K-[ST]",
    ("PS00028", "zinc-finger-C2H2"): "C-x(2,4)-C-x(3)-[LIVMFYWC]-x(8)-H-x(3,5)-H",
    ("PS00029", "leucine-zipper"): "L-x(6)-L-x(6)-L-x(6)-L",
    ("PS00342", "microbody-targeting"): "[STAGCN]-[RKH]-[LIVMAFY]>",
}
NAMED = {name.casefold(): pattern for names, pattern in PATTERNS.items() for name in names}
_ACCESSION = re.compile(r"PS\d+", re.ASCII | re.IGNORECASE)
_HISTIDINE = re.compile(r"(?:^|\s)H\s*=\s*([+-]?\d+)\s*$", re.ASCII)


def protein_rules(templates: LetterTemplates, letters: str) -> Mapping[str, Rule]:
    """The rules over an alphabet of residues.

    Args:
        templates: the codes, in PROSITE's syntax.
        letters: the alphabet in the order of its tokens.
    """
    size = templates.vocab_size

    def required(value: str, span: Span) -> Language:
        return somewhere(templates.pattern(pattern_of(value)), size, what=f"require {value}")

    def forbidden(value: str, span: Span) -> Language:
        return nowhere(templates.pattern(pattern_of(value)), size, what=f"forbid {value}")

    def charge(value: str, span: Span) -> Language:
        histidine = _HISTIDINE.search(value)
        charges = {"K": 1, "R": 1, "D": -1, "E": -1, "H": int(histidine[1]) if histidine else 0}
        wanted = band(value[: histidine.start()] if histidine else value, rule="charge", example="-2..3")
        most = span.longest * max(charges.values())
        for number in (wanted.low, wanted.high):
            if wanted.percent or (number is not None and number != int(number)):
                raise ConfigError(f"charge: got {value!r}, expected whole numbers, such as -2..3")
        low, high = (default if n is None else int(n) for n, default in ((wanted.low, -most), (wanted.high, most)))
        return total([charges.get(letter, 0) for letter in letters], low, high, longest=span.longest)

    def without(value: str, span: Span) -> Language:
        banned = members(value, templates, rule="forbid_residues")
        if len(banned) == size:
            raise ConfigError(f"forbid_residues: {value} leaves no residue at all; forbid fewer")
        return only(set(range(size)) - banned, size)

    return {
        "require": Rule(
            "a PROSITE pattern, or one by its name or accession, somewhere", "C-x(2,4)-C-x(3)-[LIVMFYWC]", required
        ),
        "forbid": Rule("a PROSITE pattern, or one by its name or accession, nowhere", "N-glycosylation", forbidden),
        "forbid_residues": Rule("residues that do not occur", "CW", without),
        "charge": Rule("K + R − D − E; `H=1` counts histidines too", "-2..3", charge),
        **letter_rules(templates, letters),
    }


def pattern_of(value: str) -> str:
    """The pattern of a name or accession; what is neither is a pattern itself.

    Raises:
        TemplateError: an accession that is not known, or a name misspelt: most words could be read as residues.
    """
    name = value.strip()
    if name.casefold() in NAMED:
        return NAMED[name.casefold()]
    accession = _ACCESSION.fullmatch(name)
    titles = [title for names in PATTERNS for title in names]
    near = nearest(name, titles, cutoff=0.75) if len(name) > 4 else []
    if accession or near:
        remedy = f"did you mean {near[0]}?" if near and not accession else "give the pattern itself"
        known = ", ".join(name for _, name in PATTERNS)
        raise TemplateError(f"no pattern is called {name!r}; known: {known}", template=value, column=0, remedy=remedy)
    return value


__all__ = ["PATTERNS", "pattern_of", "protein_rules"]
