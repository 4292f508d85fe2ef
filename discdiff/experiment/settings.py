"""Sections of a configuration: the data, and the training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from discdiff.data.base import Dataset
from discdiff.data.dataset import SequenceDataset
from discdiff.data.files import is_hub
from discdiff.data.splits import PARTS, Parts, Split
from discdiff.domain import Domain
from discdiff.errors import ConfigError, DataError
from discdiff.records import Record


@dataclass
class Data:
    """Which files to learn from, and how they are read.

    Attributes:
        train: the training set.
        valid: the validation set; without it, `valid_fraction` of the training set is held out.
        test: the test set, kept for `discdiff evaluate`.
        root: folder that the paths are relative to.
        split_column: a column of tables that says train, valid or test; one file then serves for all three.
        valid_fraction: what is held out without a validation set; 0 trains without one.
        split: how `train` is divided into parts (`Hash`, `Scaffold`, `Identity`, `Chromosome`, with their arguments),
            in place of `valid_fraction` and of files for the parts.
        length: the longest sequence in tokens, or the block that a stream is cut into.
        on_long: what to do with longer ones.
        on_error: what to do with records that cannot be used: stop at the first, leave them out (they are counted, and
            listed in the run folder's `skipped.jsonl`), or read everything and then refuse with a list.
        end_token: learn where sequences stop, instead of drawing lengths from the training set's.
        sequence_column: of tables.
        label_column: of tables: classes to condition on.
        name_column: of tables.
        where: of tables: keep the rows whose columns have these values.
        cache: where encoded files are kept: true for `$DISCDIFF_CACHE` or `~/.cache/discdiff`, or a folder; false
            reads into memory. By default large files are kept, small ones are not.
        windows: of genomes: `kind` (tiled or random), `stride`, `count`, `strands`, `max_unknown`, `chromosomes`,
            `exclude`; see `domains.dna.windows.GenomeWindows`.
        valid_windows: those of the validation and test sets; by default as for training.
        options: further options of the domain's reader, such as `encoding`.
    """

    train: str
    valid: str | None = None
    test: str | None = None
    root: str | None = None
    split_column: str | None = None
    valid_fraction: float = 0.05
    split: Split | None = None
    length: int | None = None
    on_long: Literal["error", "skip", "crop"] = "error"
    on_error: Literal["raise", "skip", "report"] = "raise"
    end_token: bool = False
    sequence_column: str | None = None
    label_column: str | None = None
    name_column: str | None = None
    where: dict[str, Any] | None = None
    cache: bool | str | None = None
    windows: dict[str, Any] | None = None
    valid_windows: dict[str, Any] | None = None
    options: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("valid", "test", "split_column") if getattr(self, name) is not None]
        if self.split is not None and given:
            raise ConfigError(f"data.split and data.{given[0]} both say where the parts are; leave one of them out")

    def path(self, split: str) -> Path | None:
        """The file of a split, or None if there is none."""
        name: str | None = getattr(self, split)
        if name is None and self.split_column is not None:
            name = self.train
        if name is None or is_hub(name):
            return None if name is None else Path(name)
        return Path(self.root or "", name)

    def reader_options(self, split: str) -> dict[str, Any]:
        """Options of `Domain.read` for a split."""
        where = dict(self.where or {})
        if self.split_column is not None:
            where[self.split_column] = split
        columns = {name: getattr(self, name) for name in ("sequence_column", "label_column", "name_column")}
        given = {name: value for name, value in columns.items() if value is not None}
        return given | ({"where": where} if where else {}) | (self.options or {})

    def parts(self, domain: Domain, *, seed: int, progress: bool = False) -> Parts[Dataset]:
        """The parts that `split` makes of the training file.

        Raises:
            DataError: what is wrong with the file, and where; a part would be empty.
            IncompatibleError: the domain cannot tell what the split needs.
        """
        assert self.split is not None
        if not domain.streams or self.split.reads("train") is None:
            whole = self.read(domain, "train", progress=progress)
            if not isinstance(whole, SequenceDataset):
                raise ConfigError("data.split: windows have parts of their own: data.windows and data.valid_windows")
            return self.split.divide(whole, seed=seed)
        # one long stream has no records any more once it is cut into blocks
        made: dict[str, Dataset] = {}
        for part in self.split.wanted:
            made[part] = self.read_part(domain, part)
        sizes = {part: len(made[part]) if part in made else 0 for part in PARTS}
        record = self.split.describe(seed, sizes) | {"data_checksum": {k: v.checksum() for k, v in made.items()}}
        notes = [self.split.summary(seed, sizes)]
        return Parts(made["train"], made.get("valid"), made.get("test"), None, record, notes)

    def read_part(self, domain: Domain, part: str) -> Dataset:
        """A part of a stream, for a split that needs nothing but the record itself.

        Raises:
            DataError: no record is of this part; the message lists names that were found.
        """
        assert self.split is not None
        keep = self.split.reads(part)
        assert keep is not None
        names: dict[str, bool] = {}

        def noted(record: Record) -> bool:
            return names.setdefault(record.name or "", keep(record))

        try:
            return self.read(domain, "train", keep=noted)
        except DataError as error:
            if names and not any(names.values()):
                raise self.split.nothing(part, list(names)) from error
            raise

    def read(
        self,
        domain: Domain,
        split: str,
        *,
        label_names: list[str] | None = None,
        keep: Callable[[Record], bool] | None = None,
        progress: bool = False,
    ) -> Dataset:
        """The data set of a split, or of the records that `keep` takes.

        Raises:
            ConfigError: there is no such split.
            DataError: what is wrong with the file, and where.
        """
        path = self.path(split)
        if path is None:
            raise ConfigError(f"data.{split}: no file is named")
        try:
            if self.windows is not None or self.valid_windows is not None:
                return self._windows(domain, path, split)
            return SequenceDataset.read(
                domain,
                path,
                length=self.length,
                on_long=self.on_long,
                on_error=self.on_error,
                label_names=label_names,
                end_token=self.end_token,
                keep=keep,
                cache=self.cache,
                progress=progress,
                **self.reader_options(split),
            )
        except DataError as error:
            if self.root is None and not path.exists() and not path.is_absolute() and not is_hub(path):
                raise DataError(
                    f"no such file (data.{split})", path=path, remedy="--data-root FOLDER says where the data are"
                ) from error
            raise

    def _windows(self, domain: Domain, path: Path, split: str) -> Dataset:
        other = [name for name in ("end_token", "label_column", "where", "split_column") if getattr(self, name)]
        if other:
            raise ConfigError(f"data.windows: windows of a genome have no {other[0]}; leave out data.{other[0]}")
        if self.length is None:
            raise ConfigError("data.windows: windows have a length; give data.length")
        windows = self.valid_windows if split != "train" and self.valid_windows is not None else self.windows
        return domain.windows(path, length=self.length, **(windows or {}), **(self.options or {}))


@dataclass
class Training:
    """How long and how to train: the arguments of `discdiff.fit`, where each is explained."""

    max_steps: int = 10_000
    max_minutes: float | None = None
    batch_size: int = 64
    accumulate: int = 1
    workers: int | None = None
    optimizer: Literal["muon", "adamw"] = "muon"
    learning_rate: float = 3e-3
    warmup_steps: int | None = None
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    gradient_clip: float | None = 1.0
    ema_decay: float | None = 0.999
    precision: Literal["auto", "float32", "bf16", "bfloat16", "float64"] = "auto"
    compile: bool = False
    gradient_checkpointing: bool = False
    device: str = "auto"
    devices: int | None = None
    nodes: int | None = None
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    validate_every: int | None = None
    validate_sequences: int | None = 1024
    validate_samples: int = 4
    profile_sequences: int = 64
    samples_every: int | None = None
    samples: int = 8
    log_every: int = 50
    checkpoint_minutes: float = 5.0
    on_divergence: Literal["stop", "skip"] = "stop"
    max_skipped: int = 10
    loggers: tuple[Literal["csv", "tensorboard"], ...] = ("csv", "tensorboard")


__all__ = ["Data", "Training"]
