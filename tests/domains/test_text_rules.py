"""Rules of text against Python's `re` and `json`, over characters and over byte-level tokens."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from discdiff.errors import IncompatibleError, TemplateError
from discdiff.languages import Language
from discdiff.rules import Span
from domains.text import Text
from domains.text.tokenizers import BytePairs, Given
from tests.languages.walks import accepted

CORPUS = 'The cat sat; the naïve café, 東京 and 12 or 2024-05-31. A "rhyme" in time!\n\tяблоко don\'t 🙂 ' * 3
PATTERNS = [
    r"\d{4}-\d{2}-\d{2}",
    r"[A-Z][a-z]+( [a-z]{2,5}){1,3}\.",
    r"(?:cat|café|東京|🙂)*",
    r"[^\n]{0,6}",
    r".*é.?",
    r"\w+\s\w+[^\w\s]",
    r"(?a)\w+\W\d?",
    r"[а-я]{3,}|[à-ü]?",
]
SPAN = Span(1, 64)
Accepts = Callable[[str], bool]


@cache
def domain(kind: str) -> Text:
    return Text(tokenizer=kind, vocab_size=360).fit([CORPUS])


def language(kind: str, rule: str, value: str) -> Language:
    return domain(kind).rules[rule].read(value, SPAN)


def texts(seed: int, count: int) -> Iterator[str]:
    """Words of the corpus, cut and joined at random."""
    draw = random.Random(seed)
    for _ in range(count):
        parts = []
        for _ in range(draw.randrange(4)):
            at = draw.randrange(len(CORPUS))
            parts.append(CORPUS[at : at + draw.randrange(8)])
        yield "".join(parts)


def python(pattern: str) -> re.Pattern[str]:
    """Python's reading; its dot stands for a carriage return, ours for neither line break."""
    flags = re.ASCII if pattern.startswith("(?a)") else 0
    return re.compile(pattern.removeprefix("(?a)").replace(".*", r"[^\n\r]*").replace(".?", r"[^\n\r]?"), flags)


def agrees(kind: str, found: Language, expected: Accepts, *, count: int = 150) -> float:
    """Checks a language on texts at random and on texts of its own, near ones too; the share that it accepts."""
    draw, taken = random.Random(1), 0
    own = [domain(kind).decode(accepted(found, draw, longest=draw.randrange(1, 20))) for _ in range(count)]
    assert all(map(expected, own)), [text for text in own if not expected(text)][:3]
    near = []
    for text in own:
        at = draw.randrange(len(text) + 1)
        near.append(text[:at] + draw.choice(["", draw.choice(CORPUS)]) + text[at + draw.randrange(2) :])
    tries = [*own, *near, *texts(2, count)]
    for text in tries:
        assert found.accepts(domain(kind).encode(text)) == expected(text), text
        taken += expected(text)
    return taken / len(tries)


@pytest.mark.parametrize("kind", ["characters", "bpe"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns(kind: str, pattern: str) -> None:
    match = python(pattern)
    alphabet = set(CORPUS)
    known: Accepts = (lambda t: set(t) <= alphabet) if kind == "characters" else lambda t: True
    tried = agrees(kind, language(kind, "regex", pattern), lambda t: known(t) and match.fullmatch(t) is not None)
    assert 0.3 < tried < 0.95


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_way_to_cut_a_text(pattern: str) -> None:
    """Bytes of accepted texts, cut into tokens at random, are accepted; of others they are not."""
    bpe, found, match = domain("bpe"), language("bpe", "regex", pattern), python(pattern)
    spelled = bpe.tokenizer.spelled()
    of_bytes = {word: token for token, word in enumerate(spelled)}
    draw, seen = random.Random(3), set()
    own = [bpe.decode(accepted(found, draw, longest=8)) for _ in range(60)]
    for text in [*own, *texts(4, 60)]:
        raw, tokens = text.encode(), []
        while raw:
            size = draw.choice([n for n in range(1, len(raw) + 1) if raw[:n] in of_bytes])
            tokens.append(of_bytes[raw[:size]])
            raw = raw[size:]
        assert bpe.decode(tokens) == text
        assert found.accepts(tokens) == (match.fullmatch(text) is not None)
        seen.add(tokens == bpe.encode(text))
    assert seen == {True, False}


def test_only_whole_characters() -> None:
    """Bytes that are no UTF-8 are in no language, not even in that of what does not occur."""
    bpe, found = domain("bpe"), language("bpe", "forbid", "cat")
    of_bytes = {word: token for token, word in enumerate(bpe.tokenizer.spelled())}
    for raw in (b"\xc3", b"\xa9", b"\xe6\x9d", b"\xff", b"a\x80"):
        assert not found.accepts([of_bytes[bytes([byte])] for byte in raw])
    assert found.accepts([of_bytes[b"\xc3"], of_bytes[b"\xa9"]])


def literal_or_pattern(value: str) -> Callable[[str], bool]:
    if len(value) > 2 and value[0] == value[-1] == "/":
        inner = python(re.sub(r"\$$", r"\\Z", value[1:-1]))  # Python's $ is before a last line break too
        return lambda text: inner.search(text) is not None
    return lambda text: value in text


@pytest.mark.parametrize("kind", ["characters", "bpe"])
@pytest.mark.parametrize("value", ["at", "é", "/[cs]at[^h]/", "/\\d\\d|🙂/", "/", "aa", "/^[Tt]|e$/", "/[|$]|(a|t) /"])
def test_somewhere_and_nowhere(kind: str, value: str) -> None:
    if kind == "characters" and not set(value) <= set(CORPUS) | set("\\[]^|/d$()"):
        pytest.skip("characters that the corpus lacks are another test")
    if kind == "characters" and (value == "/" or "[|" in value):
        return
    has = literal_or_pattern(value)
    alphabet = set(CORPUS)
    known: Accepts = (lambda t: set(t) <= alphabet) if kind == "characters" else lambda t: True
    agrees(kind, language(kind, "require", value), lambda t: known(t) and has(t))
    agrees(kind, language(kind, "forbid", value), lambda t: known(t) and not has(t))


@pytest.mark.parametrize("kind", ["characters", "bpe"])
def test_choices(kind: str) -> None:
    found = language(kind, "choices", "the cat|café|東京|the")
    agrees(kind, found, {"the cat", "café", "東京", "the"}.__contains__, count=60)
    if kind == "bpe":
        agrees(kind, language(kind, "choices", r"a\|b|c"), {"a|b", "c"}.__contains__, count=30)


@pytest.mark.parametrize("kind", ["characters", "bpe"])
def test_words(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("the\ncat\n\ndon't\ncafé\nsat\n", encoding="utf-8")
    alphabet = set(CORPUS)
    plain = [
        ("the,cat, café", {"the", "cat", "café"}, r"\w+", False),
        (f"@{path}", {"the", "cat", "don't", "café", "sat"}, r"[\w']+", False),
        ("THE,cat/i", {"the", "cat"}, r"\w+", True),
    ]
    for value, listed, shape, any_case in plain:

        def expected(text: str, shape: str = shape, listed: set[str] = listed, any_case: bool = any_case) -> bool:
            words = re.findall(shape, text.lower() if any_case else text)
            known = kind == "bpe" or set(text) <= alphabet
            return known and all(word in listed for word in words)

        if kind == "bpe" or set(value.replace("/i", "").replace(f"@{path}", "")) <= alphabet | {","}:
            agrees(kind, language(kind, "words", value), expected)


@pytest.mark.parametrize(("value", "low", "high"), [("3", 3, 3), ("2-4", 2, 4), ("5-", 5, None)])
def test_lengths(value: str, low: int, high: int | None) -> None:
    tokens, letters = language("bpe", "length", value), language("bpe", "characters", value)
    for text in [*texts(5, 60), "東京🙂é", "naïve"]:
        sequence = domain("bpe").encode(text)
        assert tokens.accepts(sequence) == (low <= len(sequence) and (high is None or len(sequence) <= high))
        assert letters.accepts(sequence) == (low <= len(text) and (high is None or len(text) <= high))


def test_tokenizers_of_others(tmp_path: Path) -> None:
    """A byte-level `tokenizer.json` works as ours does; one of words is refused."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    domain("bpe").save_tokenizer(tmp_path)
    other = Given(tmp_path / "tokenizer.json")
    assert isinstance(domain("bpe").tokenizer, BytePairs)
    assert other.spelled() == domain("bpe").tokenizer.spelled()
    words = Tokenizer(models.WordLevel({"the": 0, "cat": 1, "[UNK]": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(tmp_path / "words.json"))
    with pytest.warns(UserWarning, match="exactly"):
        text = Text(tokenizer=str(tmp_path / "words.json"))
    with pytest.raises(IncompatibleError, match="neither characters nor bytes"):
        text.rules["regex"].read("the", SPAN)
    assert text.rules["length"].read("2", SPAN).accepts([0, 1])


# ---- faults ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("rule", "value", "column", "part"),
    [
        ("regex", "", None, "the regular expression is empty"),
        ("regex", "a[bc", 1, "'[' is never closed"),
        ("regex", "(ab", 0, "'(' is never closed"),
        ("regex", "ab)", 2, "')' closes nothing"),
        ("regex", "a{4,2}", 1, "the range 4 to 2 runs backwards (from 2 to 4?)"),
        ("regex", "abécd", 2, "'é' is not in the alphabet"),
        ("regex", r"a\d", 1, r"no character of the alphabet is \d"),
        ("regex", "a(?=b)", 1, "look-ahead is not supported"),
        ("regex", "a(?i)b", 1, "a flag here is not supported"),
        ("require", "abÉ", 2, "'É' is not among the 27 characters that the model knows"),
        ("require", "", 0, "nothing to look for"),
        ("forbid", "/a[b/", 1, "'[' is never closed"),
        ("choices", "yes|No", 0, "'N' is not among the 27 characters"),
        ("choices", "yes||no", 4, "an empty choice"),
        ("words", "the,two words", 3, "a word with a space"),
        ("words", "the,don't", 3, '"\'" is not among the 27 characters'),
        ("length", "20-10", 0, "the range 20 to 10 runs backwards (10-20?)"),
        ("length", "many", 0, "expected a number or a range"),
        ("json", '{"type": "null"', 15, "the schema is no JSON"),
        ("json", '{"type": "object"}', 0, "'{' is not among the 27 characters that the model knows (JSON needs it)"),
    ],
)
def test_faults(rule: str, value: str, column: int | None, part: str) -> None:
    letters = Text(tokenizer="characters").fit(["abcdefghijklmnopqrstuvwxyz "])
    with pytest.raises(TemplateError) as caught:
        letters.rules[rule].read(value, SPAN)
    assert part in str(caught.value)
    assert caught.value.column == column


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for rule in ("words", "json"):
        with pytest.raises(IncompatibleError, match=f"{rule}: got @.*nothing.txt, expected a file of text"):
            language("bpe", rule, f"@{tmp_path}/nothing.txt")
    with pytest.raises(IncompatibleError, match="expected words"):
        language("bpe", "words", " , ")


def test_rules_are_listed_before_there_are_tokens() -> None:
    rules = Text().rules
    assert list(rules) == ["regex", "require", "forbid", "choices", "words", "json", "length", "characters"]
    for name, rule in rules.items():
        assert language("bpe", name, rule.example).lengths(64).any()
