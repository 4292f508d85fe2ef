"""Windows of a genome as a data set: cut out of the file when they are asked for, so that any genome will do."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from discdiff import Keys
from discdiff.data import Dataset
from discdiff.errors import ConfigError, DataError
from discdiff.sequences import Sequences
from domains.fasta_index import Contig, IndexedFasta

if TYPE_CHECKING:
    from domains.dna.domain import DNA

Kind = Literal["tiled", "random"]
Strands = Literal["forward", "both"]
_DRAWS = 256
"""How often a random window is drawn anew until it has few enough unknown bases."""
_SEGMENT_WINDOWS = 64
"""Windows in each of the segments that `split` deals out."""
_AMBIGUOUS, _FOREIGN = 254, 255


@dataclass(frozen=True)
class Region:
    """Bases `start` .. `end` - 1 of a contig."""

    contig: Contig
    start: int
    end: int


class GenomeWindows(Dataset):
    """Windows of `length` bases of the chromosomes in a FASTA file.

    Tiled windows begin every `stride` bases; the bases after the last whole window of a chromosome are left out.
    Random windows begin anywhere: window i of an epoch is a function of (seed, epoch, i) alone. With both strands, a
    tiled window comes twice, as it stands and as its reverse complement; a random one comes as one or the other.

    Args:
        domain: the DNA domain. What it makes of unknown bases decides what becomes of those that `max_unknown` lets in.
        path: a plain FASTA file; see `domains.fasta_index.IndexedFasta`.
        length: bases in a window.
        kind: `"tiled"` or `"random"`.
        stride: bases from one tiled window to the next; `length` by default.
        count: random windows in an epoch; by default as many as cover the genome once.
        strands: `"forward"` or `"both"`.
        max_unknown: the largest share of N and other ambiguity codes in a window, in [0, 1). Windows with more are left
            out. Above 0, the domain must draw letters for them (`on_unknown="random"`), from a hash of the window.
        chromosomes: names of those to use; all by default.
        exclude: names of those to leave out.
        seed: of random windows and strands.

    Raises:
        ConfigError: an argument out of range, a chromosome that the file does not have.
        DataError: the file cannot be indexed, or has no window.
        UnknownTokenError: a character that is no base and no ambiguity code, with chromosome and position; for random
            windows while they are drawn.
    """

    domain: DNA

    def __init__(
        self,
        domain: DNA,
        path: str | Path,
        *,
        length: int,
        kind: Kind = "tiled",
        stride: int | None = None,
        count: int | None = None,
        strands: Strands = "forward",
        max_unknown: float = 0.0,
        chromosomes: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        for option, value, known in (("kind", kind, Kind), ("strands", strands, Strands)):
            if value not in get_args(known):
                raise ConfigError(
                    f"windows: {option} got {value!r}, expected {' or '.join(map(repr, get_args(known)))}"
                )
        for option, number in (("length", length), ("stride", stride), ("count", count)):
            if number is not None and number < 1:
                raise ConfigError(f"windows: {option} got {number}, expected a positive integer")
        if not 0 <= max_unknown < 1:
            raise ConfigError(f"windows: max_unknown got {max_unknown}, expected a share in [0, 1)")
        if max_unknown > 0 and domain.on_unknown != "random":
            raise ConfigError(
                f"windows: max_unknown={max_unknown} lets in unknown bases, which on_unknown={domain.on_unknown!r} "
                "does not turn into letters; set on_unknown='random' (--domain.on_unknown random), or max_unknown=0"
            )
        if (kind == "tiled") == (count is not None) and count is not None:
            raise ConfigError("windows: count is of random windows; tiled ones follow from stride")
        if kind == "random" and stride is not None:
            raise ConfigError("windows: stride is of tiled windows; random ones are counted by count")
        self.domain, self.length, self.kind, self.strands = domain, length, kind, strands
        self.stride, self.count, self.max_unknown, self.seed = stride or length, count, max_unknown, seed
        self.notes: list[str] = []
        self._file = IndexedFasta(path)
        self._table = domain.window_table(_AMBIGUOUS, _FOREIGN)
        chosen = _chosen(self._file, chromosomes, exclude)
        self._settle([Region(contig, 0, contig.length) for contig in chosen])

    def _settle(self, regions: list[Region]) -> None:
        """Decide where windows may begin."""
        self._regions = [region for region in regions if region.end - region.start >= self.length]
        if not self._regions:
            raise DataError(
                f"no chromosome is as long as a window of length={self.length}", path=self._file.path,
                remedy=f"lower length to at most {max(region.end - region.start for region in regions)}",
            )  # fmt: skip
        room = np.array([region.end - region.start - self.length + 1 for region in self._regions])
        if self.kind == "random":
            self._before = np.cumsum(room)
            bases = sum(region.end - region.start for region in self._regions)
            self._size = self.count or max(1, bases // self.length)
            return
        kept = [self._tiles(region) for region in self._regions]
        self._starts = np.concatenate(kept)
        self._before = np.cumsum([len(one) for one in kept])
        possible = int((-(-room // self.stride)).sum())
        if len(self._starts) < possible:
            self.notes.append(
                f"{possible - len(self._starts):,} of {possible:,} windows have more than {self.max_unknown:.0%} "
                "unknown bases: left out"
            )
        if not len(self._starts):
            raise DataError(
                f"every window of length={self.length} has unknown bases", path=self._file.path,
                remedy="lower length, or allow some: max_unknown=0.1 with on_unknown='random'",
            )  # fmt: skip
        self._size = len(self._starts) * (1 + (self.strands == "both"))

    # ---- what training asks ------------------------------------------------------------------------------------------
    def __len__(self) -> int:
        return self._size

    @property
    def vocab_size(self) -> int:
        """The four bases."""
        return self.domain.vocab_size

    @property
    def model_lengths(self) -> Tensor:
        """`length`, n times; in no memory."""
        return torch.tensor(self.length).expand(len(self))

    def batch(self, indices: Any, *, epoch: int = 0) -> Sequences:
        """The windows at `indices`, of an epoch where they are random. Ids are `epoch * n + index` then."""
        rows = torch.as_tensor(np.asarray(indices, dtype=np.int64))
        ids = rows + (epoch * len(self) if self.kind == "random" else 0)
        tokens = np.empty((len(ids), self.length), dtype=np.int64)
        for row, (region, start, reverse) in enumerate(self._places(ids)):
            tokens[row] = self._oriented(self._window(region, start), reverse)
        return Sequences.full(torch.from_numpy(tokens), ids=ids)

    def titles(self, ids: Iterable[int]) -> list[str]:
        """Such as `chr1:1001-2000(+)`, counted from 1."""
        places = self._places(torch.as_tensor(list(ids), dtype=torch.int64))
        return [f"{r.contig.name}:{s + 1}-{s + self.length}({'-' if back else '+'})" for r, s, back in places]

    def token_counts(self) -> Tensor:
        """Of the bases in the regions that windows come from; of both strands, where both are used."""
        counts = np.zeros(256, dtype=np.int64)
        for region in self._regions:
            for _, tokens in self._pieces(region):
                counts += np.bincount(tokens, minlength=256)
        found = torch.from_numpy(counts[: self.vocab_size])
        return found + found[self._complement] if self.strands == "both" else found

    def split(self, fraction: float = 0.05, *, seed: int = 0) -> tuple[GenomeWindows, GenomeWindows]:
        """Two sets of windows without a base in common.

        The chromosomes are cut into segments of 64 windows, and each goes to one side by a hash of its place and the
        seed. A random window's count is shared out likewise.

        Raises:
            DataError: too few segments.
        """
        if not 0 < fraction < 1:
            raise ConfigError(f"fraction: got {fraction}, expected a number between 0 and 1")
        width = _SEGMENT_WINDOWS * self.length
        segments: list[Region] = []
        for region in self._regions:
            starts = range(region.start, region.end - self.length + 1, width)  # the last takes what is left
            segments += [Region(region.contig, *ends) for ends in itertools.pairwise([*starts, region.end])]
        rank = np.array([_uniform(f"{s.contig.name} {s.start}", seed) for s in segments])
        held_out = rank <= max(fraction, rank.min())
        if held_out.all():
            raise DataError(
                f"{len(segments)} segments of {width:,} bases cannot be split into training and validation",
                path=self._file.path, remedy="hold out chromosomes instead: a valid file, or chromosomes= and exclude=",
            )  # fmt: skip
        share = sum(s.end - s.start for s, held in zip(segments, held_out, strict=True) if held) / sum(
            s.end - s.start for s in segments
        )
        return self._part(segments, ~held_out, 1 - share), self._part(segments, held_out, share)

    def _part(self, segments: list[Region], chosen: NDArray[np.bool_], share: float) -> GenomeWindows:
        part = GenomeWindows.__new__(GenomeWindows)
        part.__dict__.update(self.__dict__ | {"notes": []})
        if self.count is not None:
            part.count = max(1, round(self.count * share))
        regions: list[Region] = []
        for segment, taken in zip(segments, chosen, strict=True):
            if taken and regions and (regions[-1].contig, regions[-1].end) == (segment.contig, segment.start):
                regions[-1] = Region(segment.contig, regions[-1].start, segment.end)  # windows may lie across
            elif taken:
                regions.append(segment)
        part._settle(regions)
        return part

    def checksum(self) -> int:
        """CRC-32 of the regions, of how windows are cut from them, and of a thousand of them."""
        about = [
            self.kind,
            self.length,
            self.stride,
            self._size,
            self.strands,
            self.max_unknown,
            self.seed,
            *self._regions,
        ]
        some = self.batch(np.linspace(0, len(self) - 1, num=min(len(self), 1000)).astype(np.int64)).tokens
        return zlib.crc32(some.numpy().astype(np.uint8).tobytes(), zlib.crc32(repr((about, self._regions)).encode()))

    # ---- windows -----------------------------------------------------------------------------------------------------
    def _places(self, ids: Tensor) -> Iterator[tuple[Region, int, bool]]:
        if self.kind == "random":
            yield from self._drawn(ids)
            return
        both = self.strands == "both"
        for number in ids.tolist():
            place = number // 2 if both else number
            yield (
                self._regions[bisect.bisect_right(self._before, place)],
                int(self._starts[place]),
                both and number % 2 > 0,
            )

    def _drawn(self, ids: Tensor) -> Iterator[tuple[Region, int, bool]]:
        """Where random windows lie: the first of at most 256 draws that has few enough unknown bases."""
        keys = Keys(self.seed, ids)
        back = keys.uniform((len(ids),), "strand", torch.float32) < 0.5 if self.strands == "both" else None
        waiting = np.arange(len(ids))
        found: dict[int, tuple[Region, int]] = {}
        for draw in range(_DRAWS):
            if not len(waiting):
                break
            u = keys.index(torch.from_numpy(waiting)).at(draw).uniform((len(waiting),), "window", torch.float64)
            places = (u.numpy() * self._before[-1]).astype(np.int64)
            rejected = []
            for row, place in zip(waiting.tolist(), places.tolist(), strict=True):
                number = int(np.searchsorted(self._before, place, side="right"))
                region = self._regions[number]
                start = region.start + place - (int(self._before[number - 1]) if number else 0)
                if self._few_unknown(self._raw(region, start, start + self.length), region, start):
                    found[row] = region, start
                else:
                    rejected.append(row)
            waiting = np.array(rejected, dtype=np.int64)
        if len(waiting):
            raise DataError(
                f"{_DRAWS} random windows of {self.length} bases had more than {self.max_unknown:.0%} unknown ones",
                path=self._file.path, remedy="lower length, raise max_unknown, or choose other chromosomes",
            )  # fmt: skip
        for row in range(len(ids)):
            yield *found[row], back is not None and bool(back[row])

    def _tiles(self, region: Region) -> NDArray[np.int64]:
        """Where the windows of a region begin, those with too many unknown bases left out."""
        starts = np.arange(region.start, region.end - self.length + 1, self.stride)
        unknown = np.concatenate(
            [[0], *(np.flatnonzero(tokens == _AMBIGUOUS) + start for start, tokens in self._pieces(region))]
        ).astype(np.int64)[1:]
        counts = np.searchsorted(unknown, starts + self.length) - np.searchsorted(unknown, starts)
        return starts[counts / self.length <= self.max_unknown]

    def _pieces(self, region: Region, size: int = 1 << 22) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """A region's tokens, a piece at a time, checked."""
        for start in range(region.start, region.end, size):
            tokens = self._raw(region, start, min(start + size, region.end))
            self._check(tokens, region, start)
            yield start, tokens

    def _raw(self, region: Region, start: int, end: int) -> NDArray[np.uint8]:
        piece = region.contig.piece(self._file.data, start, end)
        return np.frombuffer(piece.translate(self._table), dtype=np.uint8)

    def _check(self, tokens: NDArray[np.uint8], region: Region, start: int) -> None:
        if len(tokens) and tokens.max() == _FOREIGN:
            at = start + int(tokens.argmax())
            letter = region.contig.piece(self._file.data, at, at + 1).decode("latin-1")
            raise self.domain.foreign_base(letter, path=self._file.path, record=region.contig.name, column=at + 1)

    def _few_unknown(self, tokens: NDArray[np.uint8], region: Region, start: int) -> bool:
        self._check(tokens, region, start)
        return int((tokens == _AMBIGUOUS).sum()) / self.length <= self.max_unknown

    def _window(self, region: Region, start: int) -> NDArray[Any]:
        tokens = self._raw(region, start, start + self.length)
        if tokens.max() < self.vocab_size:
            return tokens
        text = region.contig.piece(self._file.data, start, start + self.length).decode("latin-1")
        return self.domain.encode_array(text, record=region.contig.name)

    @property
    def _complement(self) -> NDArray[np.int64]:
        letters = self.domain.decode(range(self.vocab_size))
        return np.array([letters.index(letter) for letter in letters.translate(str.maketrans("ACGT", "TGCA"))])

    def _oriented(self, tokens: NDArray[Any], reverse: bool) -> NDArray[Any]:
        return self._complement[tokens[::-1]] if reverse else tokens

    def __repr__(self) -> str:
        return f"GenomeWindows({self._file.path.name}, {len(self):,} {self.kind} windows of {self.length} bases)"


def _chosen(file: IndexedFasta, chromosomes: Sequence[str] | None, exclude: Sequence[str]) -> list[Contig]:
    known = {contig.name: contig for contig in file.contigs}
    wanted = list(known) if chromosomes is None else _names(chromosomes)
    left = _names(exclude)
    for name in [*wanted, *left]:
        if name not in known:
            shown = ", ".join([*known][:12]) + (", …" if len(known) > 12 else "")
            raise ConfigError(f"windows: {file.path} has no chromosome {name!r}; it has {shown}")
    chosen = [known[name] for name in dict.fromkeys(wanted) if name not in left]
    if not chosen:
        raise ConfigError("windows: no chromosome is left")
    return chosen


def _uniform(place: str, seed: int) -> float:
    """A number in [0, 1). (Not a checksum: CRCs of two seeds differ by one constant, and so do what they choose.)"""
    digest = hashlib.blake2b(place.encode(), digest_size=8, key=str(seed).encode()).digest()
    return int.from_bytes(digest, "little") / 2**64


def _names(names: Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)
