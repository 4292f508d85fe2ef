"""What becomes of records that cannot be used: the three policies, and what is told of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from discdiff.data import SequenceDataset
from discdiff.data import faults as module
from discdiff.data.faults import Fault, Faults, RefusedError, write_faults
from discdiff.domain import Domain
from discdiff.errors import ConfigError, DataError, DiscdiffWarning
from domains.dna import DNA
from domains.protein import Protein
from domains.smiles import SMILES
from domains.text import Text
from domains.tokens import Tokens
from tests.letters import Letters


def error(message: str, record: object = "r", **place: int) -> DataError:
    return DataError(message, path="a.fa", record=record, remedy="mend it", **place)


def test_raise_is_the_error_itself() -> None:
    fault = error("wrong")
    with pytest.raises(DataError) as caught:
        Faults("a.fa").add(fault)
    assert caught.value is fault


def test_skip_counts_and_lists() -> None:
    faults = Faults("a.fa", "skip")
    faults.add(error("'x' is wrong", "r1", line=3, column=2))
    faults.add(error("'y' is wrong", "r2"))
    faults.add(error("12 of 13 letters", 7))
    assert faults.count == 3
    assert faults.reasons == {"… is wrong": 2, "… of … letters": 1}
    assert faults.listed[0] == Fault("a.fa", "r1", 3, 2, "'x' is wrong", "… is wrong", "mend it")
    assert str(faults.listed[0]) == "record r1, line 3, column 2: 'x' is wrong"
    said, first = "2 × … is wrong; 1 × … of … letters", "record r1, line 3, column 2: 'x' is wrong"
    assert faults.finish(7) == [f"3 of 10 records left out: {said} (first: {first})"]


def test_nothing_left_is_an_error() -> None:
    faults = Faults("a.fa", "skip")
    faults.add(error("wrong", "r1"))
    with pytest.raises(DataError, match=r"a\.fa: no record is left: all 1 are left out: wrong \(.*record r1: wrong"):
        faults.finish(0)


def test_report_refuses_at_the_end_with_the_first() -> None:
    faults = Faults("a.fa", "report")
    for number in range(8):
        faults.add(error("wrong", number))
    with pytest.raises(RefusedError) as caught:
        faults.finish(92)
    first, *lines = str(caught.value).splitlines()
    assert first.startswith("a.fa: 8 of 100 records cannot be used: wrong (correct them; on_error='skip' leaves")
    assert lines == [*(f"  record {i}: wrong" for i in range(5)), "  and 3 more"]
    assert [fault.record for fault in caught.value.faults] == [str(i) for i in range(8)]


def test_an_option_of_a_domain_is_no_reason_to_refuse(tmp_path: Path) -> None:
    path = tmp_path / "reads.fa"
    path.write_text(">a\nACGT\n>b\nACNT\n")
    data = SequenceDataset.read(DNA(on_unknown="skip"), path, on_error="report")
    assert [fault.record for fault in data.skipped] == ["b"]
    path.write_text(">a\nACGT\n>b\nACNT\n>c\n")
    with pytest.raises(RefusedError, match="1 of 3 records cannot be used"):
        SequenceDataset.read(DNA(on_unknown="skip"), path, on_error="report")
    # and is kept to where the policy is to raise
    assert len(SequenceDataset.read(DNA(on_unknown="skip"), _put(path, ">a\nACGT\n>b\nACNT\n"))) == 1
    molecules = _put(tmp_path / "a.smi", "CC\nC(C\n")
    assert SequenceDataset.read(SMILES(on_invalid="skip"), molecules).skipped[0].reason.startswith("parse error")


def _put(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_what_is_cut_or_filled_is_told(tmp_path: Path) -> None:
    path = _put(tmp_path / "reads.fa", ">a\nACGT\n>b\nACNT\n")
    for policy, done in (("split", "cut"), ("random", "filled at random")):
        data = SequenceDataset.read(DNA(on_unknown=policy), path)  # type: ignore[arg-type]
        assert data.notes[0].startswith(f"1 records {done} for characters outside ACGT (first: record b, column 3")
        assert data.skipped == []


STAR = "2 records read without the '*' at the end "
BLANK = "lines that are blank, and so no records: "


@pytest.mark.parametrize(
    ("domain", "name", "text", "told"),
    [
        (SMILES(), "a.smi", "smiles name\nCC x\n\n# note\nCCO\n", ["line 1 (smiles) is taken for a header",
            "lines that are blank or comments (#), and so no records: 2"]),
        (DNA(), "a.txt", "\n\nACGT\n \nGG\n", [BLANK + "3"]),
        (Tokens(vocab_size=9), "a.txt", "1 2\n\n3\n", [BLANK + "1"]),
        (Text(tokenizer="characters", lines=True), "a.txt", "ab\n\n\nb\n", [BLANK + "2"]),
        (Protein(), "a.fa", ">a\nMKV*\n>b\nMK\n>c\nMV*\n", [STAR + "(first: record a, line 1: it ends in '*')"]),
        (Protein(), "a.fa", ">a\nMKV\n\n>b\nMK\n", []),
        (Text(tokenizer="characters", lines=True), "a.jsonl", '{"text": "ab"}\n\n{"text": "b"}\n', [BLANK + "1"]),
    ],
)  # fmt: skip
def test_what_is_passed_over_is_told(tmp_path: Path, domain: Domain, name: str, text: str, told: list[str]) -> None:
    """Blank lines, comments, headers, a final stop codon: no faults, and not dropped in silence either."""
    options: dict[str, Any] = {"format": "lines"} if isinstance(domain, DNA) else {}
    path = _put(tmp_path / name, text)
    domain = domain.fit(["ab"]) if isinstance(domain, Text) else domain
    assert sorted(SequenceDataset.read(domain, path, on_error="report", **options).notes) == sorted(told)


def test_a_stop_is_told_where_it_was_dropped_and_the_record_kept(tmp_path: Path) -> None:
    path = _put(tmp_path / "a.fa", ">a\nM1V*\n>b\nMV**\n>c\nMK\n>d\nMKV*- \n>e\nMA*\n")
    data = SequenceDataset.read(Protein(gaps="drop"), path, on_error="skip")
    assert data.texts() == ["MK", "MKV", "MA"]
    assert [fault.record for fault in data.skipped] == ["a", "b"]
    assert data.notes[1:] == [STAR + "(first: record d, line 7: it ends in '*')"]


def test_blank_lines_count_for_line_numbers_and_not_for_records(tmp_path: Path) -> None:
    path = _put(tmp_path / "a.txt", "\n\nACGT\n \nGX\n")
    faults = Faults(path, "skip")
    assert [record.place for record in DNA().read(path, faults=faults, format="lines")] == [1]
    assert (faults.listed[0].record, faults.listed[0].column) == ("2", 2)


@pytest.mark.parametrize(
    ("domain", "text"), [(Tokens(vocab_size=9), "1 2\n\n3\n"), (Text(lines=True), "ab\n\nb\n"), (SMILES(), "C\n\nCC\n")]
)
def test_readers_without_a_collector_warn(tmp_path: Path, domain: Domain, text: str) -> None:
    path = _put(tmp_path / ("a.smi" if isinstance(domain, SMILES) else "a.txt"), text)
    with pytest.warns(DiscdiffWarning, match="and so no records: 1"):
        assert len(list(domain.read(path))) == 2


def test_too_long_is_a_fault_unless_it_has_its_own_policy(tmp_path: Path) -> None:
    path = _put(tmp_path / "letters.txt", "ab\nabcd\nabx\nabc\n")
    data = SequenceDataset.read(Letters(), path, length=2, on_error="skip")
    assert data.texts() == ["ab"]
    assert [(fault.record, fault.reason) for fault in data.skipped] == [
        ("2", "longer than length=2"), ("3", "… is not in the alphabet"), ("4", "longer than length=2"),
    ]  # fmt: skip
    with pytest.raises(RefusedError, match=r"3 of 4 records .*2 × longer than length=2; 1 ×"):
        SequenceDataset.read(Letters(), path, length=2, on_error="report")
    # on_long says it: left out whatever the policy, and cut ones are used
    with pytest.raises(RefusedError, match=r"1 of 4 records"):
        SequenceDataset.read(Letters(), path, length=2, on_long="skip", on_error="report")
    assert SequenceDataset.read(Letters(), path, length=2, on_long="crop", on_error="skip").texts() == ["ab"] * 3
    with pytest.raises(DataError, match="record 3, column 3: 'x'"):
        SequenceDataset.read(Letters(), path, length=2, on_long="skip")


def test_streams_too(tmp_path: Path) -> None:
    path = _put(tmp_path / "letters.txt", "abcd\nabx\nabcd\n")
    data = SequenceDataset.read(Letters(streams=True), path, length=4, on_error="skip")
    assert data.texts() == ["abcd", "abcd"]
    assert "1 of 3 records left out" in data.notes[0]


def test_many_faults_are_counted_and_as_many_as_fit_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LISTED", 10)
    faults = Faults("a.fa", "skip", listing=tmp_path / "all.jsonl")
    for number in range(25):
        faults.add(error("wrong", number))
    faults.finish(1)
    assert (faults.count, len(faults.listed)) == (25, 10)
    rows = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert [row["record"] for row in rows] == [str(number) for number in range(25)]


def test_lists_are_json_lines_and_none_is_left_where_nothing_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "skipped.jsonl"
    write_faults([Fault("a.fa", "r\u2028", 3, None, "it's 'é'", "…", None)], path)
    assert path.read_text().count("\n") == 1
    assert json.loads(path.read_text()) == {
        "path": "a.fa", "record": "r\u2028", "line": 3, "message": "it's 'é'", "reason": "…",
    }  # fmt: skip
    write_faults([], path)
    assert not path.exists()


def test_unknown_policy() -> None:
    with pytest.raises(ConfigError, match="on_error: got 'ignore', expected 'raise' or 'skip' or 'report'"):
        Faults("a.fa", "ignore")  # type: ignore[arg-type]
