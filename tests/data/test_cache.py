"""Encoded files on disk: the same data set as from memory, made once, made again when damaged."""

from __future__ import annotations

import copy
import gzip
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import discdiff as dd
from discdiff.data import SequenceDataset, cache, encoding
from discdiff.errors import DataError, DiscdiffError, DiscdiffWarning
from tests.letters import Letters

LINES = ["abc\tfirst\t10", "d\t\t2", "abcdabcd\tthird\t2", "bb\t\t", "abc\tfünf\t10", "ca\t\tx"]


class Slow(Letters):
    """Counts how often a file is read."""

    reads = 0

    def read(self, path: str | Path, **options: Any) -> Iterator[Any]:
        Slow.reads += 1
        yield from super().read(path, **options)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "letters.txt"
    path.write_text("".join(line + "\n" for line in LINES), encoding="utf-8")
    return path


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    Slow.reads = 0
    return tmp_path / "cache"


def is_mapped(data: SequenceDataset) -> bool:
    """Whether the tokens are those of a file, to which no process has a copy of its own."""
    base: Any = data._encoded.tokens
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    return isinstance(base, np.memmap) and base.mode == "r" and data.folder is not None


def entries(kept: Path) -> list[Path]:
    return sorted((kept / "tokens").iterdir())


def facts(data: SequenceDataset) -> dict[str, Any]:
    labels = data.labels
    return {
        "texts": data.texts(),
        "lengths": data.lengths.tolist(),
        "labels": None if labels is None else labels.tolist(),
        "label_names": data.label_names,
        "titles": data.titles(range(len(data))),
        "checksum": data.checksum(),
        "counts": data.token_counts().tolist(),
        "batch": data.batch([0, 2]).tokens.tolist(),
    }


@pytest.mark.parametrize("waiting", [1, 3, 1 << 20])
@pytest.mark.parametrize("options", [{}, {"length": 3, "on_long": "crop"}, {"length": 3, "on_long": "skip"}])
def test_a_mapped_data_set_is_the_one_in_memory(
    source: Path, kept: Path, monkeypatch: pytest.MonkeyPatch, waiting: int, options: dict[str, Any]
) -> None:
    expected = facts(SequenceDataset.read(Letters(), source, **options))
    monkeypatch.setattr(encoding, "_TOKENS", waiting)
    monkeypatch.setattr(encoding, "_RECORDS", waiting)
    for _ in range(2):
        data = SequenceDataset.read(Letters(), source, cache=kept, **options)
        assert is_mapped(data)
        assert facts(data) == expected
        train, valid = data.split(0.5)
        assert sorted(train.texts() + valid.texts()) == sorted(expected["texts"])


@pytest.mark.parametrize("waiting", [1, 5, 1 << 20])
def test_the_remainder_of_each_part_goes_on_in_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waiting: int
) -> None:
    monkeypatch.setattr(encoding, "_TOKENS", waiting)
    path = tmp_path / "stream.txt"
    path.write_text("abcda\nbcd\nabcd\nab\n")
    data = SequenceDataset.read(Letters(streams=True), path, length=4, cache=tmp_path / "cache")
    assert data.texts() == ["abcd", "abcd", "abcd"]
    assert data.notes[0] == "the last 2 of 14 tokens do not fill a block and are left out"
    assert data.titles([1]) == ["tokens 5 to 8"]


def test_a_file_is_read_once(source: Path, kept: Path) -> None:
    first = SequenceDataset.read(Slow(), source, cache=kept)
    again = SequenceDataset.read(Slow(), source, cache=kept)
    assert Slow.reads == 1
    assert "kept in" in first.notes[-1]
    assert str(entries(kept)[0]) in again.notes[-1]
    # by content: another name is no other file
    other = source.with_name("copy.txt")
    shutil.copy(source, other)
    SequenceDataset.read(Slow(), other, cache=kept)
    assert Slow.reads == 1


def test_what_decides_the_tokens_decides_the_entry(source: Path, kept: Path) -> None:
    SequenceDataset.read(Slow(), source, cache=kept)
    SequenceDataset.read(Slow("abcde"), source, cache=kept)
    SequenceDataset.read(Slow(), source, cache=kept, length=9)
    SequenceDataset.read(Slow(), source, cache=kept, label_names=["10", "2", "x"])
    SequenceDataset.read(Slow(), source, cache=kept, where={"column": {"one", "two"}})
    assert Slow.reads == len(entries(kept)) == 5
    SequenceDataset.read(Slow(), source, cache=kept, where={"column": {"two", "one"}})
    assert Slow.reads == 5
    source.write_text("dd\n")
    assert SequenceDataset.read(Slow(), source, cache=kept).texts() == ["dd"]


def test_a_learned_vocabulary_is_part_of_the_key(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("abcabc" * 10)
    texts = []
    for alphabet in ("abc", "xabc"):
        domain = dd.domain("text", tokenizer="characters").fit([alphabet])
        texts.append(SequenceDataset.read(domain, path, length=6, cache=tmp_path / "cache").texts()[0])
    assert texts == ["abcabc", "abcabc"]


def test_a_change_that_keeps_size_and_time_is_seen(source: Path, kept: Path) -> None:
    past = time.time() - 100
    os.utime(source, (past, past))
    SequenceDataset.read(Letters(), source, cache=kept)
    content = source.read_bytes()
    source.write_bytes(content.replace(b"abcdabcd", b"dcbadcba"))
    os.utime(source, (past, past))
    assert SequenceDataset.read(Letters(), source, cache=kept).texts()[2] == "dcbadcba"


def test_content_is_hashed_once_while_the_file_is_at_rest(
    source: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_SETTLED_SECONDS", -1.0)
    expected = cache.content_hash(source, kept)
    monkeypatch.setattr("hashlib.file_digest", None)
    assert cache.content_hash(source, kept) == expected
    remembered = next((kept / "files").iterdir())
    remembered.write_text("{")
    with pytest.raises(TypeError):  # damaged: hashed again
        cache.content_hash(source, kept)


@pytest.mark.parametrize("column", ["tokens", "sizes", "names", "places"])
@pytest.mark.parametrize("damage", ["flip", "cut", "lose"])
def test_a_damaged_entry_is_made_again(source: Path, kept: Path, column: str, damage: str) -> None:
    expected = facts(SequenceDataset.read(Slow(), source, cache=kept))
    file = entries(kept)[0] / f"{column}.bin"
    data = bytearray(file.read_bytes())
    if damage == "lose":
        file.unlink()
    else:
        data[len(data) // 2] ^= 1
        file.write_bytes(data if damage == "flip" else data[:-1])
    with pytest.warns(DiscdiffWarning, match="damaged and are made again"):
        assert facts(SequenceDataset.read(Slow(), source, cache=kept)) == expected
    assert Slow.reads == 2
    SequenceDataset.read(Slow(), source, cache=kept)
    assert Slow.reads == 2


@pytest.mark.parametrize("body", [b"", b"{}", b"00000000\n{}", None])
def test_an_entry_without_its_description_is_made_again(source: Path, kept: Path, body: bytes | None) -> None:
    SequenceDataset.read(Slow(), source, cache=kept)
    meta = entries(kept)[0] / "meta.json"
    meta.unlink() if body is None else meta.write_bytes(body)
    with pytest.warns(DiscdiffWarning, match="damaged"):
        assert SequenceDataset.read(Slow(), source, cache=kept).texts()[0] == "abc"
    assert Slow.reads == 2


def test_a_fault_leaves_nothing_behind(source: Path, kept: Path) -> None:
    source.write_text("abc\nabx\n")
    with pytest.raises(DataError, match=r"letters.txt, record 2, column 3"):
        SequenceDataset.read(Letters(), source, cache=kept)
    assert entries(kept) == []


class Changing(Letters):
    """The file grows while it is read."""

    def read(self, path: str | Path, **options: Any) -> Iterator[Any]:
        yield from super().read(path, **options)
        Path(path).write_text("a\n" * 100)


def test_a_file_that_changes_while_it_is_read_is_refused(source: Path, kept: Path) -> None:
    with pytest.raises(DataError, match=r"letters.txt: the file changed while it was read \(try again"):
        SequenceDataset.read(Changing(), source, cache=kept)
    assert entries(kept) == []


def test_what_was_left_out_is_told_again(tmp_path: Path) -> None:
    path = tmp_path / "reads.fasta"
    path.write_text(">a\nACGT\n>b\nACNT\n")
    dna = dd.domain("dna", on_unknown="skip")
    for _ in range(2):
        data = SequenceDataset.read(dna, path, cache=tmp_path / "cache")
        assert len(data) == 1
        assert data.notes[0].startswith("1 of 2 records left out: 'N' is not in the DNA alphabet")
        assert [(fault.record, fault.column) for fault in data.skipped] == [("b", 3)]


def test_warnings_of_the_reader_come_again(tmp_path: Path) -> None:
    path = tmp_path / "reads.fasta.bgz"
    data = gzip.compress(b">a\nACGT\n", mtime=0)[10:]
    header = bytes.fromhex("1f8b08040000000000ff060042430200")
    path.write_bytes(header + len(data).to_bytes(2, "little") + data)
    for _ in range(2):
        with pytest.warns(DiscdiffWarning, match="no end marker of bgzip"):
            assert len(SequenceDataset.read(dd.domain("dna"), path, cache=tmp_path / "cache")) == 1


def test_each_policy_has_its_own_entry(tmp_path: Path) -> None:
    path = tmp_path / "reads.fasta"
    path.write_text(">a\nACGT\n>b\nACNT\n")
    dna = dd.domain("dna")
    assert len(SequenceDataset.read(dna, path, on_error="skip", cache=tmp_path / "cache")) == 1
    for policy in ("raise", "report"):
        with pytest.raises(DataError, match="'N' is not in the DNA alphabet"):
            SequenceDataset.read(dna, path, on_error=policy, cache=tmp_path / "cache")


def test_small_files_are_read_into_memory(source: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCDIFF_CACHE", str(kept))
    assert not is_mapped(SequenceDataset.read(Letters(), source))
    monkeypatch.setattr(cache, "SMALL", 10)
    assert is_mapped(SequenceDataset.read(Letters(), source))
    assert not is_mapped(SequenceDataset.read(Letters(), source, cache=False))
    blocked = kept.with_name("file")
    blocked.write_text("")
    monkeypatch.setenv("DISCDIFF_CACHE", str(blocked))
    assert not is_mapped(SequenceDataset.read(Letters(), source))
    with pytest.raises(DataError, match=r"file: the cache of encoded sequences cannot be written.*cache=False"):
        SequenceDataset.read(Letters(), source, cache=True)


def test_a_full_disk_is_told(source: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("discdiff.data.columns.os.fsync", full)
    with pytest.raises(DataError, match=r"cannot be written: No space left on device .*make room there"):
        SequenceDataset.read(Letters(), source, cache=kept)
    assert entries(kept) == []


def test_options_without_a_fixed_form_are_refused(source: Path, kept: Path) -> None:
    with pytest.raises(DiscdiffError, match="an option of reading is a object, which has no JSON form; cache=False"):
        SequenceDataset.read(Letters(), source, cache=kept, where=object())


def test_workers_map_the_tokens_again(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("abcd" * 50_000 + "\n" + "ab" * 50_000 + "\n")
    data = SequenceDataset.read(Letters(), path, cache=tmp_path / "cache")
    packed = pickle.dumps(data)
    assert len(packed) < 20_000
    there = pickle.loads(packed)
    assert is_mapped(there)
    assert there.checksum() == data.checksum()
    part = pickle.loads(pickle.dumps(data.subset([1])))
    assert part.texts() == ["ab" * 50_000]
    assert len(pickle.dumps(copy.copy(data.subset([1])))) < 20_000


class Waiting(Slow):
    """Takes its time, so that two processes are at it together."""

    def read(self, path: str | Path, **options: Any) -> Iterator[Any]:
        time.sleep(0.5)
        yield from super().read(path, **options)


def read_waiting(source: str, kept: str, start: Any, queue: Any) -> None:
    start.wait(60)
    data = SequenceDataset.read(Waiting(), source, cache=kept)
    queue.put((Slow.reads, data.checksum()))


def test_two_processes_make_an_entry_once(source: Path, kept: Path) -> None:
    context = multiprocessing.get_context("fork")
    start, queue = context.Barrier(2), context.Queue()
    both = [context.Process(target=read_waiting, args=(str(source), str(kept), start, queue)) for _ in range(2)]
    for process in both:
        process.start()
    found = [queue.get(timeout=60) for _ in both]
    for process in both:
        process.join()
    assert sorted(reads for reads, _ in found) == [0, 1]
    assert len({checksum for _, checksum in found}) == 1
    assert len(entries(kept)) == 1


def test_a_killed_process_leaves_no_lock_and_no_entry(source: Path, kept: Path) -> None:
    program = (
        "import os, signal, sys; from tests.letters import Letters; from discdiff.data import SequenceDataset\n"
        "class Killed(Letters):\n"
        "    def read(self, path, **options):\n"
        "        yield from super().read(path)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "Killed.__module__, Killed.__qualname__ = 'tests.letters', 'Letters'\n"
        "SequenceDataset.read(Killed(), sys.argv[1], cache=sys.argv[2])"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", program, str(source), str(kept)], cwd=root, check=False)
    assert done.returncode == -signal.SIGKILL
    left = entries(kept)
    assert len(left) == 1
    assert left[0].name.startswith(".")
    data = SequenceDataset.read(Letters(), source, cache=kept)
    assert data.texts()[0] == "abc"
    assert len(entries(kept)) == 1
    assert not entries(kept)[0].name.startswith(".")


def test_training_takes_a_mapped_data_set(source: Path, kept: Path, tmp_path: Path) -> None:
    def trained(**options: Any) -> list[torch.Tensor]:
        data = SequenceDataset.read(Letters(), source, **options)
        process = dd.Absorbing(4)
        torch.manual_seed(0)
        network = dd.Transformer(process.num_states, dim=16, depth=1, heads=2, num_labels=3)
        model = dd.Diffusion(network, process, dd.LogLinear(), dd.Conditional())
        dd.fit(model, data, valid=data, max_steps=3, batch_size=2, device="cpu", samples=0, progress=False)
        return [weight.detach().clone() for weight in model.parameters()]

    for here, there in zip(trained(), trained(cache=kept), strict=True):
        assert torch.equal(here, there)
