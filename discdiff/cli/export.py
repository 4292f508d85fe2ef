"""Export a run as a folder to give away: config, weights, tokenizer, model card, and nothing of the run that made it.

examples:
  discdiff export runs/promoters promoters
  discdiff export runs/promoters/checkpoints/last.ckpt promoters    # a checkpoint's weights, averaged where they were
  discdiff export hf://OWNER/NAME promoters                         # a model of the Hugging Face Hub, to change it

The folder appears whole or not at all, and every command takes it as RUN. Files are named in the card and the config
without the folders that they lay in. transformers.AutoTokenizer reads its tokenizer.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("source", metavar="RUN", help="run folder, one of its checkpoints, or hf://OWNER/NAME")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="to write; empty, or not there yet")
    parser.add_argument("--name", metavar="NAME", help="of the model, on its card; default: the folder's")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from discdiff.release.export import export

    folder = export(arguments.source, arguments.folder, name=arguments.name)
    print(f"next: choose a licence in {folder / 'README.md'}", file=sys.stderr)
    print(folder)
    return 0
