"""Users' files: each good form is read, each fault is named with its place and a remedy."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discdiff.data.files import check_file, open_text, plain_suffix
from discdiff.errors import DataError

PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bgz": lambda data: gzip.compress(data[:2]) + gzip.compress(data[2:]),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
NAMES = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz"}


def read_fault(path: Path, encoding: str = "utf-8") -> DataError:
    with pytest.raises(DataError) as caught, open_text(path, encoding) as stream:
        stream.read()
    assert caught.value.path == path
    assert str(path) in str(caught.value)
    return caught.value


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("renamed", [False, True])
def test_plain_and_compressed(tmp_path: Path, suffix: str, renamed: bool) -> None:
    # the first bytes tell the compression, whatever the name
    path = tmp_path / ("file.txt" + ("" if renamed else suffix))
    path.write_bytes(PACK[suffix]("åβ\n一\n".encode()))
    with open_text(path) as stream:
        assert list(stream) == ["åβ\n", "一\n"]


@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00\r\ufeff"), min_size=1))
def test_any_text_comes_back(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file.xz"
    path.write_bytes(lzma.compress(text.encode(), preset=0))
    with open_text(path) as stream:
        assert stream.read() == text


def test_more_than_one_buffer(tmp_path: Path) -> None:
    text = "".join(f"line {i} ä\n" for i in range(60_000))
    path = tmp_path / "long.txt.gz"
    path.write_bytes(gzip.compress(text.encode(), 1))
    with open_text(path) as stream:
        assert stream.read() == text


def test_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "ends.txt"
    path.write_bytes(b"a\r\nb\rc\nd")
    with open_text(path) as stream:
        assert list(stream) == ["a\n", "b\n", "c\n", "d"]
    with open_text(path, newline="") as stream:
        assert stream.read() == "a\r\nb\rc\nd"


def test_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "bom.txt"
    path.write_bytes(b"\xef\xbb\xbf>s1\nACGT\n")
    with open_text(path) as stream:
        assert stream.read() == ">s1\nACGT\n"
    path.write_bytes("ACGT".encode("utf-16"))
    with open_text(path, "utf-16") as stream:
        assert stream.read() == "ACGT"


def test_latin1_by_choice(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes("Müller\n".encode("latin-1"))
    with open_text(path, "latin-1") as stream:
        assert stream.read() == "Müller\n"


def test_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "promoters.fasta").write_text("x")
    assert "no such file (did you mean 'promoters.fasta'?)" in str(read_fault(tmp_path / "promotors.fasta"))
    assert "no such file (check the path)" in str(read_fault(tmp_path / "zzz"))
    assert f"the folder {tmp_path / 'no'} does not exist either" in str(read_fault(tmp_path / "no" / "x.fasta"))


def test_folder(tmp_path: Path) -> None:
    assert "this is a folder (name a file in it)" in str(read_fault(tmp_path))
    with pytest.raises(DataError, match="folder"):
        check_file(tmp_path)


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf"])
def test_empty(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"empty.fa{suffix}"
    path.write_bytes(PACK[suffix](content))
    assert "the file is empty" in str(read_fault(path))


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
def test_not_compressed_as_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"reads.fa{suffix}"
    path.write_bytes(b">s1\nACGT\n")
    kind = NAMES[suffix]
    assert f"not {kind}: the name ends in {suffix}, but the file holds no compressed data" in str(read_fault(path))
    other = ".bz2" if suffix != ".bz2" else ".gz"
    path.write_bytes(PACK[other](b"ACGT"))
    assert f"not {kind}: the name ends in {suffix}, but the file holds {NAMES[other]} data" in str(read_fault(path))


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
def test_truncated(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"reads.fa{suffix}"
    whole = PACK[suffix](b"".join(b">s%d\nACGT%d\n" % (i, i * i) for i in range(2000)))
    path.write_bytes(whole[: len(whole) // 2])
    fault = read_fault(path)
    assert f"truncated {NAMES[suffix]} file" in fault.message
    assert fault.remedy == "copy or download it again"


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
def test_damaged(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"reads.fa{suffix}"
    whole = bytearray(PACK[suffix](b"".join(b">s%d\nACGT%d\n" % (i, i * i) for i in range(2000))))
    whole[len(whole) // 2] ^= 0xFF
    path.write_bytes(bytes(whole))
    assert f"damaged {NAMES[suffix]} file" in read_fault(path).message


def test_bgzip_without_its_end(tmp_path: Path) -> None:
    block = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
    path = tmp_path / "reads.fa.bgz"
    header = gzip.compress(b"ACGT\n", mtime=0)[10:]
    path.write_bytes(bytes.fromhex("1f8b08040000000000ff060042430200") + len(header).to_bytes(2, "little") + header)
    with (
        pytest.warns(UserWarning, match="no end marker of bgzip: the file may be truncated"),
        open_text(path) as stream,
    ):
        assert stream.read() == "ACGT\n"
    path.write_bytes(path.read_bytes() + block)
    with open_text(path) as stream:
        assert stream.read() == "ACGT\n"


@pytest.mark.parametrize(
    ("magic", "kind"),
    [(b"PK\x03\x04", "zip archive"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"PAR1", "Parquet"), (b"\x93NUMPY", "NumPy")],
)
def test_known_binary_kinds(tmp_path: Path, magic: bytes, kind: str) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(magic + b"\x00" * 20)
    fault = read_fault(path)
    assert fault.message.startswith("not text: it is ")
    assert kind in fault.message


def test_binary(tmp_path: Path) -> None:
    path = tmp_path / "file.fa"
    path.write_bytes(b">s1\r\nAC\x00T\r\n")
    fault = read_fault(path)
    assert (fault.line, fault.column) == (2, 3)
    assert "line 2, column 3: byte offset 7: byte 0x00: binary data" in str(fault)


def test_lines_before_a_fault_are_read(tmp_path: Path) -> None:
    path = tmp_path / "file.fa"
    path.write_bytes(b"one\ntwo\nbad\x00\nfour\n")
    with open_text(path) as stream:
        assert [stream.readline(), stream.readline()] == ["one\n", "two\n"]
        with pytest.raises(DataError, match="line 3, column 4"):
            stream.readline()


@pytest.mark.parametrize("before", [b"", b"line\n" * 3, b"x" * 200_000 + b"\n", b"l\r" * 70_000])
def test_not_utf8(tmp_path: Path, before: bytes) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(before + b"caf\xe9 noir\n")
    fault = read_fault(path)
    assert f"byte offset {len(before) + 3}: byte 0xe9: not UTF-8" in fault.message
    lines = before.count(b"\n") + before.count(b"\r")
    assert (fault.line, fault.column) == (lines + 1, 4)
    assert fault.remedy is not None
    assert "encoding=" in fault.remedy


def test_character_cut_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes("é".encode()[:1])
    assert "byte offset 0: byte 0xc3: not UTF-8" in read_fault(path).message


@given(st.integers(0, 3), st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", "é".encode()]), max_size=8))
def test_line_numbers_are_those_of_python(tmp_path: Path, shift: int, parts: list[bytes]) -> None:
    # the fault lies just past a buffer of 2^17 bytes, with line ends of all kinds around its edge
    before = b"x" * ((1 << 17) - 4 + shift) + b"".join(parts)
    path = tmp_path / "file.txt"
    path.write_bytes(before + b"\xff")
    fault = read_fault(path)
    lines = (before.decode().replace("\r\n", "\n").replace("\r", "\n")).split("\n")
    assert fault.line == len(lines)
    assert fault.column == len(lines[-1].encode()) + 1


def test_utf16_is_recognized(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes("ACGT".encode("utf-16"))
    assert "byte offset 0: not UTF-8 but UTF-16 (pass encoding='utf-16')" in str(read_fault(path))


def test_unknown_encoding(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("x")
    assert "unknown encoding: utf-9" in str(read_fault(path, "utf-9"))


def test_files_are_closed(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    for suffix in PACK:
        path = tmp_path / f"file{suffix}"
        path.write_bytes(PACK[suffix](b"abc"))
        with open_text(path) as stream:
            stream.read()
        del stream
        path.write_bytes(PACK[suffix](b"\x00"))
        read_fault(path)
    assert not [warning for warning in recwarn if issubclass(warning.category, ResourceWarning)]


def test_plain_suffix() -> None:
    assert plain_suffix("a/B.FASTA.GZ") == ".fasta"
    assert plain_suffix("reads.fq") == ".fq"
    assert plain_suffix("genome") == ""
