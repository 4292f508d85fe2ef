"""`discdiff score` and `evaluate`: what the figures are called, units, notes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Discdiff, Workshop, write_fasta


@pytest.mark.parametrize(
    ("words", "kind", "figure"),
    [
        ([], "upper_bound", "upper bound, standard error 0."),
        (["--order", "left_to_right"], "exact_in_order", "exact in order); exact in left to right"),
        (["--orders", "2"], "mixture_upper_bound", "mixture upper bound, standard error 0."),
    ],
)
def test_header_footer_and_json_say_what_it_is(
    workshop: Workshop, discdiff: Discdiff, words: list[str], kind: str, figure: str
) -> None:
    table = discdiff("score", workshop.dna, workshop.fasta, "--noise-levels", "2", *words)
    assert table.code == 0, table.err
    assert table.out.splitlines()[0] == f"name\tbases\tnats_{kind}\tstandard_error\tbits_per_base_{kind}"
    assert figure in table.err
    rows = discdiff("score", workshop.dna, workshop.fasta, "--noise-levels", "2", "--json", "--quiet", *words)
    first = json.loads(rows.out.splitlines()[0])
    assert first["figure"] == kind.replace("_", " ")
    assert first["method"]
    assert rows.err == ""


def test_tolerance_that_is_not_met_is_a_note(workshop: Workshop, discdiff: Discdiff, tmp_path: Path) -> None:
    """One line in the command line's own words: no file, no source line, no argument of Python."""
    two = write_fasta(tmp_path / "two.fasta", 2)
    for _ in range(2):  # also the second time in one process
        ran = discdiff("score", workshop.dna, two, "--tolerance", "1e-7", "--batch-size", "40", "--quiet")
        assert ran.code == 0
        (note,) = ran.err.splitlines()
        assert note.startswith("discdiff: a standard error of 1e-07 nats per token was NOT met with 1024 noise levels")
        assert note.endswith("raise --tolerance")


def test_units(workshop: Workshop, discdiff: Discdiff) -> None:
    ran = discdiff("score", workshop.dna, workshop.fasta, "--noise-levels", "2", "--unit", "token")
    assert ran.code == 0, ran.err
    assert ran.out.startswith("name\ttokens\tnats_upper_bound\tstandard_error\tbits_per_token_upper_bound\n")
    assert "bits per token (upper bound" in ran.err
    for command in (["score", workshop.dna, workshop.fasta], ["evaluate", workshop.dna, "--reference", workshop.fasta]):
        refused = discdiff(*command, "--unit", "byte", *(["-n", "0"] if command[0] == "evaluate" else []))
        assert refused.code == 2
        assert "unit: got 'byte', expected token or base" in refused.err
