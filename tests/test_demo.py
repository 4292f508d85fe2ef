"""The demo runs, at a tiny size, and its report holds what it promises."""

from __future__ import annotations

import importlib.util
import math
import re
import shlex
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from discdiff.cli.entry import parser

DEMO = Path(__file__).parent.parent / "examples" / "demo.py"


@pytest.fixture(scope="module")
def demo() -> Any:
    spec = importlib.util.spec_from_file_location("demo", DEMO)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["demo"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def report(demo: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, str, Path]:
    path = tmp_path_factory.mktemp("demo") / "new" / "report.html"
    path.parent.mkdir()
    sizes = demo.Sizes(max_steps=25, samples=6, infills=4, molecules=300, dim=16, depth=1)
    story = demo.make_report(path, sizes=sizes)
    return story, path.read_text(encoding="utf-8"), path


def test_every_section_is_there(report: tuple[Any, str, Path]) -> None:
    story, html, path = report
    for name in ("samples", "denoising", "infill", "training", "quality", "own", "made"):
        assert f"<section id='{name}'>" in html
        assert f"href='#{name}'" in html
    assert len(story.traces) == 3
    assert html.count("class='trace'") == 3
    assert "of 6" in html
    assert "bigram" in html
    assert f"{story.bound.bits_per_unit:.3f}" in html
    # the report and the model beside it, nothing half-written
    assert sorted(p.name for p in path.parent.iterdir()) == ["report.html", "report_model"]


def test_the_report_needs_nothing_from_outside(report: tuple[Any, str, Path]) -> None:
    html = report[1]
    assert not re.search(r"\b(src|href)\s*=\s*['\"](?!#)", html)
    assert not re.search(r"url\((?!['\"]?#)|@import|<script|<link|<img|<!DOCTYPE svg", html)
    names = re.findall(r"\bid=['\"]([^'\"]+)", html)
    assert len(names) == len(set(names))


def test_tags_are_balanced(report: tuple[Any, str, Path]) -> None:
    stack: list[str] = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag != "meta":
                stack.append(tag)

        def handle_startendtag(self, tag: str, attrs: object) -> None:
            pass

        def handle_endtag(self, tag: str) -> None:
            assert stack.pop() == tag

    Checker().feed(report[1])
    assert not stack


def test_traces_end_in_what_was_sampled(report: tuple[Any, str, Path]) -> None:
    for one in report[0].traces:
        # first hitting writes one token a step
        assert sorted(one.revealed) == list(range(1, len(one.symbols) + 1))
        assert min(one.shades) == 0
        assert max(one.shades) == 7


def test_scaffolds_stand_in_the_infills(demo: Any, report: tuple[Any, str, Path]) -> None:
    for scaffold, found in zip(demo.SCAFFOLDS, report[0].infills, strict=True):
        left, right = scaffold.split("{10}")
        assert len(found.strings) == 4
        assert all(s.startswith(left) and s.endswith(right) for s in found.strings)
        atoms = sum(character.isalpha() for character in left + right)
        assert {len(given) for given in found.given} == {atoms}


def test_commands_of_the_report_parse(report: tuple[Any, str, Path]) -> None:
    blocks = re.findall(r"<pre>(.*?)</pre>", report[1], re.DOTALL)
    lines = [re.sub(r"<i>.*?</i>", "", line) for block in blocks for line in block.splitlines()]
    commands = [shlex.split(unescape(line)) for line in lines]
    assert [words[1] for words in commands] == ["train", "sample", "infill", "score", "evaluate", "sample"]
    for words in commands:
        assert words[0] == "discdiff"
        without = [word for word in words[1:] if word not in ("--domain", "smiles")]  # keys of the configuration
        assert parser().parse_args(without).command == words[1]


def test_ngrams(demo: Any) -> None:
    found = demo.ngrams(["ab" * 50], ["ab" * 50])
    # letters alternate: one bit each without memory, almost nothing with it
    assert math.isclose(found["unigram"], 1.0, abs_tol=0.01)
    assert found["bigram"] < 0.1
    # a law over the symbols and one never seen: finite, and greater
    assert found["unigram"] < demo.ngrams(["ab" * 50], ["xyz"])["unigram"] < math.inf


@pytest.mark.parametrize("words", [["--samples", "0"], ["--minutes", "-1"], ["--minutes", "nan"], ["--output", "."]])
def test_bad_options_are_refused(demo: Any, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        demo.main(words)
    assert stop.value.code == 2
    assert words[0] in capsys.readouterr().err


def test_interrupted_leaves_no_report(demo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo.dd, "fit", interrupted)
    monkeypatch.setattr(demo, "shipped_smiles", lambda **_: ["C" * n for n in range(1, 60)])
    assert demo.main(["--output", str(tmp_path / "report.html")]) == 130
    assert not (tmp_path / "report.html").exists()
