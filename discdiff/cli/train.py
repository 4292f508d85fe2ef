"""Train a model on a file, or as a configuration says.

examples:
  discdiff train molecules.smi --domain smiles --output runs/mine       # default sizes, 5 % held out
  discdiff train --config configs/ecoli_promoters.yaml --data-root data # runs/ecoli_promoters
  discdiff train --config my.yaml --training.max_steps 2000 --network.dim 128
  discdiff train --config my.yaml --process Uniform --parameterization Score --loss ScoreEntropy
  discdiff train --output runs/mine --resume                            # goes on from the last checkpoint
  torchrun --nproc-per-node 2 -m discdiff train --config my.yaml        # on two GPUs, or two processes

Any key of a configuration is an option, after all else:
  --domain NAME     dna, protein, smiles, text, tokens; --domain.KEY for the domain's own options
  --data.KEY        train, valid, test, root, split (Hash, Scaffold, Identity, Chromosome), split_column,
                    valid_fraction, length, on_long, on_error, end_token, sequence_column, label_column, name_column,
                    where.COLUMN, cache, windows, valid_windows, options
  --process, --network, --schedule, --parameterization, --loss: a class, or with .KEY an argument of it
  --training.KEY    max_steps, max_minutes, batch_size, accumulate, workers, optimizer, learning_rate, warmup_steps,
                    schedule, betas, weight_decay, gradient_clip, ema_decay, precision, compile,
                    gradient_checkpointing, device, devices, nodes, strategy, validate_every, validate_sequences,
                    validate_samples, profile_sequences, samples_every, samples, log_every, checkpoint_minutes,
                    on_divergence, max_skipped, loggers: the arguments of discdiff.fit
  --sampling.KEY    sampler, steps, temperature, top_k, top_p: the run's defaults
  --seed
The run folder's config.yaml has all of them, with their values.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from discdiff.errors import CheckpointError, ConfigError
from discdiff.launch import is_first
from discdiff.unfinished import CHECKPOINT, LOCK_FILE, SETTINGS_FILE, begun

if TYPE_CHECKING:
    from discdiff.experiment import Experiment

# the first words of configuration keys (the fields of `Experiment`)
SECTIONS = (
    "domain", "data", "process", "network", "schedule", "parameterization", "loss", "training", "sampling", "seed",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.usage = "discdiff train [FILE] [--config FILE] [--output FOLDER] [--KEY VALUE ...]"
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="training set; else the configuration's")
    parser.add_argument("--config", type=Path, metavar="FILE", help="a YAML file, such as those in configs/")
    parser.add_argument("--data-root", metavar="FOLDER", help="folder that the configuration's paths are relative to")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="run folder; default: runs/ and the file's name")
    parser.add_argument("--resume", action="store_true", help="go on from the run folder's last checkpoint")
    parser.add_argument("--overwrite", action="store_true", help="replace the run that the folder holds")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")


def split(words: Sequence[str], parser: argparse.ArgumentParser) -> tuple[list[str], list[str]]:
    """Divide the command line into the command's own words and `--key value` pairs of the configuration."""
    options = set(parser._option_string_actions)
    own: list[str] = []
    configuration: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        name = word.split("=")[0]
        if not name.startswith("--") or name in options:
            own.append(word)
            continue
        if name[2:].split(".")[0].replace("-", "_") not in SECTIONS:
            key = name[2:].replace("-", "_")
            near = [f"--{section}.{key}" for section, keys in _keys() if key in keys] or difflib.get_close_matches(
                name, [*options, *(f"--{section}" for section in SECTIONS)], n=1
            )
            parser.error(f"unknown option {name}" + (f"; did you mean {near[0]}?" if near else ""))
        configuration.append(word)
        if "=" not in word and queue:
            configuration.append(queue.pop(0))
    return own, configuration


def _keys() -> list[tuple[str, list[str]]]:
    """The keys of each section, as the help lists them: what has them needs torch."""
    found = re.findall(r"^  --(\w+)\.KEY(.*?)(?=^  --)", __doc__ or "", re.M | re.S)
    return [(section, re.findall(r"\w+", listed)) for section, listed in found]


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    folder, first = _folder(arguments), is_first()
    arguments.quiet |= not first
    if first:
        _check_folder(folder, arguments)
    experiment = _experiment(arguments, folder)
    if not arguments.quiet:
        print(f"training {folder} on {experiment.data.path('train')}", file=sys.stderr)
    result = experiment.run(
        folder, resume=arguments.resume, overwrite=arguments.overwrite, progress=not arguments.quiet
    )
    if not arguments.quiet:
        print(f"{result}\nnext: discdiff sample {folder} -n 10", file=sys.stderr)
    if first:
        print(folder)
    return 0


def _folder(arguments: argparse.Namespace) -> Path:
    if arguments.output is not None:
        return Path(arguments.output)
    source = arguments.config or arguments.file
    if source is None:
        raise ConfigError("name a file to learn from, or a configuration: --config FILE. See `discdiff train --help`.")
    return Path("runs") / source.name.split(".")[0]


def _check_folder(folder: Path, arguments: argparse.Namespace) -> None:
    """Refuse at once a folder that is in use, or that has nothing to resume from."""
    if arguments.resume and arguments.overwrite:
        raise ConfigError("--resume and --overwrite exclude one another")
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder}: a file of that name exists; name another folder with --output")
    if arguments.resume:
        if not (folder / CHECKPOINT).is_file() and not begun(folder):
            raise CheckpointError(f"{folder}: no checkpoint to resume from; leave out --resume to start a run")
        if arguments.config is None and arguments.file is None and not (folder / SETTINGS_FILE).is_file():
            raise CheckpointError(
                f"{folder}: has no {SETTINGS_FILE} that says how to go on; give the first command again, with --resume"
            )
    elif not arguments.overwrite and folder.is_dir() and any(path.name != LOCK_FILE for path in folder.iterdir()):
        raise CheckpointError(
            f"{folder}: the folder is not empty. {'Go on with --resume, replace' if begun(folder) else 'Replace'} it "
            "with --overwrite, or name another with --output."
        )


def _experiment(arguments: argparse.Namespace, folder: Path) -> Experiment:
    from discdiff.data.files import check_file
    from discdiff.experiment import Experiment

    config: Path | None = arguments.config
    if config is None and arguments.resume and arguments.file is None:
        config = folder / "config.yaml"
    values: dict[str, Any] = {}
    if arguments.file is not None:
        if arguments.file.suffix in (".yaml", ".yml"):
            raise ConfigError(f"{arguments.file}: a configuration? Give it as --config {arguments.file}")
        check_file(arguments.file)
        if config is None:
            values = _quick_start(arguments.configuration, quiet=arguments.quiet)
        alone = dict.fromkeys(("valid", "test", "root", "split_column"))
        values["data"] = values.get("data", {}) | alone | {"train": str(arguments.file)}
    if arguments.data_root is not None:
        values.setdefault("data", {})["root"] = arguments.data_root
    return Experiment.load(config, values=values, overrides=arguments.configuration)


def _quick_start(configuration: Sequence[str], *, quiet: bool) -> dict[str, Any]:
    """Sizes for a file without a configuration: what is worth waiting for on the machine at hand."""
    import torch

    from discdiff.cli.reading import usual_length
    from discdiff.domain import domain_names

    words = [part for word in configuration for part in word.split("=", 1)]
    name = dict(pairwise(words)).get("--domain")
    if name is None:
        raise ConfigError(f"name the domain: --domain {' or '.join(domain_names())}")
    values: dict[str, Any] = {"domain": name}
    if (length := usual_length(name)) is not None:
        values["data"] = {"length": length}
    if not torch.cuda.is_available():
        if not quiet:
            print(
                "no GPU: a small model, 20 minutes at most; see --network.dim, --training.max_minutes", file=sys.stderr
            )
        values["network"] = {"class_path": "Transformer", "init_args": {"dim": 128, "depth": 4}}
        values["training"] = {"max_minutes": 20, "learning_rate": 5e-3}
    return values
