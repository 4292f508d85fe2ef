"""`discdiff show`: what a run is, without reading its weights."""

from __future__ import annotations

import json
import math
import random
import re
import shlex
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import discdiff as dd
from discdiff.cli import main
from discdiff.cli.show import examples
from discdiff.description import build, describe
from discdiff.pipeline.results import SamplingDefaults
from discdiff.release.facts import DEFAULT_OF_BLOCKS, DEFAULT_SAMPLER, facts
from tests.cli.conftest import SMALL, Discdiff, Workshop, write_fasta
from tests.signed import change, edit


def lines_of(text: str) -> dict[str, str]:
    """The lines `  name  value` of the text, continued lines joined."""
    joined = re.sub(r"\n {20}(?=\S)", " ", text)
    return dict(re.findall(r"^  (\S+(?: \S+)*) {2,}(\S.*)$", joined, re.M))


def test_text(workshop: Workshop, discdiff: Discdiff) -> None:
    ran = discdiff("show", workshop.dna)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[0] == str(workshop.dna)
    assert re.findall(r"^\w+$", ran.out, re.M) == ["generates", "model", "training", "sampling", "examples"]
    assert max(map(len, ran.out.partition("\nexamples\n")[0].splitlines())) <= 110
    lines, pipe = lines_of(ran.out), dd.Pipeline.load(workshop.dna)
    law = pipe.lengths
    every = [n for n, count in zip(law.lengths, law.counts, strict=True) for _ in range(count)]
    assert lines["domain"] == "dna"
    assert "on_unknown=error" in lines["options"]
    assert lines["vocabulary"] == "4 tokens: A C G T"
    assert lines["longest"] == f"{pipe.max_length} tokens"
    assert lines["training set"] == f"{len(every)} sequences of 12 to 14 tokens, median {statistics.median_low(every)}"
    assert "classes" not in lines
    assert lines["process"] == "Absorbing(vocab_size=4)"
    assert lines["schedule"] == "LogLinear(eps=0.001, t_min=0.001)"
    assert lines["loss"] == "AnyOrder()"
    assert lines["network"].startswith("Transformer(num_states=5, dim=16, depth=1, heads=2, ")
    assert lines["parameters"] == f"{sum(p.numel() for p in pipe.model.parameters()):,}"
    assert lines["steps"] == "4", "of sampling, which comes last"
    assert re.search(r"^  steps +3$", ran.out, re.M), "of training"
    number = r"\d\.\d{4}"
    bound = rf"{number} ± {number} nats per token \({number} bits\), at step 3"
    assert re.fullmatch(bound, lines["validation bound"])
    assert lines["version"] == dd.__version__
    assert lines["sampler"] == "Ancestral()"
    # median_low of lengths 12 and 14
    assert f"infill {workshop.dna} 'TATAAT N{{{statistics.median_low(every) - 6}}}' -n 10" in ran.out


def test_json_says_the_same(workshop: Workshop, discdiff: Discdiff) -> None:
    ran = discdiff("show", workshop.dna, "--json")
    (line,) = ran.out.splitlines()
    found, pipe = json.loads(line), dd.Pipeline.load(workshop.dna)
    assert set(found) == {"run", "generates", "model", "training", "sampling", "examples"}
    for part in ("process", "schedule", "parameterization", "network"):
        assert found["model"][part] == describe(getattr(pipe.model, part))
    assert found["sampling"]["temperature"] == pipe.defaults.temperature
    bound = found["training"]["validation_bound"]
    last = (workshop.dna / "metrics.csv").read_text().splitlines()[-1].split(",")
    assert [bound["nats_per_token"], bound["bits_per_token"], bound["standard_error_nats"]] == pytest.approx(
        [float(cell) for cell in last[-3:]], rel=1e-6
    )
    assert bound["bits_per_token"] == pytest.approx(bound["nats_per_token"] / math.log(2))
    shown = discdiff("show", workshop.dna).out
    for example in found["examples"]:
        assert f"\n  {example}\n" in shown


def test_labelled(workshop: Workshop, discdiff: Discdiff) -> None:
    lines = lines_of(discdiff("show", workshop.labelled).out)
    assert lines["classes"] == "no, yes"
    assert lines["training set"] == "19 sequences of 9 tokens"
    found = json.loads(discdiff("show", workshop.labelled, "--json").out)
    assert found["generates"]["classes"] == ["no", "yes"]
    assert all(example.endswith("--label no") for example in found["examples"])


DATA: dict[str, tuple[list[str], list[str]]] = {
    "dna": (["ACGT", "TTGACATATAAT"], []),
    "protein": (["MKVC", "MACDEFGHIKLMNPQRSTVWYC"], []),
    "smiles": (["CCO", "c1ccccc1C(=O)O"], ["--domain.tokenizer", "atom"]),
    "text": (["the cat sat", "on the mat then"], ["--domain.tokenizer", "characters", "--data.length", "16"]),
    "tokens": (["0 1 2", "2 3 1 0 2 2"], []),
}


@pytest.mark.parametrize("name", dd.domain_names())
def test_its_examples_run(name: str, discdiff: Discdiff, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In each domain all three, as they are printed; one that is wrong for the run would be refused."""
    rows, options = DATA[name]
    draw = random.Random(0)
    rows = [draw.choice(rows) for _ in range(40)]
    fasta = name in ("dna", "protein")
    text = "".join(f">{i}\n{row}\n" if fasta else f"{row}\n" for i, row in enumerate(rows))
    data = tmp_path / {"dna": "x.fasta", "protein": "x.fasta", "smiles": "x.smi"}.get(name, "x.txt")
    data.write_text(text)
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(data), "--domain", name, "--output", "a run", "--quiet", *options, *SMALL]) == 0
    found = json.loads(discdiff("show", "a run", "--json").out)
    assert [shlex.split(example)[1] for example in found["examples"]] == ["sample", "infill", "score"]
    shutil.copy(data, shlex.split(found["examples"][2])[3])
    for example in found["examples"]:
        ran = discdiff(*shlex.split(example)[1:], "--quiet")
        assert ran.code == 0, f"{example}: {ran.err}"


def test_no_template_is_shown_that_the_run_refuses(
    discdiff: Discdiff, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.txt").write_text("абв где " * 40)
    monkeypatch.chdir(tmp_path)
    options = ["--domain.tokenizer", "characters", "--data.length", "16"]
    assert main(["train", "x.txt", "--domain", "text", "--output", "run", "--quiet", *options, *SMALL]) == 0
    assert [example.split()[1] for example in examples(facts(Path("run")))] == ["sample", "score"]
    assert lines_of(discdiff("show", "run").out)["vocabulary"] == "7 tokens: ␣ а б в г д е"


def test_end_token(tmp_path: Path) -> None:
    """To the model all sequences are of one length, which is not the data's; nor is the end token of the domain."""
    write_fasta(tmp_path / "x.fasta", 20)
    words = ["train", str(tmp_path / "x.fasta"), "--domain", "dna", "--output", str(tmp_path / "run"), "--quiet"]
    assert main([*words, *SMALL, "--data.end_token", "true"]) == 0
    made = facts(tmp_path / "run")["generates"]
    assert (made["vocabulary_size"], made["longest"]) == (4, 14)
    assert (made["end_token"], made["training_lengths"]) == (True, None)


def test_a_saved_pipeline(workshop: Workshop, discdiff: Discdiff, tmp_path: Path) -> None:
    """It has no configuration and no figures: these are left out."""
    dd.Pipeline.load(workshop.dna).save(tmp_path / "run")
    ran = discdiff("show", tmp_path / "run")
    assert ran.code == 0, ran.err
    lines = lines_of(ran.out)
    assert lines["process"] == "Absorbing(vocab_size=4)"
    assert not {"loss", "validation bound", "started", "data"} & set(lines)
    assert json.loads(discdiff("show", tmp_path / "run", "--json").out)["model"]["loss"] is None


@pytest.mark.parametrize(("size", "said"), [(None, DEFAULT_SAMPLER), (4, DEFAULT_OF_BLOCKS)])
def test_the_default_sampler(size: int | None, said: dict[str, Any]) -> None:
    process = dd.Absorbing(4)
    network = dd.Transformer(process.num_states, dim=8, depth=1, heads=2, block_size=size)
    model = dd.Diffusion(network, process, dd.LogLinear(), dd.Conditional())
    made = SamplingDefaults().method(model, None, None, None, None, None)
    assert describe(build(said))["class_path"] == describe(made.sampler)["class_path"]


def test_damaged_runs(workshop: Workshop, discdiff: Discdiff, tmp_path: Path) -> None:
    def refused(fault: str) -> str:
        run = shutil.copytree(workshop.dna, tmp_path / fault)
        if fault == "no weights":
            (run / "model.safetensors").unlink()
        elif fault == "another domain":
            change(run, "domain", {})
        elif fault == "no model":
            edit(run, model={"class_path": "discdiff.Diffusion", "init_args": {}})
        else:
            (run / "config.yaml").write_text("loss: [")
        ran = discdiff("show", run)
        assert (ran.code, ran.out) == (2, "")
        return ran.err

    assert "model.safetensors: missing; config.json names it" in refused("no weights")
    assert "config.json: damaged: domain: missing key 'name', missing key 'options'" in refused("another domain")
    assert "config.json: damaged (KeyError: 'network')" in refused("no model")
    assert "config.yaml: cannot be read" in refused("a torn configuration")


def test_it_needs_no_torch_and_no_weights(workshop: Workshop, tmp_path: Path) -> None:
    """What takes seconds to import, or for large models to read."""
    run = shutil.copytree(workshop.dna, tmp_path / "run")
    (run / "model.safetensors").write_bytes(b"not read")
    code = "import sys; from discdiff.cli import main; code = main(['show', sys.argv[1]]); "
    code += "sys.exit(code or 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(run)], check=True, timeout=60, capture_output=True, text=True
    )
    assert "Transformer(" in done.stdout
