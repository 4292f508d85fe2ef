"""The folder that is given away: a run folder with a model card, and nothing of the run that made it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from discdiff import __version__
from discdiff.errors import CheckpointError, ConfigError
from discdiff.manifest import CONFIG_FILE, read_manifest
from discdiff.release.card import card
from discdiff.release.facts import facts, training
from discdiff.release.hub import CARD_FILE, TOKENIZER_CONFIG_FILE, located, parse, release_folder, upload
from discdiff.run_folder import Run, load_run, save_run
from discdiff.writing import WRITING_ERRORS, reason, remedy


def export(source: str | Path, folder: str | Path, *, name: str | None = None) -> Path:
    """Write the model of a run folder, or of one of its checkpoints, as a folder of its own.

    The folder appears whole or not at all. A checkpoint gives its averaged weights, where training kept an average; all
    else comes from the run folder that it lies in.

    Args:
        source: a run folder, `RUN/checkpoints/NAME.ckpt`, or `hf://OWNER/NAME`.
        folder: to write; empty, or not there yet.
        name: of the model, on its card; by default the folder's.

    Raises:
        CheckpointError: no run, a damaged one, or a folder that holds files already.
    """
    folder = Path(folder)
    check_target(folder)
    run = read_source(source)
    with _told(folder), _whole(folder) as fresh:
        write_release(run, fresh, name or folder.resolve().name)
    return folder


def read_source(source: str | Path) -> Run:
    """The model of a run folder, of one of its checkpoints, or of the Hub, with what is known of its training.

    Raises:
        CheckpointError: no run, or a damaged one.
    """
    home, origin = located(source)
    checkpoint = home if home.suffix == ".ckpt" else None
    if checkpoint is not None:
        home = checkpoint.parent.parent
    run = load_run(home)
    run = replace(run, training=_shared(training(home, read_manifest(home))), source=origin or run.source)
    if checkpoint is not None:
        run = replace(_with_checkpoint(run, checkpoint), profile=None)  # which is of other weights
    return run


def push(run: Run, place: str, *, private: bool = False, message: str | None = None) -> str:
    """Put a model on the Hugging Face Hub, as one commit; gives the name that pins it, `hf://OWNER/NAME@COMMIT`.

    Args:
        run: the model.
        place: `OWNER/NAME`, with or without `hf://`; made if it is not there.
        private: if it is made, for the owner alone.
        message: of the commit.

    Raises:
        ConfigError: a name that cannot be read, or one with a revision.
        CheckpointError: not logged in, no right to write there, or the Hub cannot be reached.
    """
    name, revision = parse(place)
    if revision is not None:
        raise ConfigError(f"{place}: the Hub names the revision; leave @{revision} out")
    with release_folder() as folder:
        with _told(folder):
            folder.mkdir()
            write_release(run, folder, name.partition("/")[2], repository=name)
        return upload(folder, name, private=private, message=message or f"Model by discdiff {__version__}")


def write_release(run: Run, folder: Path, name: str, *, repository: str | None = None) -> None:
    """Write the files of a release into a folder."""
    tokenizer = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": run.max_length,
    }
    save_run(run, folder, beside={TOKENIZER_CONFIG_FILE: json.dumps(tokenizer, indent=2) + "\n"})
    found = facts(folder)
    found["training"] |= {"command": (run.training or {}).get("command")}
    found["model"] |= {"sampler": found["sampling"]["sampler"]}
    (folder / CARD_FILE).write_text(card(found, name, repository or f"OWNER/{name}"), encoding="utf-8", newline="")


def check_target(folder: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        CheckpointError: it does, or is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder}: a file of that name exists; name another folder")
    if folder.is_dir() and any(folder.iterdir()):
        held = "a model" if (folder / CONFIG_FILE).exists() else "files"
        raise CheckpointError(f"{folder}: holds {held} already; name another folder, or remove it first")
    if not folder.absolute().parent.is_dir():
        raise CheckpointError(f"{folder}: the folder {folder.parent} does not exist; create it first")


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """What cannot be written, in a sentence: a full disk does not say of which file."""
    try:
        yield
    except WRITING_ERRORS as error:
        place = folder.absolute().parent
        raise CheckpointError(f"{place}: no model can be written there ({reason(error)}). {remedy(error)}.") from error


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder to write into, which takes its name once everything is in it."""
    fresh = folder.absolute().with_name(f".{folder.absolute().name}.{os.getpid()}")
    fresh.mkdir()
    try:
        yield fresh
        fresh.replace(folder.absolute())  # an empty folder of that name gives way
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def _with_checkpoint(run: Run, path: Path) -> Run:
    """The run with the averaged weights of a checkpoint of its training."""
    from discdiff.training.checkpoint_io import AtomicCheckpointIO
    from discdiff.weights import check_layout, layout_of

    loaded = AtomicCheckpointIO().load_checkpoint(path)
    state = loaded.get("state_dict")
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: holds no weights (state_dict); give a checkpoint that `discdiff train` wrote")
    # under the name that the training module has for the model
    weights = {str(name).removeprefix("model."): value for name, value in state.items()}
    check_layout(layout_of(run.model.state_dict()), layout_of(weights), path)
    run.model.load_state_dict(weights)
    steps = loaded.get("global_step")
    known = {**(run.training or {}), "steps": steps if isinstance(steps, int) else None}
    return replace(run, training=known | {"validation_bound": None, "seconds": None})


def _shared(value: Any) -> Any:
    """What is told of the training, with names for absolute paths: where files lie is nobody else's concern."""
    if isinstance(value, dict):
        return {key: _shared(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shared(item) for item in value]
    if isinstance(value, str):
        option, equals, word = value.rpartition("=")
        path = PurePath(word)
        return f"{option}{equals}{path.name}" if path.is_absolute() or word.startswith("~") else value
    return value


__all__ = ["check_target", "export", "push", "read_source", "write_release"]
