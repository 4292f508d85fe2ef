"""The protein domain: round trips, alignments, validity, figures, pictures, real files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discdiff.domain import Domain, domain
from discdiff.errors import UnknownTokenError
from domains.protein import Protein
from domains.protein.metrics import MOST, properties

AA = "ACDEFGHIKLMNPQRSTVWY"


@given(st.text(AA, max_size=60))
def test_round_trip(text: str) -> None:
    protein = Protein()
    assert protein.decode(protein.encode(text)) == text
    assert protein.encode(text.lower() + "*") == protein.encode(text)


@given(st.text(AA + "-", max_size=60))
def test_round_trip_of_alignments(text: str) -> None:
    protein = Protein(gaps="keep")
    assert protein.vocab_size == 21
    assert protein.decode(protein.encode(text.replace("-", "."))) == text
    assert Protein(gaps="drop").decode(Protein(gaps="drop").encode(text)) == text.replace("-", "")


def test_by_name_and_from_a_run_folder(tmp_path: Path) -> None:
    made = domain("protein", gaps="keep")
    made.save_tokenizer(tmp_path)
    back = Domain.from_json(json.loads(json.dumps(made.to_json())), tmp_path)
    assert isinstance(back, Protein)
    assert (back.vocab_size, back.unit, back.options()) == (21, "residue", made.options())


@pytest.mark.parametrize(
    ("sequence", "reason"),
    [
        ("MKV", None),
        ("mkv*", None),
        ("*", "empty"),
        ("MXV", "outside the alphabet: 'X' at position 2"),
        ("MßV", "outside the alphabet: 'ß' (U+00DF) at position 2"),
    ],
)
def test_validity(sequence: str, reason: str | None) -> None:
    assert Protein().invalid(sequence) == reason


def test_upper_case_makes_no_residues() -> None:
    # 'ß'.upper() is 'SS', two residues
    with pytest.raises(UnknownTokenError, match="'ß'"):
        Protein().encode("MßV")


def test_properties() -> None:
    found = properties(Protein(), ["ARI", "KKKK", "DDDDW", "M"])
    # hydropathies of Kyte and Doolittle (1982): A 1.8, R -4.5, I 4.5, K -3.9, D -3.5, W -0.9, M 1.9
    assert found["gravy"] == pytest.approx([0.6, -3.9, -14.9 / 5, 1.9])
    assert found["aromaticity"] == pytest.approx([0, 0, 0.2, 0])
    basic, acidic = found["isoelectric_point"][1:3]
    assert acidic < 4.5
    assert basic > 9.5


def test_figures() -> None:
    protein = Protein()
    figures = protein.metrics(["MKVLA", "MX", "MKVLA*"], reference=["GAVLI", "MKVLA"], training=["mkvla"])
    assert figures["valid"] == {"ratio": 2 / 3, "count": 2, "of": 3, "reasons": {"outside the alphabet": 1}}
    assert figures["unique"] == {"ratio": 0.5, "count": 1, "of": 2}
    assert figures["novel"] == {"ratio": 0.0, "count": 0, "of": 1}
    assert figures["composition"]["unencodable"] == 1
    assert figures["properties"]["gravy"]["count"] == 2
    assert figures["properties"]["gravy"]["wasserstein"] > 0
    json.dumps(figures)
    json.dumps(protein.metrics([], reference=[]))


def test_gaps_are_no_residues() -> None:
    kept = Protein(gaps="keep")
    assert properties(kept, ["M-K-V", "---"])["gravy"] == pytest.approx(properties(kept, ["MKV"])["gravy"])


def test_large_sets_are_thinned() -> None:
    assert len(properties(Protein(), ["MKV"] * (MOST + 500))["gravy"]) == MOST


def test_pictures(tmp_path: Path) -> None:
    drawn = Protein().plots(tmp_path, ["MKVLA", "MKVLG"], reference=["MKV", "MKVLA"])
    assert {"Amino acids", "Lengths", "Residues by position, samples"} <= set(drawn)
    assert "Residues by position, reference" not in drawn  # lengths differ
    for path in drawn.values():
        assert path.read_bytes().startswith(b"\x89PNG")
    assert Protein().plots(tmp_path, [])


@pytest.mark.parametrize(
    ("name", "count", "options", "columns"),
    [
        ("uniprot.test.fasta.xz", 1648, {}, {"label_column": "group"}),
        ("pf00014.test.afa.xz", 285, {"gaps": "drop"}, {}),
        ("pf00014.test.afa.xz", 285, {"gaps": "keep"}, {}),
        ("amp.test.tsv.xz", 638, {}, {"label_column": "is_amp"}),
        ("gb1.test.csv.xz", 7641, {}, {"sequence_column": "variant", "label_column": "flip_keep"}),
    ],
)
def test_real_files(shared_dir: Path, name: str, count: int, options: dict[str, str], columns: dict[str, str]) -> None:
    protein = domain("protein", **options)
    records = list(protein.read(shared_dir / "data" / "protein" / name, **columns))
    assert len(records) == count
    for record in records:
        assert protein.decode(protein.encode(record.sequence)) == record.sequence
    if "label_column" in columns:
        assert all(record.label for record in records)
    if options == {"gaps": "keep"}:
        assert {len(record.sequence) for record in records} == {53}


def test_rare_residues_of_the_pdb(shared_dir: Path) -> None:
    path = shared_dir / "data" / "protein" / "pdb_ss3.test.tsv.xz"
    with pytest.raises(UnknownTokenError, match=r"record 6p4i-A, column 69: 'X' is not in the protein alphabet"):
        list(Protein().read(path))
    with pytest.warns(UserWarning, match=r"of 163 records left out: .*first: record 6p4i-A, column 69: 'X'"):
        assert 100 < len(list(Protein(on_unknown="skip").read(path))) < 163
    with pytest.warns(UserWarning, match="filled at random"):
        assert len(list(Protein(on_unknown="random").read(path))) == 163
