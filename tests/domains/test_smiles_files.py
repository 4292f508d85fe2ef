"""Files of molecules: what is read, what is refused, and in which words."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rdkit import Chem

from discdiff.domain import Record
from discdiff.errors import ConfigError, DataError
from domains.smiles import SMILES, shipped_paths, shipped_smiles


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def read(path: Path, domain: SMILES | None = None, **options: Any) -> list[Record]:
    return list((domain or SMILES()).read(path, **options))


def test_smiles_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "a.smi", "# comment\r\nCCO ethanol, pure\r\n\r\nc1ccccc1\tbenzene\r\n[Na+].[Cl-]")
    assert read(path) == [
        Record("CCO", "ethanol, pure", place=1),
        Record("c1ccccc1", "benzene", place=2),
        Record("[Na+].[Cl-]", None, place=3),
    ]


def test_a_header_is_no_molecule(tmp_path: Path) -> None:
    assert [r.sequence for r in read(write(tmp_path, "a.smi", "SMILES Name\nCC ethane\n"))] == ["CC"]


@pytest.mark.parametrize(("suffix", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_compressed(tmp_path: Path, suffix: str, pack: object) -> None:
    path = tmp_path / f"a.smi.{suffix}"
    path.write_bytes(pack(b"CCO a\nCCN b\n"))  # type: ignore[operator]
    assert [r.name for r in read(path)] == ["a", "b"]


def test_tables(tmp_path: Path) -> None:
    table = pd.DataFrame({"idx": [1, 2, 3], "SMILES": ["CC", "CO", "CN"], "split": ["train", "test", "train"]})
    table.to_csv(tmp_path / "a.csv", index=False)
    table.to_csv(tmp_path / "a.tsv.gz", index=False, sep="\t")
    table.to_parquet(tmp_path / "a.parquet")
    for name in ("a.csv", "a.tsv.gz", "a.parquet"):
        found = read(tmp_path / name, where={"split": "train"}, name_column="idx", label_column="split")
        assert [(r.sequence, r.name, r.label) for r in found] == [("CC", "1", "train"), ("CN", "3", "train")]


def sd_file(*molecules: tuple[str, str, str]) -> str:
    text = ""
    for smiles, name, kind in molecules:
        block = Chem.MolToMolBlock(Chem.MolFromSmiles(smiles, sanitize=False), kekulize=False).split("\n")
        text += f"{name}\n" + "\n".join(block[1:]) + f"> <kind>\n{kind}\n\n> <other>\n1\n\n$$$$\n"
    return text


def test_sd_files(tmp_path: Path) -> None:
    path = tmp_path / "a.sdf.gz"
    path.write_bytes(gzip.compress(sd_file(("OCC", "ethanol", "x"), ("C1=CC=CC=C1", "", "y")).encode()))
    assert read(path, label_column="kind") == [
        Record("CCO", "ethanol", "x", 1),
        Record("c1ccccc1", None, "y", 2),
    ]
    assert [r.place for r in read(path, where={"kind": "y"})] == [2]
    with pytest.raises(DataError, match=r"no property 'mass'.*kind, other"):
        read(path, name_column="mass")
    with pytest.raises(DataError, match="none of 2 molecules"):
        read(path, where={"kind": "z"})


def test_sd_file_with_a_wrong_molecule(tmp_path: Path) -> None:
    path = write(tmp_path, "a.sdf", sd_file(("CC", "fine", "x"), ("C(C)(C)(C)(C)C", "bad", "x")))
    with pytest.raises(DataError, match=r"a\.sdf, record bad, line \d+: valence: explicit valence.*5"):
        read(path)
    with pytest.warns(UserWarning, match="1 of 2 records left out: valence"):
        assert [r.name for r in read(path, SMILES(on_invalid="skip"))] == ["fine"]
    text = path.read_text().split("M  END")[0]
    with pytest.raises(DataError, match="truncated"):
        read(write(tmp_path, "b.sdf", text))


BAD = [
    ("C(C", ["record 2", "'C(C'", "parse error: extra open parentheses", "position 2"]),
    ("C1CC", ["unclosed ring"]),
    ("[Xx]", ["parse error: syntax error at position 2"]),
    ("n1cccc1", ["kekulization: can't kekulize"]),
    ("C(C)(C)(C)(C)C", ["valence: explicit valence for atom # 0 C, 5"]),
    ("CL", ["parse error", "'CL' may be meant as Cl"]),
    ("ССО", ["parse error", "U+0421"]),
    ("InChI=1S/CH4/h1H4", ["parse error", "this is an InChI"]),
    ("VNWKTOKETHGBQD-UHFFFAOYSA-N", ["parse error", "InChIKey"]),
    ("CCO>>CC", ["parse error", "this is a reaction"]),
    ("c1ccccc1,benzene", ["parse error", "suffix .csv"]),
]


@pytest.mark.parametrize(("smiles", "parts"), BAD)
@pytest.mark.parametrize("name", ["a.smi", "a.csv"])
def test_bad_rows(tmp_path: Path, smiles: str, parts: list[str], name: str, capfd: pytest.CaptureFixture[str]) -> None:
    header, cell = ("", smiles) if name == "a.smi" else ("smiles\n", f'"{smiles}"')
    path = write(tmp_path, name, f"{header}CC\n{cell}\nCO\n")
    with pytest.raises(DataError) as caught:
        read(path)
    for part in (*parts, str(path), "record 2"):
        assert part in str(caught.value)
    with pytest.warns(UserWarning, match="1 of 3 records left out"):
        assert [r.sequence for r in read(path, SMILES(on_invalid="skip"))] == ["CC", "CO"]
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", ""), "RDKit's log must not reach the terminal"


def test_other_bad_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="empty"):
        read(write(tmp_path, "a.smi", ""))
    with pytest.raises(DataError, match="0 records"):
        read(write(tmp_path, "b.smi", "# only a comment\n"))
    with pytest.raises(DataError, match="line 1: the line begins with white space"):
        read(write(tmp_path, "c.smi", " name only\n"))
    with pytest.raises(DataError, match=r"line 3: the sequence.*is empty"):
        read(write(tmp_path, "d.csv", 'smiles,name\nCC,a\n"",b\n'))
    with pytest.raises(DataError, match="columns found: formula, name"):
        read(write(tmp_path, "e.csv", "formula,name\nC2H6,ethane\n"))
    with pytest.raises(DataError, match="no label_column"):
        read(write(tmp_path, "f.smi", "CC a\n"), label_column="x")
    with pytest.raises(DataError, match=r"did you mean 'f\.smi'"):
        read(tmp_path / "g.smi")
    with pytest.raises(DataError, match=r"line 2.*byte 0x00"):
        read(write(tmp_path, "h.smi", "CC a\nC\x00C b\n"))
    with pytest.raises(DataError, match=r"no record is left: all 1 .*The first: record 1: 'C\(C'"):
        read(write(tmp_path, "i.smi", "C(C\n"), SMILES(on_invalid="skip"))
    with pytest.raises(ConfigError, match="'full', 'syntax', 'none'"):
        SMILES(validate=True)  # type: ignore[arg-type]


def test_validation_can_be_turned_down(tmp_path: Path) -> None:
    path = write(tmp_path, "a.smi", "CC\nC(C)(C)(C)(C)C\n")
    assert len(read(path, SMILES(validate="syntax"))) == 2
    path = write(tmp_path, "b.smi", "CC\nC(C\n")
    assert len(read(path, SMILES(validate="none"))) == 2
    with pytest.raises(DataError, match="extra open"):
        read(path, SMILES(validate="syntax"))
    with pytest.raises(DataError, match="extra open"):
        read(path, SMILES(validate="none", canonicalize=True))


def test_normalisation_is_recorded_and_done(tmp_path: Path) -> None:
    path = write(tmp_path, "a.smi", "OCC a\nC(=O)([O-])C.[Na+] b\nC1.C1 c\n")
    assert [r.sequence for r in read(path)] == ["OCC", "C(=O)([O-])C.[Na+]", "C1.C1"]
    domain = SMILES(canonicalize=True, fragments="largest")
    assert read(path, domain) == [
        Record("CCO", "a", None, 1),
        Record("CC(=O)[O-]", "b", None, 2),
        Record("CC", "c", None, 3),
    ]
    assert [r.sequence for r in read(path, SMILES(fragments="largest"))] == ["OCC", "C(=O)([O-])C", "CC"]
    assert SMILES(**domain.options()).options() == domain.options()
    assert domain.options()["canonicalize"] is True


def test_written_lines_are_read_again(tmp_path: Path) -> None:
    records = [Record("CCO", "ethanol", None, 1), Record("[nH]1cccc1", None, None, 2)]
    stream = io.StringIO()
    SMILES().write(records, stream)
    assert read(write(tmp_path, "a.smi", stream.getvalue())) == records


def test_a_data_set_of_a_shared_file(shared_dir: Path) -> None:
    path = shared_dir / "data" / "smiles" / "qm9.csv.xz"
    if not path.exists():
        pytest.skip("reference data absent: qm9.csv.xz")
    domain = SMILES()
    data = domain.dataset(path, where={"split": "valid"})
    assert len(data) == 2620
    assert data.texts([0, 1])[0] == next(iter(domain.read(path, where={"split": "valid"}))).sequence


def test_shipped_molecules() -> None:
    assert all(path.is_file() for path in shipped_paths())
    found = shipped_smiles()
    assert 14_900 < len(found) == len(set(found)) < 15_100
    assert max(map(len, found)) <= 60
    domain = SMILES()
    assert all(domain.invalid(smiles) is None and domain.canonical(smiles) == smiles for smiles in found[::50])
