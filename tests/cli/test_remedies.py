"""Remedies are given as the options that the shell takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from discdiff.cli.entry import main


def test_train_names_the_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The option that the message names is the one that then works as said."""
    (tmp_path / "star.fasta").write_text(">a\nACGTACGT\n>b\nAC*TACGT\n")
    words = ["train", str(tmp_path / "star.fasta"), "--domain", "dna", "--output", str(tmp_path / "run")]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "--domain.on_unknown skip" in error
    assert "on_unknown=" not in error
    assert not (tmp_path / "run").exists()
