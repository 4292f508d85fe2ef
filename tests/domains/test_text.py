"""Text: files, holes, figures."""

from __future__ import annotations

import gzip
import io
import math
from pathlib import Path

import pandas as pd
import pytest
import torch

from discdiff.constraints import Allowed, Automaton, Clamp
from discdiff.domain import Record
from discdiff.errors import DataError, TemplateError
from domains.text import Text, shipped_text

CORPUS = shipped_text()[:60_000]


@pytest.fixture(scope="module")
def bpe() -> Text:
    return Text(vocab_size=600).fit([CORPUS])


@pytest.fixture(scope="module")
def characters() -> Text:
    return Text(tokenizer="characters").fit([CORPUS])


# ---- files ----------------------------------------------------------------------------------------------------------
def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_streams_and_lines(tmp_path: Path) -> None:
    text = "one\r\n\r\n two \nthree"
    path = write(tmp_path, "a.txt", text)
    assert Text().streams
    assert "".join(r.sequence for r in Text().read(path)) == "one\n\n two \nthree"
    assert not Text(lines=True).streams
    assert list(Text(lines=True).read(path)) == [
        Record("one", place=1), Record(" two ", place=3), Record("three", place=4)
    ]  # fmt: skip
    packed = tmp_path / "a.txt.gz"
    packed.write_bytes(gzip.compress(("long line\n" * 1_000_000).encode()))
    records = list(Text().read(packed))
    assert len(records) > 1, "a long file comes in parts"
    assert "".join(r.sequence for r in records) == "long line\n" * 1_000_000


def test_json_lines_and_tables(tmp_path: Path) -> None:
    path = write(
        tmp_path, "a.jsonl", '{"id": 1, "text": "a\\nb", "kind": "x"}\n\n{"id": 2, "text": "c", "kind": "y"}\n'
    )
    assert [r.sequence for r in Text().read(path)] == ["a\nb\n\n", "c\n\n"]
    assert list(Text(lines=True).read(path, label_column="kind", where={"kind": "y"})) == [Record("c", "2", "y", 2)]
    pd.DataFrame({"Text": ["NA", "null"]}).to_csv(tmp_path / "a.csv", index=False)
    pd.DataFrame({"content": ["NA", "null"]}).to_parquet(tmp_path / "a.parquet")
    for name in ("a.csv", "a.parquet"):
        assert [r.sequence for r in Text(lines=True).read(tmp_path / name)] == ["NA", "null"]


@pytest.mark.parametrize(
    ("name", "text", "options", "match"),
    [
        ("a.txt", "", {}, "empty"),
        ("b.txt", "\n \n", {}, "all lines are blank"),
        ("c.txt", "a\n", {"where": {"x": 1}}, "a text file has no where"),
        ("d.jsonl", '{"text": "a"}\n{"text": \n', {}, "line 2, column 9: not JSON"),
        ("e.jsonl", '["a"]\n', {}, "line 1: expected an object, got list"),
        ("f.jsonl", '{"body": "a", "n": 1}\n', {}, "no field 'text'.*fields of this line: body, n"),
        ("g.jsonl", '{"text": 3}\n', {}, "field 'text' holds 3, not a string"),
        ("h.jsonl", '{"text": ""}\n', {}, r"line 1: the text \(field 'text'\) is empty"),
        ("i.jsonl", '{"text": "a", "k": 1}\n', {"where": {"k": 2}}, "none of 1 lines"),
        ("j.csv", "x,y\n1,2\n", {}, "columns found: x, y"),
        ("k.txt", "ok\na\x00b\n", {}, "line 2.*byte 0x00"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, text: str, options: dict[str, object], match: str) -> None:
    path = write(tmp_path, name, text)
    with pytest.raises(DataError, match=match) as caught:
        list(Text(lines=True).read(path, **options))
    assert str(path) in str(caught.value)
    (tmp_path / "latin.txt").write_bytes("caf\u00e9".encode("latin-1"))
    with pytest.raises(DataError, match=r"byte offset 3.*not UTF-8.*encoding="):
        list(Text().read(tmp_path / "latin.txt"))
    assert next(iter(Text().read(tmp_path / "latin.txt", encoding="latin-1"))).sequence == "café"


def test_written_lines_are_read_again(tmp_path: Path) -> None:
    stream = io.StringIO()
    Text(lines=True).write([Record("anna"), Record("ben")], stream)
    assert [r.sequence for r in Text(lines=True).read(write(tmp_path, "a.txt", stream.getvalue()))] == ["anna", "ben"]
    stream = io.StringIO()
    Text().write([Record("a\nb"), Record("c")], stream)
    assert stream.getvalue() == "a\nb\n\nc\n"


@pytest.mark.parametrize(
    ("file", "options", "kind"),
    [
        ("wikitext2.valid.txt.xz", {}, "bpe"),
        ("tinyshakespeare.valid.txt.xz", {}, "characters"),
        ("names.valid.txt.xz", {"lines": True}, "characters"),
        ("us_addresses.valid.jsonl.xz", {}, "bpe"),
    ],
)
def test_shared_files_round_trip(shared_dir: Path, file: str, options: dict[str, bool], kind: str) -> None:
    path = shared_dir / "data" / "text" / file
    if not path.exists():
        pytest.skip(f"reference data absent: {file}")
    domain = Text(tokenizer=kind, vocab_size=1000, lines=bool(options))
    texts = [record.sequence for record in domain.read(path)]
    domain.fit(texts)
    assert [domain.decode(domain.encode(text)) for text in texts] == texts
    data = domain.dataset(path, length=64)
    assert data.texts([0])[0] == (texts[0] if options else domain.decode(domain.encode(texts[0])[:64]))


# ---- holes ----------------------------------------------------------------------------------------------------------
def shown(domain: Text, template: str) -> list[str]:
    constraint = domain.template(template)
    assert constraint.length is not None
    tokens, frozen = constraint.given(1, constraint.length)
    return domain.symbols(torch.where(frozen, tokens, domain.vocab_size)[0].tolist())


def test_holes(bpe: Text, characters: Text) -> None:
    assert "".join(shown(bpe, "the module [MASK] is a class [MASK:3].")) == "the module_ is a class___."
    assert shown(characters, "a [MASK:2]b") == ["a", " ", "_", "_", "b"]
    assert "".join(shown(bpe, r"a \[MASK] b")) == "a [MASK] b"
    assert "".join(shown(bpe, r"a\\[MASK]")) == "a\\_"
    assert "".join(shown(bpe, r"[MASKED] \[mask] \[MASK")) == "[MASKED] [mask] [MASK"
    assert "".join(shown(characters, "\n a\n")) == "\n a\n"
    assert isinstance(bpe.template("a [MASK]"), Clamp)


def test_choices(bpe: Text, characters: Text) -> None:
    constraint = characters.template("[MASK=a|e]x")
    assert isinstance(constraint, Allowed)
    assert constraint.table[0, 0].nonzero()[:, 0].tolist() == sorted(characters.encode("ae"))
    constraint = bpe.template("this [MASK=is|a] it")  # the space goes with the word
    assert isinstance(constraint, Allowed)
    position = len(bpe.encode("this"))
    assert constraint.table[0, position].nonzero()[:, 0].tolist() == sorted(bpe.encode(" is") + bpe.encode(" a"))


def test_choices_of_several_tokens(bpe: Text, characters: Text) -> None:
    """Each choice is cut as the tokenizer cuts it, with the space before it."""
    for domain in (bpe, characters):
        found = domain.template("this [MASK=is not|a] it")
        assert isinstance(found, Automaton)
        space = "" if domain is characters else " "
        before = domain.encode("this") if space else domain.encode("this ")
        words = [domain.encode(space + word) for word in ("is not", "a")]
        assert len(words[0]) > 1
        sizes = sorted(len(before) + len(word) + len(domain.encode(" it")) for word in words)
        assert found.possible_lengths(40).tolist() == sizes
        for word in words:
            assert found.language.accepts([*before, *word, *domain.encode(" it")])
        assert not found.language.accepts([*before, *words[0], *words[1], *domain.encode(" it")])


def test_holes_of_several_lengths(bpe: Text) -> None:
    found = bpe.template("the [MASK:2-4].")
    assert isinstance(found, Automaton)
    ends = len(bpe.encode("the")) + len(bpe.encode("."))
    assert found.possible_lengths(20).tolist() == [ends + 2, ends + 3, ends + 4]


def test_holes_with_a_pattern(bpe: Text, characters: Text) -> None:
    """What the pattern matches, in any tokens, and just what is given around it."""
    for domain in (bpe, characters):
        found = domain.template(r"in [MASK/(?a)\d{1,2}|two/] or [MASK/[a-c]+x?/]!")
        assert isinstance(found, Automaton)
        for text, expected in [
            ("in 12 or abcx!", True), ("in two or a!", True), ("in 1 or x!", False), ("in 123 or a!", False),
            ("in 12 or abx", False), ("in12 or ab!", False), ("in  12 or ab!", False), ("in two two or a!", False),
        ]:  # fmt: skip
            assert found.language.accepts(domain.encode(text)) == expected, text
        cut = [domain.encode("in"), *map(domain.encode, " 12"), domain.encode(" or"), *map(domain.encode, " abc!")]
        assert found.language.accepts([token for part in cut for token in part])


@pytest.mark.parametrize(
    ("template", "column", "part"),
    [
        ("", 0, "empty"),
        ("a [MASK:3-2]", 8, "the range 3-2 runs backwards (from 2 to 3?)"),
        ("a [MASK/[b/]", 8, "'[' is never closed"),
        ("a [MASK/b{3,1}/]", 9, "the range 3 to 1 runs backwards"),
        ("a [MASK/é/]", 8, "'é' is not in the alphabet"),
        ("a [MASK/b]", 7, "the regular expression is never closed"),
        ("a [MASK:0]", 8, "gap of 0"),
        ("a [MASK:-1]", 8, "negative"),
        ("a [MASK:x]", 8, "number of positions"),
        ("a [MASK:3", 2, "never closed"),
        ("a [MASK:3 b [MASK]", 2, "'[' is never closed (add ']'"),
        ("a [MASK/b", 2, "'[' is never closed (add '/]'"),
        ("a [MASK", 2, "'[' is never closed (add ']'"),
        ("a [mask:3] b", 2, r"'[mask:3]' is no hole (write [MASK:3], or \[mask:3] for"),
        ("a [Mask]", 2, "write [MASK], or"),
        ("a [MASK 3-8]", 2, "write [MASK:3-8], or"),
        ("a [MASK=a||b]", 10, "empty choice"),
        ("a [MASK=a|é]", 10, "'é'"),
        ("a [MASK=a|bcé]", 12, "'é'"),
        ("a [MASK] é", 9, "'é'"),
        ("é[MASK]", 0, "'é'"),
    ],
)
def test_faulty_holes(characters: Text, template: str, column: int, part: str) -> None:
    with pytest.raises(TemplateError) as caught:
        characters.template(template)
    assert caught.value.column == column
    assert part in str(caught.value)


# ---- figures --------------------------------------------------------------------------------------------------------
def test_figures(characters: Text, tmp_path: Path) -> None:
    samples = ["aaaa", "abab", "the cat the cat", "\ufffd"]
    found = characters.metrics(samples, reference=["abab", "the cat"], training=["abab"])
    assert found["valid"]["reasons"] == {"broken UTF-8": 1}
    assert found["novel"] == {"ratio": 2 / 3, "count": 2, "of": 3}
    assert found["distinct"]["1 words"]["count"] == 5
    assert found["distinct"]["2 words"] == {"ratio": 2 / 3, "count": 2, "of": 3}
    assert found["entropy"]["min"] == 0
    assert characters.metrics(["abab"])["entropy"]["mean"] == pytest.approx(math.log(2))
    assert set(found["divergence"]) == {f"{n} characters" for n in (1, 2, 3, 4)} | {"1 words", "2 words"}
    assert all(0 < value <= 1 for value in found["divergence"].values())
    same = characters.metrics(["abab the"], reference=["abab the"])["divergence"]
    assert same["1 characters"] == same["2 words"] is None or same["1 characters"] == 0
    assert characters.metrics([])["distinct"]["1 words"]["ratio"] is None
    drawn = characters.plots(tmp_path / "plots", samples, reference=["abab"])
    assert [path.name for path in drawn.values()] == ["token_ranks.png"]
    assert next(iter(drawn.values())).stat().st_size > 1000
    assert characters.plots(tmp_path / "plots", [])


def test_units_are_characters(bpe: Text) -> None:
    assert bpe.units("naïve 🙂") == 7
