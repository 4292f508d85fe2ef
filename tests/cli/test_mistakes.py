"""What people write by mistake, and what they are told."""

from __future__ import annotations

import subprocess
import sys

import pytest

from discdiff.pipeline import Pipeline
from tests.cli.conftest import Discdiff, Workshop


@pytest.mark.parametrize("command", [["sample", "RUN"], ["infill", "RUN", "ACN{4}"]])
def test_guidance_without_labels(workshop: Workshop, discdiff: Discdiff, command: list[str]) -> None:
    words = [workshop.dna if word == "RUN" else word for word in command]
    ran = discdiff(*words, "--guidance", "2")
    assert (ran.code, ran.out) == (2, "")
    assert "the model has no labels" in ran.err
    assert "--data.label_column COLUMN --loss LabelDropout" in ran.err
    assert discdiff(*words, "-n", "1", "--guidance", "1", "--quiet").code == 0


@pytest.mark.parametrize(
    "mistake", [["--sampler", "nosuch"], ["--rule", "=3"]], ids=["no such sampler", "a rule without a name"]
)
@pytest.mark.parametrize("command", [["sample", "RUN"], ["infill", "RUN", "N{4}"]])
def test_what_needs_no_model_is_told_before_one_is_loaded(
    workshop: Workshop,
    discdiff: Discdiff,
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    mistake: list[str],
) -> None:
    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded first")

    monkeypatch.setattr(Pipeline, "load", loaded)
    ran = discdiff(*[workshop.dna if word == "RUN" else word for word in command], *mistake)
    assert ran.code == 2
    assert mistake[0] in ran.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sample", "RUN", "--rule", "nosuch=3"], "no rule 'nosuch'"),
        (["sample", "RUN", "--rule", "gc=much"], "much"),
        (["sample", "RUN", "--forbid", "EcoRX"], "EcoRX"),
        (["infill", "RUN", "ACGT!"], "'!' is no base"),
        (["infill", "RUN", "N{4}", "--rule", "nosuch=3"], "no rule 'nosuch'"),
    ],
)
def test_what_the_domain_cannot_read_is_told_before_a_model_is_loaded(
    workshop: Workshop, discdiff: Discdiff, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    """And in the words of the pipeline, which reads it all again."""
    line = [str(workshop.dna) if word == "RUN" else word for word in words]
    with monkeypatch.context() as late:
        late.setattr("discdiff.cli.options.check_asked", lambda *_, **__: None)
        told = discdiff(*line).err

    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded first")

    monkeypatch.setattr(Pipeline, "load", loaded)
    ran = discdiff(*line)
    assert (ran.code, ran.out, ran.err) == (2, "", told)
    assert said in ran.err


def test_a_wrong_path_is_told_before_torch_is_imported() -> None:
    code = "import sys; from discdiff.cli import main; code = main(sys.argv[1:]); "
    code += "sys.exit(10 * code + ('torch' in sys.modules))"
    for words in (["sample", "nowhere"], ["infill", "nowhere", "N"], ["score", "nowhere", "a.fasta"]):
        done = subprocess.run([sys.executable, "-c", code, *words], check=False, timeout=60)
        assert done.returncode == 20, words


def test_a_run_is_loaded_without_the_compiler(workshop: Workshop) -> None:
    """Torch's compiler and its algebra take seconds to import, and a mistake would wait for them."""
    code = "import sys; from discdiff.pipeline import Pipeline; Pipeline.load(sys.argv[1]); "
    code += "sys.exit(', '.join({'torch._dynamo', 'sympy'} & set(sys.modules)) or None)"
    subprocess.run([sys.executable, "-c", code, str(workshop.dna)], check=True, timeout=120)
