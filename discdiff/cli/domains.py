"""List the domains: alphabets, file formats, template languages.

examples:
  discdiff domains                                              # all of them, briefly
  discdiff domains protein                                      # one of them, in full
  discdiff domains --json
"""

from __future__ import annotations

import argparse
import inspect
from typing import TYPE_CHECKING, Any

from discdiff.cli import output

if TYPE_CHECKING:
    from discdiff.domain import Domain

SHOWN = 60
GAPS = {
    "dna": "N{30} is 30 bases, N{4-8} 4 to 8",
    "protein": "x(3) is 3 residues, x(2,4) 2 to 4",
    "smiles": "{4} is 4 tokens, {4-8} 4 to 8, _ one; <C|N|O> is one of these",
    "text": "[MASK] is one token, [MASK:3] 3, [MASK:3-8] 3 to 8; [MASK=he|she] is one of these, [MASK/\\d+/] a pattern",
    "tokens": "?{4} is 4 tokens, ?{4-6} 4 to 6, ? one; 1|2|7 is one of these",
}
EXAMPLES = {
    "dna": ("FASTA, FASTQ, GenBank, CSV, TSV, Parquet", "N{20}TATAWAW N{30} ATG"),
    "protein": ("FASTA, Stockholm, GenBank, CSV, TSV, Parquet", "M-x(3)-[LIVM]-{P}-G"),
    "smiles": ("smi, CSV, TSV, SDF, Parquet", "c1ccccc1{6}C(=O)O"),
    "text": ("txt, jsonl, CSV, TSV, Parquet", "running is [MASK] for your [MASK:3] (3 tokens)"),
    "tokens": ("npy, CSV, TSV, Parquet, text", "[5, 3, ?, ?{4}, 1|2|7]"),
}
STARTS = {
    "dna": ("TATAAT", "TATAAT N{%d}"),
    "protein": ("MC", "M-x(%d)-C"),
    "smiles": ("CO", "C{%d}O"),
    "text": ("the", "the[MASK:%d]"),
    "tokens": ("0", "[0, ?{%d}]"),
}
"""Symbols that stay, and a template of them with one gap, which fits any length: for examples of a run's own."""
HELD_OUT = {"dna": "held_out.fasta", "protein": "held_out.fasta", "smiles": "held_out.smi"}
"""What a file may be called; elsewhere text."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="one domain, in full")
    output.add_output_arguments(parser, "text")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from discdiff.domain import domain, domain_names

    output.check_output(arguments.output)
    if arguments.name is not None:
        found = [_facts(arguments.name, domain(arguments.name))]
    else:
        found = [_facts_or_fault(name) for name in domain_names()]
    with output.results(arguments.output) as stream:
        for facts in found:
            if arguments.json:
                output.write_json(facts, stream)
                continue
            stream.write(f"{facts['name']}\n")
            text = facts["documentation"] if arguments.name is not None else facts["summary"]
            stream.write("".join(f"  {line}\n".replace("  \n", "\n") for line in text.splitlines()))
            for key in ("alphabet", "files", "template", "gaps"):
                if facts[key]:
                    stream.write(f"  {key + ':':<10}{facts[key]}\n")
            for rule, (help_, example) in facts["rules"].items():
                stream.write(f"  {'rule:':<10}{rule}={example}".ljust(44) + f"  {help_}\n")
            stream.write("\n")
    return 0


def _facts_or_fault(name: str) -> dict[str, Any]:
    """One domain that cannot be loaded is no reason to hide the others."""
    from discdiff.domain import domain
    from discdiff.errors import DiscdiffError

    try:
        return _facts(name, domain(name))
    except (DiscdiffError, ImportError, AttributeError) as error:
        fault = f"cannot be loaded: {error}"
        empty = dict.fromkeys(("unit", "alphabet", "files", "template", "gaps"), "")
        return {"name": name, "summary": fault, "documentation": fault, "rules": {}, **empty}


def _facts(name: str, found: Domain) -> dict[str, Any]:
    documentation = inspect.getdoc(type(found)) or ""
    files, template = EXAMPLES.get(name, ("", ""))
    return {
        "name": name,
        "unit": found.unit,
        "summary": documentation.split("\n\n")[0],
        "alphabet": _alphabet(found),
        "files": files + (", each plain or compressed (gz, bgz, bz2, xz)" if files else ""),
        "template": template,
        "gaps": GAPS.get(name, ""),
        "rules": {rule: (known.help, known.example) for rule, known in found.rules.items()},
        "documentation": documentation,
    }


def _alphabet(found: Domain) -> str:
    from discdiff.errors import DiscdiffError

    try:
        size = found.vocab_size
        symbols = found.symbols(range(min(size, SHOWN)))
    except DiscdiffError:
        return "learned from the training set"
    return f"{size} tokens: {' '.join(symbols)}" + (" …" if size > SHOWN else "")
