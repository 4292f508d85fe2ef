"""decode(encode(x)) == x for every x that a domain accepts, also after its tokenizer was saved and loaded.

What is not accepted is refused by `UnknownTokenError` or `DataError`, whatever the characters: emoji, NUL, line ends of
every kind, right-to-left text, halves of surrogate pairs, "[MASK]".
"""

from __future__ import annotations

import functools
import json
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import discdiff as dd
from discdiff.domain import Domain
from discdiff.errors import DataError

ODD = [
    "\U0001f642\U0001f469\u200d\U0001f469\u200d\U0001f467", "\0", "a\r\nb\rc\nd\u2028e\x85f", " leading", "trailing  ",
    "\u05e9\u05dc\u05d5\u05dd \u202eabc", "\ud800", "x\udfff", "[MASK]", "[MASK] [PAD][UNK]", "\ufeffbom",
    "e\u0301\u00e9", "", "\u212b", "a" * 300, "</s><|endoftext|>", "\u0120\u010a", "\t\t",
    "\u2003\u00a0", "\uffff\U0010ffff",
]  # fmt: skip
SURROGATE = re.compile("[\ud800-\udfff]")
every = st.text(st.characters(exclude_categories=()), max_size=40) | st.sampled_from(ODD)
"""Any code points, halves of surrogate pairs too."""
mixed = st.lists(st.sampled_from(ODD) | st.text("acgtACGTNUBJZX-.* \n", max_size=9), max_size=5).map("".join)


def _given(folder: Path, kind: str) -> Path:
    """A tokenizer.json of someone else's: byte-level BPE with special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["[MASK]", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([" the cat sat on the mat"] * 9, trainer)
    made.save(str(folder / f"{kind}.json"))
    return folder / f"{kind}.json"


@functools.cache
def domains() -> dict[str, Domain]:
    """Every domain and tokenizer, with its vocabulary."""
    corpus = ["the cat sat on the mat [MASK]\r\n\0", "\U0001f642 \u05e9\u05dc\u05d5\u05dd e\u0301\u00e9 abc"]
    with tempfile.TemporaryDirectory() as folder:
        given_ = dd.domain("text", tokenizer=str(_given(Path(folder), "given")))
    return {
        "text-bpe": dd.domain("text", vocab_size=400).fit(corpus * 20),
        "text-bytes": dd.domain("text", vocab_size=256).fit(corpus),
        "text-characters": dd.domain("text", tokenizer="characters").fit(corpus),
        "text-given": given_,
        "dna": dd.domain("dna"),
        "dna-rna": dd.domain("dna", rna=True, gaps="drop"),
        "dna-random": dd.domain("dna", on_unknown="random"),
        "protein": dd.domain("protein"),
        "protein-gaps": dd.domain("protein", gaps="keep"),
        "smiles": dd.domain("smiles"),
        "smiles-atom": dd.domain("smiles", tokenizer="atom").fit(["CCO", "c1ccccc1[13C@H](F)Cl", "[Na+].[O-]"]),
        "tokens": dd.domain("tokens", vocab_size=1200),
    }


@functools.cache
def reloaded(name: str) -> Domain:
    """The same domain after a way through a folder."""
    with tempfile.TemporaryDirectory() as folder:
        domains()[name].save_tokenizer(Path(folder))
        return Domain.from_json(json.loads(json.dumps(domains()[name].to_json())), Path(folder))


NAMES = [
    "text-bpe", "text-bytes", "text-characters", "text-given", "dna", "dna-rna", "dna-random", "protein",
    "protein-gaps", "smiles", "smiles-atom", "tokens",
]  # fmt: skip
EXACT = {"text-bpe", "text-bytes", "text-characters", "text-given", "smiles", "smiles-atom"}
"""Those that normalise nothing."""


def test_every_domain_is_here() -> None:
    assert {name.split("-")[0] for name in NAMES} == set(dd.domain_names())
    assert list(domains()) == NAMES


@pytest.mark.parametrize("name", NAMES)
@given(text=every | mixed)
def test_what_is_accepted_comes_back(name: str, text: str) -> None:
    domain = domains()[name]
    try:
        tokens = domain.encode(text)
    except DataError:  # UnknownTokenError is one
        with pytest.raises(DataError):
            reloaded(name).encode(text)
        return
    back = domain.decode(tokens)
    assert all(0 <= token < domain.vocab_size for token in tokens)
    if name in EXACT:
        assert back == text
    assert domain.encode(back) == tokens, "what comes back is read as the same"
    assert domain.decode(domain.encode(back)) == back
    assert len(domain.symbols(tokens)) == len(tokens)
    assert reloaded(name).encode(text) == tokens
    assert reloaded(name).decode(tokens) == back


@pytest.mark.parametrize("name", NAMES)
@given(st.data())
def test_every_sequence_of_tokens_is_a_string(name: str, data: st.DataObject) -> None:
    """What a model may write can be shown, and reads as itself where bytes form characters."""
    domain = domains()[name]
    tokens = data.draw(st.lists(st.integers(0, domain.vocab_size - 1), max_size=30))
    back = domain.decode(tokens)
    assert reloaded(name).decode(tokens) == back
    if name.startswith(("dna", "tokens")):
        assert domain.encode(back) == tokens
    if domain.every_valid and tokens:
        assert domain.invalid(back) is None


@pytest.mark.parametrize("name", ["text-bpe", "text-bytes", "text-given"])
@given(text=st.text(max_size=60) | st.sampled_from([odd for odd in ODD if not SURROGATE.search(odd)]))
@example("[MASK]")
@example("a\0b")
def test_byte_level_tokenizers_accept_every_unicode_text(name: str, text: str) -> None:
    assert domains()[name].decode(domains()[name].encode(text)) == text


@pytest.mark.parametrize("name", ["text-bpe", "text-bytes", "text-given", "text-characters"])
@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\ud83d\ude42"])
def test_halves_of_surrogate_pairs_are_refused(name: str, text: str) -> None:
    with pytest.raises(DataError, match=r"U\+D[89A-F][0-9A-F]{2}"):
        domains()[name].encode(text)


@given(raw=st.binary(max_size=60))
def test_bytes_that_are_no_utf8_are_refused_or_come_back(raw: bytes) -> None:
    """Through a file: what stands in it, or an error with the byte's place."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.jsonl"
        path.write_bytes(b'{"text": ' + json.dumps(raw.decode("latin-1")).encode() + b"}\n")
        lines = dd.domain("text", vocab_size=256, lines=True).fit(["abc"])
        if not raw:
            with pytest.raises(DataError, match="empty"):
                lines.dataset(path)
            return
        assert lines.dataset(path).texts() == [raw.decode("latin-1")]
        path = Path(folder) / "x.txt"
        path.write_bytes(raw)
        try:
            expected = raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            expected = "\0"
        if "\0" in expected:
            with pytest.raises(DataError):
                lines.dataset(path)
