"""`Letters`: what DNA and proteins have in common: one letter a token, FASTA, codes for several letters, gaps."""

from __future__ import annotations

import string
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal, TextIO, get_args

import numpy as np
from numpy.typing import NDArray

from discdiff.constraints import Constraint
from discdiff.data.files import Faults, accepted_values, is_table, read_table
from discdiff.domain import Domain, Record
from discdiff.errors import ConfigError, DataError, UnknownTokenError
from domains.alphabet import UNKNOWN, Alphabet, shown
from domains.fasta import Entry, read_entries, write_fasta
from domains.templates import LetterTemplates

OnUnknown = Literal["error", "skip", "split", "random"]
Gaps = Literal["error", "drop", "keep"]
FORMATS = ("fasta", "fastq", "genbank", "stockholm", "lines", "table")
# ASCII only: str.upper() turns 'ß' into two residues
_UPPER = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)
_BLANK = {ord(c): None for c in string.whitespace}
_GAPS = "-."


class Letters(Domain):
    """An alphabet of letters in which biologists write sequences.

    Normalisation, recorded by the options: white space goes, lower case (soft masking) becomes upper case.

    Args:
        on_unknown: what to do with a character outside the alphabet. `error`: refuse it, naming record and position;
            `skip`: leave the record out; `split`: cut the record there, into `name:start-end`; `random`: take one of
            the letters that an ambiguity code stands for, drawn by a hash of the sequence (the same on every run), and
            refuse what is no such code. Whatever is not refused is counted, and the counts are given in a warning.
        gaps: `-` and `.` of alignments: `error`: as any unknown character; `drop`: take them out; `keep`: the gap is
            one more letter, `-`.
        min_length: the shortest valid sequence.
        max_length: the longest valid sequence, or None.
        streams: cut files into blocks of the model's length, as for chromosomes.

    Raises:
        ConfigError: an unknown policy, or lengths that no sequence has.
    """

    letters: ClassVar[str]
    codes: ClassVar[Mapping[str, str]]
    aliases: ClassVar[Mapping[str, str]] = {}
    title: ClassVar[str]
    blanks: ClassVar[str] = string.whitespace
    prosite: ClassVar[bool] = False
    ending: ClassVar[str] = ""  # read over at the end of a sequence
    groupings = ("identity",)
    suffix = "fasta"

    def __init__(
        self,
        on_unknown: OnUnknown = "error",
        gaps: Gaps = "error",
        min_length: int = 1,
        max_length: int | None = None,
        streams: bool = False,
    ) -> None:
        for option, value, kind in (("on_unknown", on_unknown, OnUnknown), ("gaps", gaps, Gaps)):
            if value not in get_args(kind):
                raise ConfigError(f"{option}: got {value!r}, expected one of {', '.join(map(repr, get_args(kind)))}")
        if min_length < 1 or (max_length is not None and max_length < min_length):
            raise ConfigError(f"got min_length={min_length} and max_length={max_length}, expected 1 <= min <= max")
        self.on_unknown, self.gaps, self.streams = on_unknown, gaps, streams
        self.min_length, self.max_length = min_length, max_length
        self.alphabet = Alphabet(self.letters + ("-" if gaps == "keep" else ""), self.title)
        self._translation: dict[int, int | str | None] = {**_UPPER, **_BLANK}
        self._translate(dict.fromkeys(_GAPS if gaps != "error" else "", None if gaps == "drop" else "-"))

    def _translate(self, changes: Mapping[str, str | None]) -> None:
        """Read characters as others, or (None) as nothing."""
        self._translation |= {ord(old): new for old, new in changes.items()}
        replaced = bytearray(range(256))
        for old, new in self._translation.items():
            if new is not None:
                replaced[old] = new if isinstance(new, int) else ord(new)
        self._replaced = bytes(replaced)
        self._tokens = self.alphabet.table(self._replaced)
        self._deleted = bytes(old for old, new in self._translation.items() if new is None)

    def options(self) -> dict[str, Any]:
        return {
            "on_unknown": self.on_unknown,
            "gaps": self.gaps,
            "min_length": self.min_length,
            "max_length": self.max_length,
            "streams": self.streams,
        }

    # ---- tokens -----------------------------------------------------------------------------------------------------
    @property
    def vocab_size(self) -> int:
        return len(self.alphabet)

    def normalized(self, sequence: str) -> str:
        """The sequence in upper case, without white space and `ending`, gaps as the option says."""
        return self._plain(sequence).removesuffix(self.ending)

    def _plain(self, sequence: str) -> str:
        if not sequence.isascii():
            return sequence.translate(self._translation)
        return sequence.encode().translate(self._replaced, self._deleted).decode()

    def encode(self, sequence: str, *, record: object | None = None) -> list[int]:
        text = self.normalized(sequence)
        tokens = self.alphabet.lookup(text)
        if text and tokens.max() >= len(self.alphabet):
            text = self._drawn(text) if self.on_unknown == "random" else text
            if (index := self.alphabet.first_unknown(text)) is not None:
                raise self._unknown(sequence, text, index, record=record)
            tokens = self.alphabet.lookup(text)
        result: list[int] = tokens.tolist()
        return result

    def encode_array(self, sequence: str, *, record: object | None = None) -> NDArray[Any]:
        if sequence.isascii():
            tokens = sequence.encode().translate(self._tokens, self._deleted)
            if UNKNOWN not in tokens:
                return np.frombuffer(tokens, dtype=np.uint8)
        # anything unusual: ambiguity codes, a stop codon, a fault
        return np.array(self.encode(sequence, record=record), dtype=np.uint8)

    def decode(self, tokens: Sequence[int]) -> str:
        return self.alphabet.decode(tokens)

    def symbols(self, tokens: Sequence[int]) -> list[str]:
        return self.alphabet.symbols(tokens)

    def units(self, sequence: str) -> int:
        return len(self.normalized(sequence))

    def save_tokenizer(self, folder: Path) -> None:
        self.alphabet.save_tokenizer(folder)

    # ---- characters outside the alphabet ----------------------------------------------------------------------------
    def _drawn(self, text: str) -> str:
        """The text with each ambiguity code replaced by one of its letters."""
        random = np.random.default_rng(zlib.crc32(text.encode("utf-8", "surrogatepass")))
        return "".join(
            c if c in self.alphabet or c not in self.codes else self.codes[c][random.integers(len(self.codes[c]))]
            for c in text
        )

    def _unknown(
        self, sequence: str, text: str, index: int, *, path: object | None = None, record: object | None = None
    ) -> UnknownTokenError:
        # the position in the sequence as it stands, before anything was taken out of it
        kept = [i for i, c in enumerate(sequence) if self._translation.get(ord(c), c) is not None]
        return UnknownTokenError(
            f"{shown(sequence[kept[index]])} is not in the {self.title} alphabet {self.alphabet.letters}",
            path=path, record=record, column=kept[index] + 1, remedy=self._remedy(text[index]),
        )  # fmt: skip

    def _remedy(self, character: str) -> str:
        if character in _GAPS:
            return "an alignment? gaps='drop' takes the gaps out, gaps='keep' makes them a letter"
        if character in self.codes:
            return "on_unknown='skip' leaves such records out, 'split' cuts them there, 'random' draws a letter"
        return "correct the file, or leave such records out with on_unknown='skip'"

    # ---- files ------------------------------------------------------------------------------------------------------
    def read(self, path: str | Path, *, faults: Faults | None = None, **options: Any) -> Iterator[Record]:
        """Records of a FASTA, FASTQ, GenBank, Stockholm, CSV, TSV or Parquet file or a hub data set, normalised.

        The columns of FASTA are the `key=value` words of its headers, for `label_column` and `where`.

        Args:
            path: the file, plain or compressed, or a data set's name.
            faults: takes the records that cannot be used.
            **options: `format` (of `FORMATS`; told by name and first line if absent), `encoding`, `sequence_column`,
                `label_column`, `name_column`, `where`, `separator`.

        Raises:
            DataError: see `discdiff.data.files` and `domains.fasta`.
            UnknownTokenError: a character outside the alphabet, where `on_unknown` is `error`.
            ConfigError: an unknown format.
        """
        kind = options.pop("format", None) or ("table" if is_table(path) else None)
        if kind not in (None, *FORMATS):
            raise ConfigError(f"format: got {kind!r}, expected one of {', '.join(FORMATS)}")
        taken = faults or Faults(path)
        if kind == "table":
            records = ((record, None) for record in read_table(path, faults=taken, **options))
            return self._checked(path, records, taken, warn=faults is None)
        return self._checked(path, _records(path, kind, faults=taken, **options), taken, warn=faults is None)

    def likeness(self, path: str | Path, **options: Any) -> float:
        """The share of letters of the alphabet, gaps and the code for any, in the first records."""
        known = self.alphabet.letters + _GAPS + "*"
        known += "".join(code for code, meant in self.codes.items() if len(meant) == len(self.letters))
        total = fitting = 0
        try:
            form = {name: options[name] for name in ("format", "encoding") if name in options}
            table: dict[str, Any] = {"guesses": ("sequence", "seq")} | options  # a column `smiles` holds no letters
            rows: Iterable[Record | Entry] = read_table(path, **table) if is_table(path) else read_entries(path, **form)
            for row in islice(rows, 100):
                text = self.normalized(row.sequence[:10_000])
                total += len(text)
                fitting += sum(map(text.count, known))
        except DataError:  # of the first records it may be the first fault
            pass
        return fitting / total if total else 0.0

    def write(self, records: Iterable[Record], stream: TextIO) -> None:
        write_fasta(records, stream)

    def _checked(
        self, path: str | Path, records: Iterable[tuple[Record, int | None]], faults: Faults, *, warn: bool
    ) -> Iterator[Record]:
        kept = 0
        for record, line in records:
            whole = self._plain(record.sequence)
            text = whole.removesuffix(self.ending)
            if not text:
                faults.add(DataError("the sequence is empty", path=path, record=record.title, line=line))
                continue
            plain = Record(text, record.name, record.label, record.place)
            index = self.alphabet.first_unknown(text)
            if index is None:
                pieces = [plain]
            else:
                fault = self._unknown(record.sequence, text, index, path=path, record=record.title)
                pieces = self._resolved(plain, record.sequence, fault, faults)
            if pieces and len(text) < len(whole):
                ended = DataError(f"it ends in '{self.ending}'", path=path, record=record.title, line=line)
                faults.change(ended, f"read without the '{self.ending}' at the end")
            kept += len(pieces)
            yield from pieces
        if warn:
            faults.warn(kept)

    def _resolved(self, record: Record, original: str, fault: UnknownTokenError, faults: Faults) -> list[Record]:
        reason = fault.message
        outside = f"characters outside {self.alphabet.letters}"
        if self.on_unknown == "skip":
            faults.add(fault, reason=reason, on_error="skip")
            return []
        if self.on_unknown == "split":
            known = self.alphabet.lookup(record.sequence) < len(self.alphabet)
            if not known.any():
                faults.add(fault, reason=reason, on_error="skip")
                return []
            faults.change(fault, f"cut for {outside}")
            edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(np.int8)))
            return [
                Record(record.sequence[a:b], f"{record.title}:{a + 1}-{b}", record.label, record.place)
                for a, b in edges.reshape(-1, 2).tolist()
            ]
        text = self._drawn(record.sequence) if self.on_unknown == "random" else record.sequence
        if (index := self.alphabet.first_unknown(text)) is not None:
            left = self._unknown(original, text, index, path=fault.path, record=fault.record)
            faults.add(left, reason=left.message)
            return []
        faults.change(fault, f"filled at random for {outside}")
        return [Record(text, record.name, record.label, record.place)]

    # ---- what users know and want to know ---------------------------------------------------------------------------
    def template(self, text: str) -> Constraint:
        return self.templates.read(text)

    @property
    def templates(self) -> LetterTemplates:
        """The template language over this alphabet."""
        known = {letter: [token] for token, letter in enumerate(self.alphabet.letters)}
        several = {code: [known[c][0] for c in meant] for code, meant in {**self.codes, **self.aliases}.items()}
        return LetterTemplates(
            known | several | {"_": range(self.vocab_size)},
            self.vocab_size,
            kind=self.unit,
            blanks="".join(b for b in self.blanks if b not in self.alphabet.letters),
            prosite=self.prosite,
        )

    @property
    def every_valid(self) -> bool:
        return self.min_length <= 1 and self.max_length is None

    def invalid(self, sequence: str) -> str | None:
        text = self.normalized(sequence)
        if not text:
            return "empty"
        if (index := self.alphabet.first_unknown(text)) is not None:
            return f"outside the alphabet: {shown(text[index])} at position {index + 1}"
        if len(text) < self.min_length:
            return f"too short: {len(text)} of at least {self.min_length}"
        if self.max_length is not None and len(text) > self.max_length:
            return f"too long: {len(text)} of at most {self.max_length}"
        return None

    def canonical(self, sequence: str) -> str:
        return self.normalized(sequence)

    def groups(self, how: str, sequences: Sequence[str], **options: Any) -> list[str | None]:
        """`"identity"`: clusters of sequences at least as alike as `threshold`; see `domains.clusters`."""
        if how not in self.groupings:
            return super().groups(how, sequences, **options)
        from domains.clusters import identity_clusters

        texts = [self.normalized(sequence).replace("-", "") for sequence in sequences]
        return identity_clusters(texts, letters=self.unit, **options)


def _records(
    path: str | Path,
    kind: str | None,
    *,
    faults: Faults,
    encoding: str = "utf-8",
    label_column: str | None = None,
    name_column: str | None = None,
    where: Mapping[str, object] | None = None,
    **table: Any,
) -> Iterator[tuple[Record, int | None]]:
    """Records of a file that is no table; the words `key=value` of a header are its columns."""
    for option in table:
        raise DataError(f"{option} is for tables (CSV, TSV, Parquet)", path=path, remedy="leave it out")
    accepted = {key: accepted_values(value) for key, value in (where or {}).items()}
    kept = False
    for entry in read_entries(path, format=kind, encoding=encoding, faults=faults):
        wanted = [key for key in (label_column, name_column, *accepted) if key]
        found = entry.attributes if wanted else {}
        if lacking := [key for key in wanted if key not in found]:
            faults.add(
                DataError(
                    f"no {lacking[0]}=... in the header", path=path, record=entry.name or entry.place,
                    line=entry.line or None, remedy=f"found: {', '.join(found) or 'none'}",
                )
            )  # fmt: skip
            continue
        if all(found[key] in values for key, values in accepted.items()):
            kept = True
            name = found[name_column] if name_column else entry.name
            label = found[label_column] if label_column else None
            yield Record(entry.sequence, name, label, entry.place), entry.line or None
    if not kept and not faults.count:
        raise DataError(f"no record satisfies where={dict(where or {})}", path=path, remedy="check the values")
