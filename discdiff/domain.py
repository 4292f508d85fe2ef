"""What a domain is: strings to tokens and back, files, validity, templates, metrics. It holds no diffusion.

A third party adds a domain from its own package through the entry-point group `discdiff.domains`.
"""

from __future__ import annotations

import difflib
import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TextIO

import numpy as np
from numpy.typing import NDArray

from discdiff.errors import ConfigError, DataError, DiscdiffError, IncompatibleError
from discdiff.records import Record

if TYPE_CHECKING:
    from torch import Tensor

    from discdiff.constraints import Constraint
    from discdiff.data import Dataset, SequenceDataset
    from discdiff.rules import Rule, Rules
    from discdiff.sequences import Sequences

MASK_SYMBOL = "_"


class Domain(ABC):
    """An alphabet and all that its users know about it.

    Class attributes:
        name: the entry point's name.
        unit: what one symbol is called ("base", "residue", "character", ...): bounds are reported per unit.
        streams: whether a file is one long text, cut into blocks of the model's length (text) or a set of sequences.
        groupings: the kinds of groups that `groups` knows.
        suffix: of files that `write` writes, where these tell one record from the next: "fasta" (a header each), "smi"
            or "txt" (a line each); None where they do not.
    """

    name: ClassVar[str]
    unit: ClassVar[str] = "token"
    streams: bool = False
    groupings: ClassVar[tuple[str, ...]] = ()
    suffix: str | None = None

    # ---- tokens -----------------------------------------------------------------------------------------------------
    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """V: the number of content tokens (no mask, no padding)."""

    @abstractmethod
    def encode(self, sequence: str, *, record: object | None = None) -> list[int]:
        """Tokens of a string.

        Raises:
            UnknownTokenError: names the record, the 1-based position and the character outside the alphabet.
        """

    def encode_array(self, sequence: str, *, record: object | None = None) -> NDArray[Any]:
        """What `encode` gives, as an array of integers `[n]`: a domain may have a quicker way to it.

        Raises:
            UnknownTokenError: as `encode` does.
        """
        return np.array(self.encode(sequence, record=record), dtype=np.int64)

    @abstractmethod
    def decode(self, tokens: Sequence[int]) -> str:
        """The string of some tokens; exact inverse of `encode` (up to the recorded normalisation)."""

    @abstractmethod
    def symbols(self, tokens: Sequence[int]) -> list[str]:
        """How each token is shown to a person; the id `vocab_size` is the mask and shown as `MASK_SYMBOL`."""

    def units(self, sequence: str) -> int:
        """How many units (bases, residues, characters) a string has; the denominator of bits per unit."""
        return len(sequence)

    def parts(self, sequence: str) -> Sequence[str]:
        """What a string is counted in while no vocabulary is learned: its characters."""
        return sequence

    def counters(self) -> dict[str, Callable[[str, Sequence[int]], int]]:
        """Units that bounds may be reported in, by name: each counts a string that consists of these tokens."""
        return {"token": lambda sequence, tokens: len(tokens), self.unit: lambda sequence, tokens: self.units(sequence)}

    def counter(self, unit: str | None = None) -> Callable[[str, Sequence[int]], int]:
        """How many units a string of given tokens has; by default the domain's own.

        Raises:
            IncompatibleError: the domain has no such unit.
        """
        counters = self.counters()
        if (unit or self.unit) not in counters:
            raise IncompatibleError(
                "unit",
                got=repr(unit),
                expected=f"{' or '.join(counters)}, what {self.name} is counted in",
                remedy="Name one of these, or leave it out.",
            )
        return counters[unit or self.unit]

    def fit(self, sequences: Iterable[str]) -> Domain:
        """Learn the vocabulary from a training set, where the domain has one to learn; returns self."""
        return self

    def encode_all(self, sequences: Iterable[str]) -> Sequences:
        """Encode strings into one padded batch."""
        from discdiff.sequences import Sequences

        return Sequences.from_lists([self.encode(s, record=i + 1) for i, s in enumerate(sequences)])

    def decode_all(self, sequences: Sequences) -> list[str]:
        """Decode each row of a batch."""
        return [self.decode(row) for row in sequences.lists()]

    # ---- files ------------------------------------------------------------------------------------------------------
    @abstractmethod
    def read(self, path: str | Path, **options: Any) -> Iterator[Record]:
        """Records of a file (plain, gz, bz2 or xz), checked as they come.

        `faults` (a `discdiff.data.faults.Faults`, or None) takes the records that cannot be used: `faults.add(error)`
        raises the error or, where such records are to be left out, returns, and the reader goes on with the next.
        What is wrong with the file as a whole is raised. Other options that every domain takes where the format allows:
        `sequence_column`, `label_column`, `name_column`, `where` (mapping of column to the value that a row must have).

        Raises:
            DataError: names file, record, line or column, and the remedy.
        """

    def likeness(self, path: str | Path, **options: Any) -> float:
        """How much the beginning of a file looks like this domain's: the share of its first records that can be used.

        Options are those of `read`, as far as the format takes them. A file is taken to be of the domain with the
        smallest alphabet among those that it looks like.
        """
        from discdiff.data.faults import Faults

        faults, kept = Faults(path, "skip"), 0
        try:
            for _ in islice(self.read(path, faults=faults, **options), 100):
                kept += 1
                if faults.count > 100:
                    break
        except DataError:
            return 0.0
        return kept / max(kept + faults.count, 1)

    @abstractmethod
    def write(self, records: Iterable[Record], stream: TextIO) -> None:
        """Write records in the domain's own format (FASTA, SMILES lines, text)."""

    def dataset(self, path: str | Path, *, length: int | None = None, **options: Any) -> SequenceDataset:
        """An encoded data set of a file; see `SequenceDataset.read`.

        `length` is the longest sequence (or a stream's block). Large files are encoded into the cache, not into memory.
        """
        from discdiff.data import SequenceDataset

        return SequenceDataset.read(self, path, length=length, **options)

    def windows(self, path: str | Path, *, length: int, **options: Any) -> Dataset:
        """Windows of `length` tokens of a file's long sequences (genomes), cut out when they are asked for.

        Raises:
            ConfigError: the domain has none, or an option that it does not take.
        """
        raise ConfigError(f"windows: the domain {self.name!r} has none; they are for genomes (dna). Leave them out")

    # ---- what users know and want to know ---------------------------------------------------------------------------
    @abstractmethod
    def template(self, text: str) -> Constraint:
        """The constraint that a half-known sequence states, in the domain's template language.

        Raises:
            TemplateError: shows the template with a caret under the fault.
        """

    @property
    def rules(self) -> Mapping[str, Rule]:
        """What may be asked of sequences beside a template, by name: "forbid", "regex", ... (see `discdiff.rules`)."""
        return {}

    @property
    def validity(self) -> Rules:
        """Rules that all valid sequences keep, or nearly: they make validity as a constraint quick to draw under."""
        return {}

    @property
    def every_valid(self) -> bool:
        """Whether `invalid` finds no fault in any string of one or more tokens."""
        return False

    @abstractmethod
    def invalid(self, sequence: str) -> str | None:
        """Why a string is no valid sequence of the domain, or None if it is valid."""

    def canonical(self, sequence: str) -> str:
        """The form in which two strings that mean the same sequence are equal (`sequence` must be valid)."""
        return sequence

    def groups(self, how: str, sequences: Sequence[str], **options: Any) -> list[str | None]:
        """Which sequences belong together, for splits (`discdiff.data.splits`): those with one name do.

        Args:
            how: the kind of group, such as "scaffold" (molecules) or "identity" (similar proteins, DNA).
            sequences: valid ones.
            **options: of that kind.

        Returns:
            The name of each sequence's group; None where it has none.

        Raises:
            IncompatibleError: the domain has no such groups.
        """
        raise IncompatibleError(
            f"groups of {self.name} sequences",
            got=f"{how!r}",
            expected=" or ".join(map(repr, self.groupings)) or "another split; the domain has no groups",
            remedy="The split Hash is for every domain.",
        )

    def metrics(
        self,
        samples: Sequence[str],
        *,
        reference: Sequence[str] | None = None,
        training: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """Quality of samples: validity with reasons, uniqueness, novelty against `training`, distances to `reference`.

        Domains add their own figures to what `discdiff.metrics.basic_metrics` computes for all.
        """
        from discdiff.metrics import basic_metrics

        return basic_metrics(self, samples, reference=reference, training=training)

    def plots(
        self, folder: Path, samples: Sequence[str], *, reference: Sequence[str] | None = None
    ) -> Mapping[str, Path]:
        """Draw the domain's pictures into `folder`; maps a caption to each file."""
        return {}

    def rate_matrix(self, name: str, **options: Any) -> Tensor:
        """A rate matrix that the domain knows by name, for `RateMatrix`: Q `[V, V]`, columns summing to 0.

        States are in the order of tokens. `discdiff.processes.constructions` has what such matrices are made of.

        Args:
            name: such as "BLOSUM62" (proteins) or "HKY85" (DNA).
            **options: of that matrix.

        Raises:
            ConfigError: no such matrix (the message lists what is there), or an option that it does not take.
        """
        raise ConfigError(f"the domain {self.name!r} has no rate matrix {name!r}; it has none: give the numbers")

    # ---- run folders ------------------------------------------------------------------------------------------------
    def options(self) -> dict[str, Any]:
        """Constructor arguments that rebuild the domain (JSON values), the learned vocabulary aside."""
        return {}

    @abstractmethod
    def save_tokenizer(self, folder: Path) -> None:
        """Write `tokenizer.json` (Hugging Face tokenizers format)."""

    def load_tokenizer(self, folder: Path) -> None:
        """Read the learned vocabulary back from `tokenizer.json`; fixed alphabets have nothing to read."""
        return

    @classmethod
    def rebuilt(cls, options: Mapping[str, Any]) -> Domain:
        """The domain of saved `options()`. They may come from a stranger: none may name a file or an address."""
        return cls(**options)

    def to_json(self) -> dict[str, Any]:
        """JSON values that `from_json` reads, with the `tokenizer.json` beside them."""
        return {"name": self.name, "options": self.options()}

    @staticmethod
    def from_json(saved: Mapping[str, Any], folder: Path) -> Domain:
        """Rebuild a domain from what `to_json` gave and the `tokenizer.json` of a run folder.

        Raises:
            CheckpointError: the tokenizer cannot be read, or is another domain's.
            ConfigError: no such domain, or options that it does not take.
        """
        name, options = saved["name"], saved["options"]
        kind = _kind(name)
        try:
            loaded = kind.rebuilt(options)
            loaded.load_tokenizer(folder)
        except DiscdiffError:
            raise
        except (TypeError, ValueError, ArithmeticError, AttributeError, LookupError, RuntimeError) as error:
            raise ConfigError(f"domain {name!r}: {error}") from error
        return loaded

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.options().items())})"


def domain_names() -> list[str]:
    """Names of the installed domains."""
    return sorted({entry.name for entry in entry_points(group="discdiff.domains")})


def domain(name: str, **options: Any) -> Domain:
    """The domain called `name`, such as `domain("dna")`.

    Raises:
        ConfigError: no such domain, or an option that it does not take.
    """
    kind = _kind(name)
    try:
        return kind(**options)
    except TypeError as error:
        raise ConfigError(f"domain {name!r}: {unknown_option(error, kind)}") from error


def unknown_option(error: TypeError, kind: Callable[..., Any]) -> str:
    """What a call's TypeError says, in the words of one who gave an option that the class does not take."""
    found = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if found is None:
        return str(error)
    known = [name for name in inspect.signature(kind).parameters if not name.startswith("_")]
    near = difflib.get_close_matches(found[1], known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f" (known: {', '.join(known) or 'none'})"
    return f"unknown option {found[1]!r}{hint}"


def _kind(name: str) -> type[Domain]:
    """The class that an installed package offers under a name; nothing of it is called here."""
    found = {entry.name: entry for entry in entry_points(group="discdiff.domains")}
    if name not in found:
        near = difflib.get_close_matches(name.lower(), found, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"no domain {name!r}; installed: {', '.join(sorted(found)) or 'none'}.{hint}")
    kind = found[name].load()
    if not isinstance(kind, type) or not issubclass(kind, Domain):
        raise ConfigError(f"entry point {name!r} of discdiff.domains gives {kind!r}, which is no class of domains")
    return kind


__all__ = ["MASK_SYMBOL", "DataError", "Domain", "Record", "domain", "domain_names"]
