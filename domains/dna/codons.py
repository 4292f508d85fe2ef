"""DNA that codes for a given protein: an automaton of codons, so that the model chooses among synonyms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from discdiff.errors import ConfigError, TemplateError, require
from discdiff.languages import Choice, Expression, Language, Sequential, compile_expression, one_of, word
from domains.residues import AMBIGUOUS, AMINO_ACIDS
from domains.templates import Gap, LetterTemplates
from domains.values import band, nearest, whole

OPTIONS = ("table", "stop", "start", "before", "after")
EXAMPLE = "MKVLA* table=11"

# U and O are coded by stop codons in a context that no table holds, so they are no residues here.
_RESIDUES = {letter: [token] for token, letter in enumerate(AMINO_ACIDS)}
_CODES = {code: [_RESIDUES[letter][0] for letter in meant] for code, meant in AMBIGUOUS.items() if code not in "OU"}
PROTEINS = LetterTemplates(
    _RESIDUES | _CODES | {"_": range(len(AMINO_ACIDS))}, len(AMINO_ACIDS), "residue", " \t\r\n-", prosite=True
)


def coding(value: str, letters: str) -> Language:
    """The language of DNA that codes in frame for a protein, with no stop codon inside.

    Args:
        value: the protein, as a sequence or a PROSITE pattern of its whole, and options: `table` (number or name of a
            genetic code of NCBI), `stop` (`yes`: a stop codon at the end; so does a `*`), `start` (`any`: the first
            residue, an M, may be any start codon of the table), `before` and `after` (free bases around it).
        letters: the bases in the order of their tokens.

    Raises:
        ConfigError: an unknown option, genetic code, or value.
        TemplateError: the protein cannot be read.
    """
    words = value.split()
    options: dict[str, str] = {}
    for each in words:
        name, equals, said = each.partition("=")
        if equals and name not in OPTIONS:
            near = nearest(name, OPTIONS)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"codes: no option {name!r}; it has: {', '.join(OPTIONS)}.{hint}")
        if equals:
            options[name] = said
    protein = "".join(each for each in words if "=" not in each)
    table = _table(options.get("table", "1"))
    stop = _yes(options.get("stop", "yes" if protein.endswith("*") else "no"), "stop")
    parts = _residues(protein.removesuffix("*"), table, letters, any_start=_any_start(options.get("start", "M")))
    if stop:
        parts.append(_one_of(sorted(table.stop_codons), letters))
    around = [one_of([letters.index(base) for base in "ACGT"]) for _ in range(2)]
    before, after = (_free(options.get(name, "0"), name) for name in ("before", "after"))
    whole_ = [around[0].repeated(*before), *parts, around[1].repeated(*after)]
    return compile_expression(Sequential(tuple(whole_)), len(letters), what="codes")


def _residues(protein: str, table: Any, letters: str, *, any_start: bool) -> list[Expression]:
    codons: dict[str, list[str]] = {}
    for codon, residue in sorted(table.forward_table.items()):
        # In some codes a stop codon codes for a residue too, as its place decides; inside it would be a stop.
        if codon not in table.stop_codons:
            codons.setdefault(residue, []).append(codon)
    known: Mapping[int, list[str]] = {token: codons.get(residue, []) for token, residue in enumerate(AMINO_ACIDS)}
    if "*" in protein:
        raise TemplateError(
            "a stop codon inside the protein", template=protein, column=protein.index("*"), remedy="only at the end"
        )
    pattern = PROTEINS.pattern(protein)
    parts: list[Expression] = []
    for position in pattern.positions:
        one = None if position is None or isinstance(position, Gap) else frozenset(position)
        gap = position if isinstance(position, Gap) else Gap(one, 1, 1)
        tokens = sorted(gap.tokens) if gap.tokens is not None else sorted(known)
        meant = [codon for token in tokens for codon in known[token]]
        if any_start and not parts:
            if tokens != [AMINO_ACIDS.index("M")]:
                raise TemplateError("start=any is for proteins that begin with M", template=protein, column=0)
            meant = sorted({*meant, *table.start_codons})
        assert meant, f"genetic code {table.id} has no codon for {tokens}"  # none of Biopython's is so
        part = _one_of(meant, letters)
        parts.append(part if gap.low == gap.high == 1 else part.repeated(gap.low, gap.high))
    return parts


def _one_of(codons: Sequence[str], letters: str) -> Expression:
    return Choice(tuple(word(letters.index(base) for base in codon) for codon in codons))


def _table(name: str) -> Any:
    tables = require("Bio.Data.CodonTable").unambiguous_dna_by_id
    names = {str(title): number for number, each in tables.items() for title in each.names if title}
    plain = {title.casefold(): number for title, number in names.items()}
    number = int(name) if name.isdecimal() else plain.get(name.replace("_", " ").casefold(), -1)
    if number not in tables:
        near = nearest(name.replace("_", " "), names)
        hint = f" Did you mean {near[0].replace(' ', '_')}?" if near else ""
        numbers = ", ".join(map(str, sorted(tables)))
        raise ConfigError(f"codes: no genetic code {name!r}; Biopython has {numbers}, and their names.{hint}")
    return tables[number]


def _yes(said: str, option: str) -> bool:
    if said not in ("yes", "no"):
        raise ConfigError(f"codes: {option}={said}, expected yes or no")
    return said == "yes"


def _any_start(said: str) -> bool:
    if said not in ("M", "any"):
        raise ConfigError(f"codes: start={said}, expected M (its own codons) or any (all start codons of the table)")
    return said == "any"


def _free(said: str, option: str) -> tuple[int, int]:
    if said.isdecimal():
        number = whole(said, rule=f"codes: {option}", example="20", least=0)
        return number, number
    low, high = band(said, rule=f"codes: {option}", example="0-30").counts(f"codes: {option}")
    if high is None or low < 0:
        raise ConfigError(f"codes: {option}={said}, expected how many bases at least and at most, such as 0-30")
    return low, high


__all__ = ["EXAMPLE", "OPTIONS", "coding"]
