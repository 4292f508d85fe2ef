"""What a file holds: counts, lengths, alphabet, duplicates, invalid records. Read once, a record at a time."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from discdiff.data.faults import Fault, Faults
from discdiff.data.paths import is_hub, plain_suffix
from discdiff.data.streams import open_text
from discdiff.data.tables import columns_of, is_table
from discdiff.errors import ConfigError, DataError, DiscdiffError

if TYPE_CHECKING:
    from discdiff.domain import Domain
    from discdiff.records import Record

LIKELY, POSSIBLE = 0.9, 0.5
"""What `Domain.likeness` must reach for a guess: for that of the smallest alphabet, and for the best of worse ones."""
SHARES = (0.5, 0.9, 0.95, 0.99, 1.0)
_DISTINCT = 100_000  # different symbols or labels that are counted one by one


@dataclass
class Inspection:
    """What was found in a file.

    Attributes:
        path, domain: what was read, and as what.
        records: sequences that can be used; of a stream, parts that it was read in.
        unit: what `lengths` and `symbols` count: token, or a unit of the domain whose vocabulary is not learned yet.
        lengths: how many sequences of each length.
        symbols: how often each symbol occurs, the most frequent first; shown as a person sees it.
        stream: whether the file is one text that is cut into blocks: then there are no lengths of records.
        faults: how many records cannot be used for each reason, the most frequent first.
        first: the first record with each of these faults.
        duplicates: records that repeat an earlier one letter by letter; None for a stream.
        duplicate_places: the places of the first such pairs, (later, earlier).
        canonical_duplicates: records that mean the same as an earlier one (`Domain.canonical`); None if not asked.
        labels: how many records of each class; empty without a label column.
        columns: of a table.
        remarks: what the reader says besides.
        whole: False if reading stopped at a limit.
    """

    path: str
    domain: str
    unit: str
    stream: bool
    records: int = 0
    lengths: Counter[int] = field(default_factory=Counter)
    symbols: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    first: dict[str, Fault] = field(default_factory=dict)
    duplicates: int | None = None
    duplicate_places: list[tuple[int, int]] = field(default_factory=list)
    canonical_duplicates: int | None = None
    labels: Counter[str] = field(default_factory=Counter)
    columns: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    whole: bool = True

    @property
    def total(self) -> int:
        """Symbols in all."""
        return sum(length * count for length, count in self.lengths.items())

    def quantile(self, share: float) -> int:
        """The shortest length that at least `share` of the sequences do not exceed."""
        seen = 0
        for length in sorted(self.lengths):
            seen += self.lengths[length]
            if seen >= share * self.records:
                return length
        return 0

    def longer(self, length: int) -> tuple[int, int]:
        """What `length=` would cut: the number of longer sequences, and the symbols past it."""
        over = {size: count for size, count in self.lengths.items() if size > length}
        return sum(over.values()), sum((size - length) * count for size, count in over.items())

    def to_json(self, length: int | None = None) -> dict[str, Any]:
        """All of it as JSON values; with `length`, what that would cut too."""
        found: dict[str, Any] = {
            "path": self.path, "domain": self.domain, "records": self.records, "whole": self.whole,
            "unit": self.unit, "stream": self.stream, "total": self.total,
        }  # fmt: skip
        if self.records and not self.stream:
            marks = {"min": 0.0, "lower_quartile": 0.25, "median": 0.5, "upper_quartile": 0.75, "max": 1.0}
            found["length"] = {name: self.quantile(share) for name, share in marks.items()}
            found["length"]["mean"] = self.total / self.records
            found["lengths"] = {str(size): self.lengths[size] for size in sorted(self.lengths)}
        if length is not None and not self.stream:
            count, symbols = self.longer(length)
            found["cut"] = {"length": length, "records": count, "symbols": symbols}
        found["symbols"] = dict(self.symbols.most_common())
        found["invalid"] = {
            "count": sum(self.faults.values()),
            "reasons": [
                {"reason": reason, "count": count, "first": str(self.first.get(reason, ""))}
                for reason, count in self.faults.most_common()
            ],
        }
        found |= {"duplicates": self.duplicates, "canonical_duplicates": self.canonical_duplicates}
        return found | {"labels": dict(self.labels), "columns": self.columns, "remarks": self.remarks}


def inspect(
    domain: Domain,
    path: str | Path,
    *,
    canonical: bool = True,
    limit: int | None = None,
    listing: str | Path | None = None,
    **options: Any,
) -> Inspection:
    """Read a file to its end and count what is in it. What cannot be used is counted and told, not raised.

    Memory grows by 16 bytes a record, for the hashes by which duplicates are found (of 64 bits each: among 10^8
    different sequences, the chance of a wrong one is 3 in 10,000), and twice that with `canonical`.

    Args:
        domain: reads the file.
        path: the file, or a data set's name, whose rows are then taken from the network as they come.
        canonical: look for sequences that mean the same, too; for molecules this takes as long as all the rest.
        limit: stop after so many sequences.
        listing: a file that takes every fault as a line of JSON.
        options: what `domain.read` takes.

    Raises:
        DataError: what is wrong with the file as a whole.
    """
    faults = Faults(path, "skip", listing=listing)
    count = _counter(domain)
    found = Inspection(str(path), domain.name, count.unit, domain.streams)
    options = _streamed(path, options)
    if is_table(path):
        found.columns = _columns(path, options)
    exact, meant, places = array("q"), array("q"), array("q")
    records = iter(domain.read(path, faults=faults, **options))
    for record in records if limit is None else islice(records, limit):
        try:
            size = count.add(record)
        except DataError as error:
            faults.add(error)
            continue
        found.records += 1
        found.lengths[size] += 1
        if record.label is not None and (record.label in found.labels or len(found.labels) < _DISTINCT):
            found.labels[record.label] += 1
        if not domain.streams:
            exact.append(_hash(record.sequence))
            places.append(record.place or found.records + faults.count)
            if canonical:
                form = domain.canonical(record.sequence)
                meant.append(exact[-1] if form == record.sequence else _hash(form))
    found.whole = limit is None or next(records, None) is None
    found.symbols = Counter(dict(count.symbols().most_common()))
    found.faults = faults.reasons
    for fault in faults.listed:
        found.first.setdefault(fault.reason, fault)
    if not domain.streams:
        found.duplicates, found.duplicate_places = _repeated(exact, places)
        if canonical:
            found.canonical_duplicates, pairs = _repeated(meant, places)
            found.duplicate_places = found.duplicate_places or pairs
    found.remarks = faults.remarks + faults.changes
    faults.close()
    return found


def _streamed(path: str | Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Data sets of the hub are looked at as they come over the network."""
    return dict(options) | ({"streaming": True} if is_hub(path) else {})


def _columns(path: str | Path, options: Mapping[str, Any]) -> list[str]:
    return columns_of(path, **{name: options[name] for name in ("separator", "encoding") if name in options})


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _repeated(hashes: array[int], places: array[int], shown: int = 3) -> tuple[int, list[tuple[int, int]]]:
    """How many repeat an earlier one, and the first pairs of places, (later, earlier)."""
    keys, where = np.frombuffer(hashes, dtype=np.int64), np.frombuffer(places, dtype=np.int64)
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(np.diff(keys[order]) == 0)
    if not same.size:
        return 0, []
    later = np.sort(order[same + 1])[:shown]
    earlier = [int(np.argmax(keys == keys[one])) for one in later]
    return int(same.size), [(int(where[b]), int(where[a])) for a, b in zip(earlier, later, strict=True)]


class _Tokens:
    """Counts the tokens of a vocabulary."""

    unit = "token"

    def __init__(self, domain: Domain) -> None:
        self.domain, self.counts = domain, np.zeros(domain.vocab_size, dtype=np.int64)

    def add(self, record: Record) -> int:
        """Count a record in; returns its length."""
        tokens = self.domain.encode_array(record.sequence, record=record.title)
        if not len(tokens):
            raise DataError("the sequence is empty", record=record.title)
        self.counts += np.bincount(tokens, minlength=len(self.counts))
        return len(tokens)

    def symbols(self) -> Counter[str]:
        """The counts, by what a person sees."""
        used = np.flatnonzero(self.counts).tolist()
        return Counter(dict(zip(self.domain.symbols(used), self.counts[used].tolist(), strict=True)))


class _Parts:
    """Counts parts of strings, where the vocabulary is still to be learned."""

    def __init__(self, domain: Domain) -> None:
        self.domain, self.unit, self.counts = domain, domain.unit, Counter[str]()

    def add(self, record: Record) -> int:
        """Count a record in; returns its length."""
        parts = self.domain.parts(record.sequence)
        found = Counter(parts)
        for part in found:
            if part in self.counts or len(self.counts) < _DISTINCT:
                self.counts[part] += found[part]
        return len(parts)

    def symbols(self) -> Counter[str]:
        """The counts, by what a person sees."""
        return self.counts


def _counter(domain: Domain) -> _Tokens | _Parts:
    try:
        return _Tokens(domain)
    except ConfigError:  # a vocabulary that is learned from the training set
        return _Parts(domain)


_SEQUENCES = {".fa", ".fasta", ".fna", ".faa", ".ffn", ".fq", ".fastq", ".sto", ".gb", ".gbk", ".smi", ".smiles",
              ".sdf", ".sd", ".mol"}  # fmt: skip


def guess_domain(path: str | Path, domains: Mapping[str, Domain], **options: Any) -> str:
    """The most specific of the domains that a file's beginning looks like: the one with the smallest alphabet.

    Where there are many faults, it is the one that the beginning looks like most.

    Raises:
        DataError: it looks like none, or cannot be read at all.
    """
    if is_table(path):
        _columns(path, options)
    if plain_suffix(path) in _SEQUENCES:  # whatever is wrong with it, it is no prose
        domains = {name: one for name, one in domains.items() if not one.streams} or domains
    likeness = {name: one.likeness(path, **_streamed(path, options)) for name, one in domains.items()}
    best = max(likeness.values())
    likely = [name for name, value in likeness.items() if value >= min(best, LIKELY)]
    if best < POSSIBLE:
        if not any(likeness.values()):
            with open_text(path, options.get("encoding", "utf-8")) as stream:
                stream.read(1 << 20)  # tells if it is no text, or damaged
            if is_table(path):
                _check_table(path, domains, options)
        found = ", ".join(f"{name} {value:.0%}" for name, value in likeness.items())
        raise DataError(f"it looks like no domain's file ({found})", path=path, remedy="name one: --domain NAME")
    return min(likely, key=lambda name: (_size(domains[name]), domains[name].streams, name))


def _check_table(path: str | Path, domains: Mapping[str, Domain], options: Mapping[str, Any]) -> None:
    """Tell a fault of a table that no domain can read: its quotes, its separator, the columns that were asked for."""
    reasons = set()
    for one in domains.values():
        try:
            next(iter(one.read(path, faults=Faults(path, "skip"), **options)), None)
        except DataError as error:
            reasons.add(str(error))
    telling = {reason for reason in reasons if "no column of sequences" not in reason} or reasons
    if len(telling) == 1:
        raise DataError(telling.pop())


def _size(domain: Domain) -> float:
    try:
        return domain.vocab_size
    except DiscdiffError:
        return float("inf")


def bins(lengths: Mapping[int, int], most: int = 16) -> list[tuple[int, int, int]]:
    """A histogram of integers: (from, to, count), at most `most` bins of equal width."""
    if not lengths:
        return []
    low, high = min(lengths), max(lengths)
    width = -(-(high - low + 1) // most)
    counted: Sequence[list[int]] = [[start, min(start + width - 1, high), 0] for start in range(low, high + 1, width)]
    for size, count in lengths.items():
        counted[(size - low) // width][2] += count
    return [(start, stop, count) for start, stop, count in counted]


__all__ = ["LIKELY", "SHARES", "Inspection", "bins", "guess_domain", "inspect"]
