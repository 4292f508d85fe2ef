"""Seeded changes of a valid input: flip, cut, duplicate, splice, insert."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

LARGEST = 1 << 14
# what parsers trip over: line ends, marks of formats, numbers at an edge, pieces of UTF-8, byte-order marks
MORSELS: tuple[bytes, ...] = (
    b"\n", b"\r\n", b"\r", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\xc3", b"\xed\xa0\x80",
    b"\xf0\x9f\x99\x82",
    b"\xe2\x80\xa8", b"\xc2\x85", b"\x0b", b"\x0c", b"\x1c", b"\x1a", b" ", b"\t", b",", b";", b'"', b"'", b'"""',
    b"\\", b"\\u",
    b">", b">\n", b"@", b"+\n", b"//\n", b"#", b"$$$$\n", b"M  END\n", b"LOCUS", b"ORIGIN\n", b"# STOCKHOLM 1.0\n",
    b"{", b"}",
    b"[", b"]", b"(", b")", b"-", b"0", b"-1", b"999", b"99999999999999999999", b"1e999", b"NaN", b"null", b"NA",
    b"true",
    b"PAR1", b"\x93NUMPY", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\x00", b"PK\x03\x04", b"=", b"%", b"%(123)",
    b"[MASK]", b"_",
)  # fmt: skip


def mutated(base: bytes, others: Sequence[bytes], random: Random) -> bytes:
    """A valid input after one to eight changes; `others` give parts to splice in."""
    data = bytearray(base)
    for _ in range(random.choice((1, 1, 1, 2, 2, 3, 5, 8))):
        random.choice(_CHANGES)(data, others, random)
    return bytes(data[:LARGEST])


def random_bytes(random: Random) -> bytes:
    """Bytes of any value, or of a few that formats use."""
    size = random.choice((0, 1, 2, 3, 8, 40, 200))
    if random.random() < 0.5:
        return random.randbytes(size)
    return b"".join(random.choice(MORSELS) for _ in range(size // 2 + 1))


def _span(data: bytearray, random: Random) -> tuple[int, int]:
    start = random.randint(0, len(data))
    return start, min(len(data), start + random.choice((1, 1, 2, 4, 8, 32, 128)))


def _flip(data: bytearray, others: Sequence[bytes], random: Random) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _set(data: bytearray, others: Sequence[bytes], random: Random) -> None:
    if data:
        data[random.randrange(len(data))] = random.choice(
            (0, 1, 9, 10, 13, 32, 34, 62, 127, 128, 255, random.randrange(256))
        )


def _cut(data: bytearray, others: Sequence[bytes], random: Random) -> None:
    start, end = _span(data, random)
    del data[start:end]


def _truncate(data: bytearray, others: Sequence[bytes], random: Random) -> None:
    del data[random.randint(0, len(data)) :]


def _duplicate(data: bytearray, others: Sequence[bytes], random: Random) -> None:
    start, end = _span(data, random)
    data[end:end] = bytes(data[start:end]) * random.choice((1, 1, 2, 20))


def _splice(data: bytearray, others: Sequence[bytes], random: Random) -> None:
    other = random.choice(others)
    start = random.randint(0, len(other))
    place, end = _span(data, random)
    data[place : random.choice((place, end))] = other[start : start + random.choice((1, 4, 16, 64, 1000))]


def _insert(data: bytearray, others: Sequence[bytes], random: Random) -> None:
    place = random.randint(0, len(data))
    data[place:place] = random.choice(MORSELS) * random.choice((1, 1, 1, 2, 50))


def _lines(data: bytearray, others: Sequence[bytes], random: Random) -> None:
    lines = bytes(data).split(b"\n")
    one, other = random.randrange(len(lines)), random.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    if random.random() < 0.3:
        del lines[one]
    data[:] = b"\n".join(lines)


_CHANGES = (_flip, _set, _cut, _truncate, _duplicate, _splice, _insert, _lines)
