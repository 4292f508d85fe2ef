"""What scores are given per: bases, characters, tokens, bytes; and what they say of themselves."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import discdiff as dd
from discdiff.data import LengthModel
from discdiff.errors import IncompatibleError
from discdiff.pipeline import Pipeline
from tests.test_pipeline import trained

TEXTS = ["naïve “quotes”", "東京 🙂", "plain ascii", "e\u0301 x²"]  # 1 to 4 bytes a character; a combining accent


def text_pipeline(tokenizer: str, *, lines: bool = True, length: int = 40) -> Pipeline:
    domain = dd.domain("text", tokenizer=tokenizer, vocab_size=260, lines=lines).fit(TEXTS)
    return Pipeline(trained(domain.vocab_size), domain, LengthModel.of([length]), length)


@pytest.mark.parametrize("tokenizer", ["bpe", "characters"])
def test_bits_per_byte(tokenizer: str) -> None:
    """Nats do not depend on the unit; bytes are those of UTF-8, tokens the tokenizer's, for each text and for all."""
    pipe = text_pipeline(tokenizer)
    plain, by_byte, by_token = (pipe.score(TEXTS, unit=unit) for unit in (None, "byte", "token"))
    for text, one, two, three in zip(TEXTS, plain, by_byte, by_token, strict=True):
        assert one.nats == two.nats == three.nats
        assert (one.unit, two.unit, three.unit) == ("character", "byte", "token")
        assert (one.units, two.units) == (len(text), len(text.encode("utf-8")))
        assert three.units == three.tokens == len(pipe.domain.encode(text))
        assert two.bits_per_unit == pytest.approx(two.nats / math.log(2) / len(text.encode("utf-8")))
    assert by_byte[1].units == 11 != plain[1].units == 4
    bound = pipe.bound(TEXTS, unit="byte")
    assert (bound.unit, bound.units) == ("byte", sum(len(text.encode("utf-8")) for text in TEXTS))
    assert bound.bits_per_unit == pytest.approx(sum(s.nats for s in by_byte) / math.log(2) / bound.units)


def test_bytes_of_blocks_that_cut_characters(tmp_path: Path) -> None:
    """A stream in blocks of 3 tokens cuts characters of several bytes; each block has its own, and none is lost."""
    pipe = text_pipeline("bpe", lines=False, length=3)
    file = tmp_path / "stream.txt"
    file.write_text("東京🙂" * 6, encoding="utf-8")  # 10 bytes, no two of them merged often enough to be one token
    dataset = pipe.read(file)
    scores = pipe.score(dataset, unit="byte")
    assert len(dataset) * 3 == len(pipe.domain.encode("東京🙂" * 6))  # no rest
    assert sum(score.units for score in scores) == 60
    assert sum(len(text.encode("utf-8")) for text in dataset.texts()) > 60  # what their decoded texts would say
    spans = text_pipeline("bpe").score(["東京"], unit="byte", span=(0, 2))
    assert spans[0].units == pipe.domain.counter("byte")("", pipe.domain.encode("東京")[:2])


def test_units_that_a_domain_does_not_have() -> None:
    """Before anything is computed, with the units that there are."""
    dna = dd.domain("dna")
    pipe = Pipeline(trained(dna.vocab_size), dna, LengthModel.of([8]), 8)
    assert pipe.score(["ACGT"], unit="token")[0].units == 4
    for ask in (pipe.score, pipe.bound):
        with pytest.raises(IncompatibleError, match="unit: got 'byte', expected token or base, what dna is counted in"):
            ask(["ACGT"], unit="byte")
    assert list(dd.domain("tokens", vocab_size=3).counters()) == ["token"]


def test_scores_say_what_they_are() -> None:
    pipe = text_pipeline("characters")
    assert {s.claim for s in pipe.score(TEXTS)} == {"upper bound"}
    exact = pipe.score(TEXTS, order="left_to_right")
    assert {(s.claim, s.standard_error) for s in exact} == {("exact in order", 0.0)}
    assert exact[0].method.startswith("exact in left to right")
    assert {s.claim for s in pipe.score(TEXTS, orders=2)} == {"mixture upper bound"}


def test_spans_of_streams_are_refused(tmp_path: Path) -> None:
    """A block is no sequence of the user's: its third token is no place. A string within a block has one."""
    pipe = text_pipeline("characters", lines=False, length=6)
    file = tmp_path / "stream.txt"
    file.write_text("plain ascii, plain ascii".replace(",", ""), encoding="utf-8")
    for what in (pipe.read(file), ["plain ascii"]):
        with pytest.raises(IncompatibleError, match="score of a span: got a stream"):
            pipe.score(what, span=(1, 3))
    assert pipe.score(["plain"], span=(1, 3))[0].units == 2
