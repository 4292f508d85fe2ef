"""What people write by mistake, and what they are told."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Discdiff, Workshop


@pytest.mark.parametrize("command", [["sample", "RUN"], ["infill", "RUN", "ACN{4}"]])
def test_guidance_without_labels(workshop: Workshop, discdiff: Discdiff, command: list[str]) -> None:
    words = [workshop.dna if word == "RUN" else word for word in command]
    ran = discdiff(*words, "--guidance", "2")
    assert (ran.code, ran.out) == (2, "")
    assert "the model has no labels" in ran.err
    assert "--data.label_column COLUMN --loss LabelDropout" in ran.err
    assert discdiff(*words, "-n", "1", "--guidance", "1", "--quiet").code == 0
