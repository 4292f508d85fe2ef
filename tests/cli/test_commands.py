"""`discdiff sample, infill, score, evaluate, domains`: good input."""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path
from typing import Any

import pytest

import discdiff as dd
from discdiff.cli.options import SAMPLERS, sampler_kinds
from tests.cases import build
from tests.cli.conftest import SMALL, Discdiff, Workshop


def test_sample(workshop: Workshop, discdiff: Discdiff) -> None:
    ran = discdiff("sample", workshop.dna, "-n", "5")
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0::2] == [f">sample_{i}" for i in range(1, 6)]
    assert lines[1::2] == dd.Pipeline.load(workshop.dna).sample(5)
    assert discdiff("sample", workshop.dna, "-n", "2", "--batch-size", "1").out.splitlines() == lines[:4]
    assert discdiff("sample", workshop.dna, "-n", "5", "--seed", "1").out != ran.out


def test_sample_options(workshop: Workshop, discdiff: Discdiff) -> None:
    ran = discdiff("sample", workshop.dna, "-n", "3", "--length", "9", "--sampler", "first-hitting",
                   "--temperature", "0.5", "--device", "cpu", "--json")  # fmt: skip
    assert ran.code == 0, ran.err
    rows = [json.loads(line) for line in ran.out.splitlines()]
    assert [len(row["sequence"]) for row in rows] == [9, 9, 9]
    assert rows[0]["valid"] is True


def test_both_names_of_a_precision(workshop: Workshop, discdiff: Discdiff, tmp_path: Path) -> None:
    """Here bfloat16 is the usual one, in training bf16."""
    ran = [discdiff("sample", workshop.dna, "-n", "2", "--precision", name) for name in ("bfloat16", "bf16")]
    assert [each.code for each in ran] == [0, 0], ran[1].err
    assert ran[0].out == ran[1].out
    words = ["train", workshop.fasta, "--domain", "dna", "--output", tmp_path / "run", *SMALL]
    trained = discdiff(*words, "--training.precision=bfloat16")
    assert trained.code == 0, trained.err


def test_sample_by_every_sampler(workshop: Workshop, discdiff: Discdiff) -> None:
    """Each that `--help` names, and no other; the strings are the pipeline's."""
    kinds = sampler_kinds()
    assert sorted(kinds) == sorted(set(SAMPLERS.replace(",", "").split()) - {"or"})
    pipe = dd.Pipeline.load(workshop.dna)
    for name, kind in kinds.items():
        ran = discdiff("sample", workshop.dna, "-n", "2", "--length", "5", "--sampler", name)
        assert ran.code == 0, ran.err
        assert ran.out.splitlines()[1::2] == pipe.sample(2, length=5, sampler=kind())


def test_truncation(workshop: Workshop, discdiff: Discdiff) -> None:
    """The most likely token alone, from the left: the seed decides nothing. A mass of 1 changes nothing."""

    def drawn(seed: int, *words: str, command: tuple[str, ...] = ("sample",)) -> str:
        ran = discdiff(command[0], workshop.dna, *command[1:], "-n", "3", "--seed", str(seed), *words)
        assert ran.code == 0, ran.err
        return ran.out

    for command in (("sample",), ("infill", "NNTATAWAW")):
        once = ("--sampler", "bisection", *(("--length", "9") if command == ("sample",) else ()))
        for cut in (("--top-k", "1"), ("--top-p", "1e-9")):
            assert drawn(0, *once, *cut, command=command) == drawn(1, *once, *cut, command=command)
        assert drawn(0, *once, command=command) != drawn(1, *once, command=command)
        assert drawn(0, *once, "--top-p", "1", command=command) == drawn(0, *once, command=command)


def test_sample_by_label(workshop: Workshop, discdiff: Discdiff) -> None:
    ran = discdiff("sample", workshop.labelled, "-n", "2", "--label", "yes")
    assert ran.code == 0, ran.err
    assert discdiff("sample", workshop.labelled, "-n", "2").code == 0


def test_output_file(workshop: Workshop, discdiff: Discdiff, tmp_path: Path) -> None:
    target = tmp_path / "samples.fasta"
    target.write_text("old")
    ran = discdiff("sample", workshop.dna, "-n", "2", "-o", target)
    assert ran.out == ""
    assert ran.err == f"wrote {target}\n"
    assert target.read_text() == discdiff("sample", workshop.dna, "-n", "2").out
    assert [path.name for path in tmp_path.iterdir()] == ["samples.fasta"]
    assert target.stat().st_mode & 0o777 == (workshop.dna / "config.yaml").stat().st_mode & 0o777


def test_a_full_disk_names_the_file(
    workshop: Workshop, discdiff: Discdiff, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("discdiff.cli.output.os.fsync", full)
    out = tmp_path / "samples.fasta"
    ran = discdiff("sample", workshop.dna, "-n", "2", "-o", out)
    assert (ran.code, f"discdiff: {out}: No space left on device" in ran.err) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_name_of_the_hub(discdiff: Discdiff, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the file and the run changed places."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one.fasta").write_text(">a\nACGT\n")
    ran = discdiff("score", "data/one.fasta", "runs")
    assert (
        ran.err == "discdiff: data/one.fasta: a file, not a run folder. Give the folder that `discdiff train` wrote.\n"
    )


def test_infill(workshop: Workshop, discdiff: Discdiff) -> None:
    ran = discdiff("infill", workshop.dna, "NNTATAWAW", "-n", "4")
    assert ran.code == 0, ran.err
    filled = ran.out.splitlines()[1::2]
    assert len(filled) == 4
    assert {s[2:6] for s in filled} == {"TATA"}
    assert {len(s) for s in filled} == {9}


def test_score(workshop: Workshop, discdiff: Discdiff) -> None:
    ran = discdiff("score", workshop.dna, workshop.fasta, "--noise-levels", "2")
    assert ran.code == 0, ran.err
    header, *rows = ran.out.splitlines()
    assert header == "name\tbases\tnats_upper_bound\tstandard_error\tbits_per_base_upper_bound"
    assert [row.split("\t")[0] for row in rows] == [f"p{i}" for i in range(40)]
    assert "bits per base" in ran.err
    as_json = discdiff("score", workshop.dna, workshop.fasta, "--noise-levels", "2", "--json", "--quiet")
    first = json.loads(as_json.out.splitlines()[0])
    assert f"{first['nats']:.4f}" == rows[0].split("\t")[2]
    # the scores of the pipeline
    scores = dd.Pipeline.load(workshop.dna).score([first["sequence"]], samples=2)
    assert scores[0].nats == pytest.approx(first["nats"], rel=1e-5)


def test_score_rows_of_a_table(workshop: Workshop, discdiff: Discdiff) -> None:
    chosen = ["--where", "split=test", "--sequence-column", "sequence", "--noise-levels", "2", "--quiet"]
    by_column = discdiff("score", workshop.labelled, workshop.table, *chosen, "--label-column", "is_promoter")
    assert by_column.code == 0, by_column.err
    assert len(by_column.out.splitlines()) == 1 + 4
    by_name = discdiff("score", workshop.labelled, workshop.table, *chosen, "--label", "yes")
    assert by_name.code == 0, by_name.err
    refused = discdiff("score", workshop.labelled, workshop.table, *chosen)
    assert refused.code == 2
    assert "--label-column" in refused.err


def test_long_sequences(workshop: Workshop, discdiff: Discdiff, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed.fasta"
    mixed.write_text(">short\nACGTACGT\n>long\n" + "ACGT" * 5 + "\n")
    refused = discdiff("score", workshop.dna, mixed)
    assert refused.code == 2
    assert "1 of 2 sequences are longer than length=14" in refused.err
    skipped = discdiff("score", workshop.dna, mixed, "--on-long", "skip")
    assert skipped.code == 0
    assert [line.split("\t")[0] for line in skipped.out.splitlines()] == ["name", "short"]
    assert "left out" in skipped.err


def test_evaluate_reads_both_files_alike(workshop: Workshop, discdiff: Discdiff, tmp_path: Path) -> None:
    bare = tmp_path / "bare.txt"
    bare.write_text("ACGTACGT\nACGGACGT\n")
    words = ["evaluate", workshop.dna, "--reference", bare, "--training", bare, "-n", "2", "--noise-levels", "2"]
    assert "pass --format lines" in discdiff(*words).err
    ran = discdiff(*words, "--format", "lines", "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["samples"]["novel"] is not None


def test_evaluate(workshop: Workshop, discdiff: Discdiff, tmp_path: Path) -> None:
    words = [
        "evaluate",
        workshop.dna,
        "--reference",
        workshop.fasta,
        "--training",
        workshop.fasta,
        "--noise-levels",
        "2",
    ]
    ran = discdiff(*words, "-n", "6", "--plots", tmp_path / "plots")
    assert ran.code == 0, ran.err
    assert "bits per unit: " in ran.out
    assert "valid: 100.00% (6 of 6)" in ran.out
    assert "novel: " in ran.out
    assert list((tmp_path / "plots").glob("*.png"))
    assert discdiff(*words, "--training-where", "nonsense").code == 2
    bound_only = discdiff(*words, "-n", "0", "--json")
    report = json.loads(bound_only.out)
    assert set(report) == {"run", "reference", "bound"}
    assert 1.5 < report["bound"]["bits_per_unit"] < 3
    assert report["bound"]["standard_error_bits"] > 0


def test_domains(discdiff: Discdiff) -> None:
    ran = discdiff("domains")
    assert ran.code == 0
    for name in ("dna", "protein", "smiles", "text", "tokens"):
        assert f"\n{name}\n" in "\n" + ran.out
    assert "N{20}TATAWAW N{30} ATG" in ran.out
    assert "4 tokens: A C G T" in ran.out
    one = discdiff("domains", "dna", "--json")
    assert "IUPAC" in json.loads(one.out)["documentation"]
    assert discdiff("domains", "dnna").err == (
        "discdiff: no domain 'dnna'; installed: dna, protein, smiles, text, tokens. Did you mean 'dna'?\n"
    )


def test_template_examples_are_read() -> None:
    from discdiff.cli.domains import EXAMPLES

    fitted: dict[str, dict[str, Any]] = {"text": {"tokenizer": "characters"}, "tokens": {"vocab_size": 10}}
    for name, (_, template) in EXAMPLES.items():
        domain = dd.domain(name, **fitted.get(name, {}))
        if name == "text":
            domain.fit([template])
        assert domain.template(template).length


def test_score_by_order_span_and_token(workshop: Workshop, discdiff: Discdiff) -> None:
    ordered = discdiff("score", workshop.dna, workshop.fasta, "--order", "left_to_right", "--per-token", "--json")
    assert ordered.code == 0, ordered.err
    rows = [json.loads(line) for line in ordered.out.splitlines()]
    for row in rows:
        assert sum(token["nats"] for token in row["tokens"]) == pytest.approx(row["nats"], abs=1e-6)
        assert "".join(token["token"] for token in row["tokens"]) == row["sequence"]
    span = discdiff("score", workshop.dna, workshop.fasta, "--span", "3:4", "--order", "random", "--json")
    assert span.code == 0, span.err
    assert all(json.loads(line)["units"] == 2 for line in span.out.splitlines())
    mixture = discdiff("score", workshop.dna, workshop.fasta, "--orders", "2", "--quiet")
    assert mixture.code == 0, mixture.err
    table = discdiff("score", workshop.dna, workshop.fasta, "--per-token", "--tolerance", "0.5")
    assert table.out.splitlines()[0] == "name\tposition\ttoken\tnats_upper_bound"
    for words, said in (
        (["--span", "9"], "START:END"),
        (["--span", "3:400"], "does not lie within"),
        (["--orders", "2", "--order", "random"], "one of order"),
    ):
        refused = discdiff("score", workshop.dna, workshop.fasta, *words)
        assert refused.code == 2
        assert said in refused.err


@pytest.mark.parametrize(
    ("name", "gaps"),
    [
        ("dna", ["N{30}", "N{4-8}"]),
        ("protein", ["x(3)", "x(2,4)"]),
        ("smiles", ["C{4}", "C{4-8}", "C_", "<C|N|O>"]),
        ("text", ["[MASK]", "[MASK:3]", "[MASK:3-8]", "[MASK=he|she]", r"[MASK/\d+/]"]),
        ("tokens", ["?{4}", "?{4-6}", "1|2|7"]),
    ],
)
def test_the_gaps_that_help_names_are_read(discdiff: Discdiff, name: str, gaps: list[str]) -> None:
    fitted: dict[str, dict[str, Any]] = {"text": {"tokenizer": "characters"}, "tokens": {"vocab_size": 10}}
    domain = dd.domain(name, **fitted.get(name, {}))
    if name == "text":
        domain.fit(["hesh0123456789"])
    (line,) = (line for line in discdiff("domains", name).out.splitlines() if line.startswith("  gaps:"))
    for gap in gaps:
        assert gap.removeprefix("C") in line or gap in line
        domain.template(gap)


def test_particles_name_their_samplers(discdiff: Discdiff) -> None:
    """The help lists just those samplers that no population can weigh."""
    said = (
        " ".join(discdiff("sample", "--help").out.split()).rpartition("--particles K")[2].partition("--batch-size")[0]
    )
    listed = set(re.findall(r"[a-z_]+", said.partition("Not with ")[2])) - {"and"}
    model = build("absorbing", "conditional")
    assert listed == {name for name, kind in sampler_kinds().items() if kind().unweighable(model)}
