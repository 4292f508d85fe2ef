"""Tokens of text: exact on anything, the same as the saved tokenizer, and a fault has a place."""

from __future__ import annotations

import json
import tracemalloc
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from discdiff.domain import Domain
from discdiff.errors import CheckpointError, ConfigError, DataError, UnknownTokenError
from domains.text import Text, shipped_text, tokenizers
from domains.text.tokenizers import BytePairs, Given

CORPUS = shipped_text()[:60_000]
HARD = [
    "[MASK] and [PAD], literally [UNK]", "🙂 👩‍👩‍👧 e\u0301", "\x00\x01\ufeff", "a\r\nb\rc\n\n\n  d\t\te ", "שלום עולם",
    "東京は 日本", "  two  spaces   three ", "don't we'll I'M", "x² ½ Ⅷ ٣", " ", "\n", "a\u00a0b\u3000c\u2028d",
    "ABC 123abc !?.", "\x1c \x85 \x0b", "é  é",
]  # fmt: skip


@pytest.fixture(scope="module")
def bpe() -> Text:
    return Text(vocab_size=600).fit([CORPUS])


@pytest.fixture(scope="module")
def characters() -> Text:
    return Text(tokenizer="characters").fit([CORPUS])


# ---- tokens ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("text", HARD)
def test_bpe_is_exact_on_hard_text(bpe: Text, text: str) -> None:
    tokens = bpe.encode(text)
    assert bpe.decode(tokens) == text
    reference = bpe.tokenizer.built()
    assert reference.encode(text, add_special_tokens=False).ids == tokens
    assert reference.decode(tokens, skip_special_tokens=False) == text


@given(st.text(max_size=60))
def test_bpe_is_exact_and_is_its_tokenizer_json(text: str) -> None:
    domain = _bpe()
    tokens = domain.encode(text)
    assert domain.decode(tokens) == text
    assert domain.tokenizer.built().encode(text).ids == tokens


@given(st.lists(st.sampled_from(["a", "is", " ", "  ", "\n", "'s", "é", "9", "!", "\u00a0", "the"]), max_size=30))
def test_cutting_at_spaces_changes_no_token(parts: list[str]) -> None:
    text = "".join(parts)
    domain = _bpe()
    assert domain.encode(text) == domain.tokenizer.built().encode(text).ids


@cache
def _bpe() -> Text:
    return Text(vocab_size=600).fit([CORPUS])


@given(st.lists(st.integers(0, 599), max_size=30))
def test_any_tokens_decode_as_the_library_does(tokens: list[int]) -> None:
    domain = _bpe()
    text = domain.decode(tokens)
    assert text == domain.tokenizer.built().decode(tokens, skip_special_tokens=False)
    assert (domain.invalid(text) is None) == (text != "" and "\ufffd" not in text)


def test_characters_are_learned(characters: Text) -> None:
    assert characters.vocab_size == len(set(CORPUS))
    assert characters.decode(characters.encode(CORPUS)) == CORPUS
    assert characters.tokenizer.built().encode(CORPUS[:3000]).ids == characters.encode(CORPUS[:3000])
    with pytest.raises(UnknownTokenError, match=r"record 5, column 3: 'é' \(U\+00E9\).*'bpe'"):
        characters.encode("caé", record=5)
    assert characters.symbols([0, characters.vocab_size]) == [min(CORPUS), "_"]


def test_learning_is_deterministic() -> None:
    learned = {Text(vocab_size=400).fit(iter([CORPUS])).tokenizer.built().to_str() for _ in range(3)}
    assert len(learned) == 1


def test_what_is_no_text_is_named(bpe: Text) -> None:
    with pytest.raises(UnknownTokenError, match=r"record r1, column 3: U\+D800 is half of a surrogate"):
        bpe.encode("ab\ud800", record="r1")
    with pytest.raises(DataError, match="record 2: expected text, got bytes"):
        Text(vocab_size=300).fit(["a", b"b"])  # type: ignore[list-item]
    with pytest.raises(DataError, match="no text to learn"):
        Text(vocab_size=300).fit([])
    with pytest.raises(DataError, match="no text to learn"):
        Text(tokenizer="characters").fit([""])
    with pytest.raises(ConfigError, match="call fit"):
        Text().encode("a")
    with pytest.raises(ConfigError, match="at least 256"):
        Text(vocab_size=100)
    with pytest.raises(ConfigError, match=r"'bpe', 'characters' or the path"):
        Text(tokenizer="bpee")


def test_symbols_show_broken_characters(bpe: Text) -> None:
    tokens = bpe.encode("é")
    assert bpe.symbols([*tokens, bpe.vocab_size]) == ["\\xc3", "\\xa9", "_"]
    assert bpe.invalid(bpe.decode(tokens[:1])) == "broken UTF-8: the bytes at position 1 form no character"


@pytest.mark.parametrize("kind", ["bpe", "characters"])
def test_run_folder(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    domain: Text = request.getfixturevalue(kind)
    domain.save_tokenizer(tmp_path)
    again = Domain.from_json(json.loads(json.dumps(domain.to_json())), tmp_path)
    assert isinstance(again, Text)
    assert type(again.tokenizer) is type(domain.tokenizer)
    assert again.vocab_size == domain.vocab_size
    assert again.encode(CORPUS[:5000]) == domain.encode(CORPUS[:5000])
    assert Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode("the topic").ids == domain.encode("the topic")
    other = Text(tokenizer="characters" if kind == "bpe" else "bpe")
    with pytest.raises(CheckpointError, match="no tokenizer of the kind"):
        other.load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: not a tokenizer"):
        again.load_tokenizer(tmp_path)


def test_a_tokenizer_json_of_ones_own(bpe: Text, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    bpe.tokenizer.built().save(str(path))
    domain = Text(tokenizer=str(path))
    assert isinstance(domain.tokenizer, BytePairs)
    assert domain.encode(CORPUS) == bpe.encode(CORPUS)
    folder = tmp_path / "run"
    folder.mkdir()
    domain.save_tokenizer(folder)
    path.unlink()  # a run folder can be moved: it has its own copy
    again = Text(**domain.options())
    with pytest.raises(ConfigError, match="load a run folder"):
        _ = again.vocab_size
    again.load_tokenizer(folder)
    assert again.encode("some words") == domain.encode("some words")
    assert Text(**domain.options()).fit(["nothing to learn"]).options() == domain.options()


def test_special_and_unknown_tokens_of_a_tokenizer_json(tmp_path: Path) -> None:
    pieces = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    pieces.normalizer = normalizers.Lowercase()
    pieces.pre_tokenizer = pre_tokenizers.Whitespace()
    pieces.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]", "[MASK]"], show_progress=False)
    pieces.train_from_iterator(["the mask is a [ mask ] of words"] * 5, trainer)
    path = tmp_path / "wordpiece.json"
    pieces.save(str(path))
    with pytest.warns(UserWarning, match="does not give every text back exactly"):
        domain = Text(tokenizer=str(path))
    assert isinstance(domain.tokenizer, Given)
    special = pieces.token_to_id("[MASK]")
    assert special in pieces.encode("the [MASK]").ids
    assert special not in domain.encode("the [MASK]"), "text is never read as a special token"
    with pytest.raises(UnknownTokenError, match=r"record 9, column 5: '東京' is unknown"):
        domain.encode("the 東京", record=9)


# characters of four bytes, and numbers past 256, which Python does not share; words of a few letters
@pytest.mark.parametrize("begin", ["the" * 9 + "\N{DNA DOUBLE HELIX}" * 9, ""], ids=["many tokens", "few"])
def test_what_is_remembered_of_words_is_bounded(monkeypatch: pytest.MonkeyPatch, begin: str) -> None:
    """Long ones are not, however many there are; short ones up to a number of bytes, whatever they are; and all have
    the same tokens as before."""
    bound = 2 << 20
    monkeypatch.setattr(tokenizers, "_REMEMBERED", bound)
    text = Text().fit(["the quick brown fox " * 50])
    assert isinstance(text.tokenizer, BytePairs)
    long = ["".join(map(str, range(start, start + 400))) for start in range(30)]
    first = [text.encode(word) for word in long]
    assert not text.tokenizer._seen
    tracemalloc.start()
    try:
        most = 0
        for number in range(200):
            text.encode(" x ".join(f"{begin}{number}.{i}" for i in range(100)))
            most = max(most, tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert bound / 2 < most < 1.1 * bound
    text.encode("afterwards words are remembered as before")
    assert "afterwards" in text.tokenizer._seen
    assert [text.encode(word) for word in long] == first
    assert [text.decode(text.encode(word)) for word in long] == long
