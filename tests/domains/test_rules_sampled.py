"""Samples of a whole pipeline under rules and templates of text and of integers: what is asked holds in every one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

import discdiff as dd
from discdiff.data import LengthModel
from discdiff.domain import Domain
from discdiff.errors import EmptyLanguageError
from discdiff.pipeline import Pipeline
from domains.text import Text
from domains.tokens import Tokens
from tests.domains.test_text_json import SCHEMAS, valid
from tests.domains.test_text_rules import domain
from tests.test_pipeline import trained

LONGEST = 40
Check = Callable[[str], bool]


def pipe_of(
    found: Domain, *, end: bool = False, process: type[dd.Absorbing] | type[dd.Uniform] = dd.Absorbing
) -> Pipeline:
    """A small model of a domain, with an opinion."""
    size = found.vocab_size
    lengths = LengthModel.of([LONGEST + 1], end=size) if end else LengthModel.of([8, 12, 24, LONGEST])
    return Pipeline(trained(size + end, process=process(size + end)), found, lengths, LONGEST)


def is_json(name: str) -> Check:
    return lambda text: valid(json.loads(text), SCHEMAS[name])


ASKED: list[tuple[str, str, str, Check]] = [
    ("bpe", "regex", r"(?a)[A-Z]\w{3,30}, \d+\.", lambda t: bool(re.fullmatch(r"[A-Z]\w{3,30}, \d+\.", t, re.ASCII))),
    ("bpe", "require", "東京", lambda t: "東京" in t and "\ufffd" not in t),
    ("bpe", "json", json.dumps(SCHEMAS["person"]), is_json("person")),
    ("bpe", "words", "the,cat,café", lambda t: set(re.findall(r"\w+", t)) <= {"the", "cat", "café"}),
    ("bpe", "characters", "20-30", lambda t: 20 <= len(t) <= 30),
    ("characters", "regex", "([a-z]{2,5} ?)+🙂", lambda t: bool(re.fullmatch("([a-z]{2,5} ?)+🙂", t))),
    ("characters", "forbid", "/[aeio]./", lambda t: not re.search("[aeio][^\n\r]", t)),
    ("characters", "choices", "the cat|in time|a café", lambda t: t in ("the cat", "in time", "a café")),
]


@pytest.mark.parametrize(("kind", "rule", "value", "check"), ASKED, ids=[f"{a[0]} {a[1]}" for a in ASKED])
def test_text(kind: str, rule: str, value: str, check: Check) -> None:
    """All samples, also with an end token and from noise that is no mask; whatever the batch."""
    for pipe in (pipe_of(domain(kind)), pipe_of(domain(kind), end=True), pipe_of(domain(kind), process=dd.Uniform)):
        drawn = pipe.sample(8, rules={rule: value}, steps=6, seed=1)
        assert [text for text in drawn if not check(text)] == []
        assert pipe.sample(8, rules={rule: value}, steps=6, seed=1, batch_size=3) == drawn


@pytest.mark.parametrize("name", ["FirstHitting", "Confidence", "Remasking", "Euler"])
def test_samplers(name: str) -> None:
    pipe = pipe_of(domain("bpe"))
    template = r"the [MASK=cat|naïve café] and [MASK/(?a)\d{4}-\d\d/] [MASK:2-5]."
    sampler = getattr(dd.samplers, name)()
    steps = 6 if sampler.takes_steps else None
    drawn = pipe.infill(template, 8, rules={"forbid": "/[x-z]/", "require": "é"}, sampler=sampler, steps=steps)
    wanted = re.compile(r"the naïve café and \d{4}-\d\d[^x-z]{2,}\.|the cat and \d{4}-\d\d[^x-z]*é[^x-z]*\.", re.ASCII)
    assert [text for text in drawn if not wanted.fullmatch(text)] == []


def test_integers() -> None:
    pipe = pipe_of(Tokens(6))
    rules = {"count": ["5=2-3", "0|1=4-"], "forbid": "2, ?, 2", "require": "3 ?{1-3} 5"}
    for text in pipe.sample(16, rules=rules, steps=8) + pipe.infill("5, ?{6-9}, 1|2", 16, rules=rules, steps=8):
        row = list(map(int, text.split()))
        assert 2 <= row.count(5) <= 3
        assert row.count(0) + row.count(1) >= 4
        assert not any(a == c == 2 for a, c in zip(row, row[2:], strict=False))
        assert any(row[i] == 3 and 5 in row[i + 2 : i + 5] for i in range(len(row)))


def test_what_cannot_be() -> None:
    letters = pipe_of(Text(tokenizer="characters").fit(["abc "]))
    with pytest.raises(EmptyLanguageError, match=r"forbid b cannot hold together with regex a\.b"):
        letters.sample(2, rules={"regex": "a.b", "forbid": "b"})
    with pytest.raises(EmptyLanguageError, match="no sequence of at most 40 tokens"):
        letters.sample(2, rules={"regex": "a{50}"})
    with pytest.raises(EmptyLanguageError, match=r"regex a\{3\}: no sequence of 8 tokens satisfies it"):
        letters.sample(2, rules={"regex": "a{3}"}, length=8)
