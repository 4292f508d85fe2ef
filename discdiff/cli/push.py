"""Push a run to the Hugging Face Hub, with a model card. Log in first, with `hf auth login`.

examples:
  discdiff push runs/promoters OWNER/promoters
  discdiff push runs/promoters OWNER/promoters --private
  discdiff sample hf://OWNER/promoters -n 10                        # what it is for

What is sent are the files that `discdiff export` writes, as one commit. The name that pins it is printed.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("source", metavar="RUN", help="run folder, or one of its checkpoints")
    parser.add_argument("name", metavar="OWNER/NAME", help="on the Hub; made if it is not there")
    parser.add_argument("--private", action="store_true", help="if it is made, for the owner alone")
    parser.add_argument("--message", metavar="TEXT", help="of the commit")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from discdiff.release.export import push, read_source

    print(push(read_source(arguments.source), arguments.name, private=arguments.private, message=arguments.message))
    return 0
