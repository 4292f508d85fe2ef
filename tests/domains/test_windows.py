"""Windows of a genome: where they lie, which are left out, and that they are cut out of the file as it stands."""

from __future__ import annotations

import gzip
import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import discdiff as dd
from discdiff.data import Dataset
from discdiff.errors import ConfigError, DataError, UnknownTokenError
from domains.dna.windows import GenomeWindows
from domains.fasta_index import IndexedFasta

COMPLEMENT = str.maketrans("ACGTN", "TGCAN")


def genome(seed: int = 0, **lengths: int) -> dict[str, str]:
    draw = random.Random(seed)
    return {name: "".join(draw.choices("ACGT", k=length)) for name, length in lengths.items()}


def write(path: Path, chromosomes: dict[str, str], *, width: int = 60, end: str = "\n", last: str = "\n") -> Path:
    lines: list[str] = []
    for name, bases in chromosomes.items():
        lines += [f">{name} of a test", *(bases[i : i + width] for i in range(0, len(bases), width))]
    path.write_bytes((end.join(lines) + last).encode())
    return path


def texts(windows: Dataset, epoch: int = 0) -> list[str]:
    return dd.domain("dna").decode_all(windows.batch(range(len(windows)), epoch=epoch))


def located(chromosomes: dict[str, str], title: str) -> str:
    """The bases at a window's title, by slicing the strings themselves."""
    name, place = title[:-3].split(":")
    start, end = map(int, place.split("-"))
    bases = chromosomes[name][start - 1 : end]
    return bases.translate(COMPLEMENT)[::-1] if title.endswith("(-)") else bases


def test_tiles_cover_each_chromosome(tmp_path: Path) -> None:
    chromosomes = genome(a=105, b=9, c=40)
    windows = dd.domain("dna").windows(write(tmp_path / "g.fa", chromosomes), length=10)
    whole = [bases[i : i + 10] for bases in chromosomes.values() for i in range(0, len(bases) - 9, 10)]
    assert texts(windows) == whole
    assert len(windows) == 14
    assert windows.titles([0, 9, 10]) == ["a:1-10(+)", "a:91-100(+)", "c:1-10(+)"]
    assert windows.model_lengths.tolist() == [10] * 14
    assert windows.length_model.lengths == (10,)
    assert windows.vocab_size == 4


def test_tiles_may_overlap_and_come_from_both_strands(tmp_path: Path) -> None:
    chromosomes = genome(a=30)
    dna = dd.domain("dna")
    windows = dna.windows(write(tmp_path / "g.fa", chromosomes), length=10, stride=5, strands="both")
    assert len(windows) == 10
    assert windows.titles(range(4)) == ["a:1-10(+)", "a:1-10(-)", "a:6-15(+)", "a:6-15(-)"]
    assert texts(windows) == [located(chromosomes, title) for title in windows.titles(range(10))]


@given(
    lengths=st.lists(st.integers(1, 70), min_size=1, max_size=4),
    width=st.integers(1, 30),
    end=st.sampled_from(["\n", "\r\n"]),
    final=st.booleans(),
    length=st.integers(1, 30),
    block=st.integers(1, 50),
)
def test_a_window_is_the_slice_of_the_sequence(
    tmp_path_factory: pytest.TempPathFactory,
    lengths: list[int],
    width: int,
    end: str,
    final: bool,
    length: int,
    block: int,
) -> None:
    chromosomes = genome(**{f"c{i}": length for i, length in enumerate(lengths)})
    path = write(tmp_path_factory.mktemp("g") / "g.fa", chromosomes, width=width, end=end, last=end if final else "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("domains.fasta_index._BLOCK", block)
        file = IndexedFasta(path)
    assert {contig.name: contig.length for contig in file.contigs} == {n: len(b) for n, b in chromosomes.items()}
    if max(lengths) < length:
        with pytest.raises(DataError, match=f"lower length to at most {max(lengths)}"):
            GenomeWindows(dd.domain("dna"), path, length=length)  # type: ignore[arg-type]
        return
    for options in ({"stride": 3}, {"kind": "random", "strands": "both", "count": 7}):
        windows = dd.domain("dna").windows(path, length=length, **options)
        assert isinstance(windows, GenomeWindows)
        batch = windows.batch(range(len(windows)), epoch=2)
        assert batch.ids is not None
        found = dd.domain("dna").decode_all(batch)
        assert found == [located(chromosomes, title) for title in windows.titles(batch.ids.tolist())]


def test_random_windows_are_a_function_of_seed_epoch_and_index(tmp_path: Path) -> None:
    path = write(tmp_path / "g.fa", genome(a=5000, b=3000))

    def drawn(seed: int, epoch: int) -> list[str]:
        return texts(dd.domain("dna").windows(path, length=20, kind="random", seed=seed, strands="both"), epoch)

    first = drawn(0, 3)
    assert len(first) == 400
    assert first == drawn(0, 3)
    assert len(set(first) & set(drawn(0, 4))) < 40  # 10 expected: there are 16,000 windows
    assert len(set(first) & set(drawn(1, 3))) < 40
    windows = dd.domain("dna").windows(path, length=20, kind="random", strands="both")
    some = windows.batch([7, 399], epoch=3)
    assert dd.domain("dna").decode_all(some) == [first[7], first[399]]
    assert some.ids is not None
    assert some.ids.tolist() == [3 * 400 + 7, 3 * 400 + 399]


def test_random_windows_begin_everywhere_alike(tmp_path: Path) -> None:
    windows = dd.domain("dna").windows(
        write(tmp_path / "g.fa", genome(a=104, b=9, c=54)), length=5, kind="random", count=30_000, strands="both"
    )
    titles = windows.titles(range(30_000))
    counts = {name: sum(title.startswith(name) for title in titles) for name in "abc"}
    expected = np.array([100, 5, 50]) / 155 * 30_000
    chi2 = float((((np.array([*counts.values()]) - expected) ** 2) / expected).sum())
    assert chi2 < 18.4  # a false alarm in 10,000
    assert abs(sum("(-)" in title for title in titles) - 15_000) < 340  # four standard deviations
    starts = {title for title in titles if title.endswith("(+)")}
    assert len(starts) == 155


def test_unknown_bases_leave_windows_out(tmp_path: Path) -> None:
    bases = "ACGTACGTAC" + "ACGTNACGTA" + "NNNNNNNNNN" + "acgtacgtac" + "ACGTACRNAC"
    path = write(tmp_path / "g.fa", {"a": bases})
    windows = dd.domain("dna").windows(path, length=10)
    assert texts(windows) == ["ACGTACGTAC", "ACGTACGTAC"]
    assert windows.titles([1]) == ["a:31-40(+)"]
    assert windows.notes == ["3 of 5 windows have more than 0% unknown bases: left out"]
    some = dd.domain("dna", on_unknown="random").windows(path, length=10, max_unknown=0.1)
    assert some.titles(range(len(some))) == ["a:1-10(+)", "a:11-20(+)", "a:31-40(+)"]
    drawn = texts(some)
    assert drawn[1][:4] + drawn[1][5:] == "ACGTACGTA"
    assert drawn == texts(some)
    random_ones = dd.domain("dna").windows(path, length=8, kind="random", count=500)
    known = [start for start in range(43) if set(bases[start : start + 8].upper()) <= set("ACGT")]
    assert len(known) > 6
    assert set(random_ones.titles(range(500))) == {f"a:{start + 1}-{start + 8}(+)" for start in known}


def test_unknown_bases_need_a_policy(tmp_path: Path) -> None:
    path = write(tmp_path / "g.fa", genome(a=50))
    with pytest.raises(ConfigError, match="on_unknown='error' does not turn into letters; set on_unknown='random'"):
        dd.domain("dna").windows(path, length=10, max_unknown=0.1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "sliding"}, "kind got 'sliding', expected 'tiled' or 'random'"),
        ({"strands": "reverse"}, "strands got 'reverse'"),
        ({"stride": 0}, "stride got 0, expected a positive integer"),
        ({"count": 5}, "count is of random windows"),
        ({"kind": "random", "stride": 5}, "stride is of tiled windows"),
        ({"max_unknown": 1.0}, r"max_unknown got 1.0, expected a share in \[0, 1\)"),
        ({"chromosomes": ["chrZ"]}, "has no chromosome 'chrZ'; it has a, b"),
        ({"exclude": ["a", "b"]}, "no chromosome is left"),
        ({"step": 5}, "windows: .*step"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    path = write(tmp_path / "g.fa", genome(a=50, b=50))
    with pytest.raises(ConfigError, match=said):
        dd.domain("dna").windows(path, length=10, **options)


def test_other_domains_have_no_windows(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the domain 'protein' has none"):
        dd.domain("protein").windows(tmp_path / "g.fa", length=10)


def test_chromosomes_are_chosen(tmp_path: Path) -> None:
    path = write(tmp_path / "g.fa", genome(a=20, b=20, c=20))
    dna = dd.domain("dna")
    assert dna.windows(path, length=20, chromosomes=["c", "a"]).titles([0, 1]) == ["c:1-20(+)", "a:1-20(+)"]
    assert dna.windows(path, length=20, exclude=["b"]).titles([0, 1]) == ["a:1-20(+)", "c:1-20(+)"]


def test_rna_and_foreign_letters(tmp_path: Path) -> None:
    path = write(tmp_path / "g.fa", {"a": "ACGU" * 5, "b": "ACGT"})
    assert texts(dd.domain("dna", rna=True).windows(path, length=4, chromosomes="a"))[0] == "ACGT"
    for kind in ("tiled", "random"):
        with pytest.raises(UnknownTokenError, match=r"g.fa, record a, column \d+: 'U' is not .*rna=True reads U as T"):
            dd.domain("dna").windows(path, length=4, kind=kind).batch([0, 1, 2])


def test_the_two_sides_of_a_split_share_no_base(tmp_path: Path) -> None:
    path = write(tmp_path / "g.fa", genome(a=9000, b=4000))
    for kind in ("tiled", "random"):
        windows = dd.domain("dna").windows(path, length=10, kind=kind, **({"count": 500} if kind == "random" else {}))
        train, valid = windows.split(0.2, seed=1)
        covered = []
        for part in (train, valid):
            places = set()
            for title in part.titles(range(len(part))):
                name, place = title[:-3].split(":")
                start, end = map(int, place.split("-"))
                places |= {(name, i) for i in range(start, end + 1)}
            covered.append(places)
        assert not covered[0] & covered[1]
        assert 0.05 < len(valid) / (len(train) + len(valid)) < 0.4
        assert train.checksum() != valid.checksum() != windows.checksum()
    with pytest.raises(DataError, match="1 segments of 640 bases cannot be split"):
        dd.domain("dna").windows(write(tmp_path / "h.fa", genome(a=500)), length=10).split(0.2)


def test_the_splits_of_two_seeds_are_independent(tmp_path: Path) -> None:
    """Of 200 segments each holds out 100 or so, and two seeds have half of them in common."""
    windows = dd.domain("dna").windows(write(tmp_path / "g.fa", genome(a=200 * 640)), length=10)
    sides = [windows.split(0.5, seed=seed)[1] for seed in range(8)]
    starts = [set(side.titles(range(len(side)))) for side in sides]
    for i, one in enumerate(starts):
        for other in starts[:i]:
            # 200 coins of 1/4: 50 +- 6.1 segments of 64 windows
            assert abs(len(one & other) / 64 - 50) < 4 * 6.1


def test_the_sides_of_a_split_lose_no_window_but_those_across(tmp_path: Path) -> None:
    """Each place is on one side, unless the other side has a base of it."""
    path = write(tmp_path / "g.fa", genome(a=20 * 640 + 7, b=649))
    windows = dd.domain("dna").windows(path, length=10, stride=1)
    sides = [set(side.titles(range(len(side)))) for side in windows.split(0.3, seed=1)]
    lost = set(windows.titles(range(len(windows)))) - sides[0] - sides[1]
    assert not sides[0] & sides[1]
    borders = len(lost) / 9
    assert borders == int(borders)
    assert 1 <= borders < 20, "only where the sides meet: at all 19 borders of segments they do not"


@pytest.mark.parametrize("kind", ["tiled", "random"])
def test_the_share_of_unknown_bases_that_is_named_is_let_in(tmp_path: Path, kind: Any) -> None:
    """29 of 100 are 29%, though 0.29 * 100 is less than 29 in floating point."""
    path = write(tmp_path / "g.fa", {"a": "N" * 29 + "ACGT" * 17 + "ACG"})
    domain = dd.domain("dna", on_unknown="random")
    assert len(domain.windows(path, length=100, kind=kind, max_unknown=0.29).batch([0])) == 1
    with pytest.raises(DataError, match="unknown"):
        domain.windows(path, length=100, kind=kind, max_unknown=0.28).batch([0])


def test_counts_are_those_of_the_regions(tmp_path: Path) -> None:
    path = write(tmp_path / "g.fa", {"a": "AACGTN", "b": "C" * 7})
    assert dd.domain("dna").windows(path, length=3).token_counts().tolist() == [2, 8, 1, 1]
    assert dd.domain("dna").windows(path, length=3, strands="both").token_counts().tolist() == [3, 9, 9, 3]


def test_checksums_tell_windows_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "g.fa", genome(a=500))
    other = write(tmp_path / "h.fa", genome(1, a=500))
    dna = dd.domain("dna")
    made = [
        dna.windows(path, length=10), dna.windows(path, length=10, stride=5), dna.windows(path, length=11),
        dna.windows(path, length=10, strands="both"), dna.windows(other, length=10),
        dna.windows(path, length=10, kind="random"), dna.windows(path, length=10, kind="random", seed=1),
    ]  # fmt: skip
    assert len({windows.checksum() for windows in made}) == len(made)
    assert dna.windows(path, length=10).checksum() == made[0].checksum()


def test_workers_map_the_file_again(tmp_path: Path) -> None:
    windows = dd.domain("dna").windows(write(tmp_path / "g.fa", genome(a=100_000)), length=100, kind="random")
    packed = pickle.dumps(windows)
    assert len(packed) < 20_000
    assert torch.equal(pickle.loads(packed).batch([3, 5], epoch=1).tokens, windows.batch([3, 5], epoch=1).tokens)


# ---- the index -------------------------------------------------------------------------------------------------------
def samtools(path: Path, chromosomes: dict[str, str], width: int = 60) -> Path:
    """The index as samtools writes it, from the strings themselves."""
    lines, offset = [], 0
    for name, bases in chromosomes.items():
        offset += len(f">{name} of a test\n")
        lines.append(f"{name}\t{len(bases)}\t{offset}\t{width}\t{width + 1}\n")
        offset += len(bases) + -(-len(bases) // width)
    index = path.with_name(path.name + ".fai")
    index.write_text("".join(lines))
    return index


def test_an_index_of_samtools_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chromosomes = genome(a=205, b=100)
    path = write(tmp_path / "g.fa", chromosomes)
    expected = IndexedFasta(path).contigs
    index = samtools(path, chromosomes)
    with monkeypatch.context() as patch:
        patch.setattr("domains.fasta_index._scan", None)
        assert IndexedFasta(path).contigs == expected
    old = path.stat().st_mtime - 100
    os.utime(index, (old, old))
    with monkeypatch.context() as patch:
        patch.setattr("domains.fasta_index._scan", None)
        with pytest.raises(TypeError):  # older than the file: not used
            IndexedFasta(path)
    assert IndexedFasta(path).contigs == expected


@pytest.mark.parametrize("wrong", ["name", "offset", "length", "columns", "empty", "beyond"])
def test_an_index_of_another_file_is_not_used(tmp_path: Path, wrong: str) -> None:
    chromosomes = genome(a=205, b=100)
    path = write(tmp_path / "g.fa", chromosomes)
    expected = IndexedFasta(path).contigs
    index = samtools(path, chromosomes)
    text = index.read_text()
    text = {
        "name": text.replace("a\t", "z\t", 1),
        "offset": text.replace("\t13\t", "\t14\t"),
        "length": text.replace("205", "204"),
        "columns": text.replace("\t60\t61", ""),
        "empty": "",
        "beyond": text.replace("\t100\t", "\t5000\t"),
    }[wrong]
    assert text != index.read_text()
    index.write_text(text)
    assert IndexedFasta(path).contigs == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("\n\n", "no records: every line is blank"),
        ("ACGT\n>a\nACGT\n", "line 1: expected '>' at the start of a record"),
        (">a\nACGT\n>\nACGT\n", "line 3: a header without a name"),
        (">a\nACGT\n>b\nAC\n>a x\nACGT\n", "record a, line 5: this name stands on an earlier sequence, too"),
        (">a\n>b\nACGT\n", "record a, line 1: a record without a sequence"),
        (">a\nACGT\n>b\n", "record b, line 3: a record without a sequence"),
        (">a\nACGT\nAC\nACGT\n", "record a, line 4: 4 letters after a shorter line"),
        (">a\nACGT\nACGTA\n", "record a, line 3: 5 letters where the lines before have 4"),
        (">a\nACGT\n\nACGT\n", "record a, line 4: 4 letters after a shorter line"),
        (">a\n\nACGT\n", "record a, line 2: a blank line before the sequence"),
        (">a\nACGT\r\nACGT\nACGT\n", "record a, line 3: line ends of two kinds"),
    ],
)
@pytest.mark.parametrize("block", [3, 5, 1 << 24])
def test_files_that_cannot_be_indexed_say_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str, block: int
) -> None:
    monkeypatch.setattr("domains.fasta_index._BLOCK", block)
    path = tmp_path / "g.fa"
    path.write_bytes(text.encode())
    with pytest.raises(DataError, match=said):
        IndexedFasta(path)


def test_blank_lines_between_records_are_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "g.fa"
    path.write_text("\n>a\nACGT\nAC\n\n\n>b\nAAAA\n\n")
    assert [(c.name, c.length) for c in IndexedFasta(path).contigs] == [("a", 6), ("b", 4)]


def test_compressed_files_are_refused_with_the_command(tmp_path: Path) -> None:
    path = tmp_path / "g.fa.gz"
    path.write_bytes(gzip.compress(b">a\nACGT\n"))
    with pytest.raises(DataError, match=r"cannot be read from the middle \(decompress it first \(bgzip -d"):
        dd.domain("dna").windows(path, length=2)


# ---- training --------------------------------------------------------------------------------------------------------
def test_windows_are_trained_on_from_a_configuration(tmp_path: Path) -> None:
    from discdiff.experiment import Experiment

    path = write(tmp_path / "g.fa", genome(a=3000, b=2000))
    windows = {"kind": "random", "strands": "both", "exclude": ["b"]}
    experiment = Experiment.load(
        values={
            "domain": "dna",
            "data": {
                "train": str(path), "valid": str(path), "length": 16, "windows": windows,
                "valid_windows": {"chromosomes": ["b"]},
            },
            "network": {"class_path": "Transformer", "init_args": {"dim": 16, "depth": 1, "heads": 2}},
            "training": {
                "max_steps": 3, "batch_size": 4, "device": "cpu", "profile_sequences": 0, "samples": 0,
                "loggers": ["csv"],
            },
        }
    )  # fmt: skip
    parts = experiment.read()
    train, valid = parts.train, parts.valid
    assert valid is not None
    assert (len(train), len(valid)) == (187, 125)
    assert {title[0] for title in train.titles(range(100))} == {"a"}
    result = experiment.run(tmp_path / "run", progress=False)
    assert result.steps == 3
    assert result.validation is not None
    assert dd.Pipeline.load(tmp_path / "run").max_length == 16


def test_windows_and_labels_exclude_one_another(tmp_path: Path) -> None:
    from discdiff.experiment import Experiment

    path = write(tmp_path / "g.fa", genome(a=300))
    data = {"train": str(path), "length": 16, "windows": {}}
    for key, value in (("end_token", True), ("label_column", "x")):
        with pytest.raises(ConfigError, match=f"leave out data.{key}"):
            Experiment.load(values={"domain": "dna", "data": data | {key: value}}).read()
    with pytest.raises(ConfigError, match=r"give data\.length"):
        Experiment.load(values={"domain": "dna", "data": data | {"length": None}}).read()
