"""Complete a half-known sequence: what the template gives stays, the rest is drawn.

examples:
  discdiff infill runs/promoters 'N{20}TATAWAW N{23}' -n 16     # DNA: IUPAC codes, N{20} for 20 free bases
  discdiff infill runs/zinc 'c1ccccc1{6}C(=O)O' -n 16           # SMILES: {6} for 6 free tokens
  discdiff infill runs/uniprot 'M-x(40)-C-x(2)-C' -n 4          # protein: PROSITE
  discdiff infill runs/text 'To be, or [MASK:24] question'      # text
  discdiff infill runs/promoters 'TTGACA N{16-18} TATAAT' --forbid EcoRI --rule gc=40-60%
  discdiff infill runs/zinc 'c1ccccc1{6}C(=O)O' -n 1000000 -o acids/   # part files; see docs/generation.md

`discdiff domains` explains each template language. Put `--` before a template that begins with a dash.
"""

from __future__ import annotations

import argparse

from discdiff.cli import jobs, options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_run_argument(parser)
    parser.add_argument("template", metavar="TEMPLATE", help="what is known, in the domain's template language")
    options.add_rule_arguments(parser)
    options.add_sampling_arguments(parser)
    jobs.add_output_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    into = jobs.folder(arguments)
    asked, how = options.rules(arguments), options.sampling(arguments)  # before the model is loaded
    options.check_asked(arguments.run_folder, asked, template=arguments.template)
    how |= {"rules": asked, "valid": arguments.valid, "template": arguments.template}
    return jobs.to_stream(arguments, how) if into is None else jobs.to_folder(arguments, how, into)
