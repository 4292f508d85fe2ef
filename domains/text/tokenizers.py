"""How text becomes tokens: bytes in pairs, characters, or what a `tokenizer.json` says."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from sys import getsizeof
from typing import TYPE_CHECKING, Any

from discdiff.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    DiscdiffError,
    IncompatibleError,
    UnknownTokenError,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Pieces

PROBE = "Hello, World!\n\tnaïve “quotes” 東京 🙂  x²\n"
_REMEMBERED, _SHORT, _ENTRY = 96 << 20, 64, 104
"""Bytes of the words whose tokens are remembered, characters of the longest, bytes of an entry of a dict."""
# Between two printable ASCII characters a single space always begins a word of the byte-level pattern, so the text may
# be cut there without any token changing.
_SEAM = re.compile(r"(?<=[!-~]) (?=[!-~])")


class Tokenizer(ABC):
    """Text to ids 0 .. `size` - 1 and back.

    Attributes:
        size: V.
        spaced: whether tokens carry the space before a word, as those of byte-level BPE do.
        letters: the characters, where each token is one; else None.
    """

    size: int
    spaced: bool = False
    letters: Sequence[str] | None = None

    @abstractmethod
    def encode(self, text: str, *, record: object | None = None) -> list[int]:
        """Ids of a text's tokens; raises UnknownTokenError with record and 1-based position."""

    @abstractmethod
    def decode(self, tokens: Sequence[int]) -> str:
        """The text of some ids."""

    @abstractmethod
    def symbol(self, token: int) -> str:
        """How one token is shown."""

    def num_bytes(self, tokens: Sequence[int]) -> int:
        """How many bytes of UTF-8 the text of some ids has."""
        return len(self.decode(tokens).encode())

    @abstractmethod
    def built(self) -> Pieces:
        """The tokenizer in the Hugging Face `tokenizers` format."""

    def spelled(self) -> Sequence[bytes]:
        """The bytes of each token, which may be parts of characters; a token that no text has is empty.

        Raises:
            IncompatibleError: the text of tokens is not that of each one after the other.
        """
        raise IncompatibleError(
            "Pattern of a text",
            got="a tokenizer whose tokens are neither characters nor bytes",
            expected="a tokenizer of characters, or byte-level BPE",
            remedy="Use a template, or the rule 'length'; patterns over words need one of these tokenizers.",
        )

    def known(self, tokens: Sequence[int]) -> None:
        """Refuse numbers that are no token."""
        if wrong := [token for token in tokens if not 0 <= token < self.size]:
            raise DiscdiffError(f"decode: got token {wrong[0]}, expected 0..{self.size - 1} (the mask is no token)")


class Characters(Tokenizer):
    """One token a character.

    Args:
        characters: the alphabet; ids follow its order.
    """

    def __init__(self, characters: Sequence[str]) -> None:
        self.characters = self.letters = list(characters)
        self._ids = {character: i for i, character in enumerate(self.characters)}
        self.size = len(self.characters)

    @classmethod
    def learn(cls, texts: Iterable[str]) -> Characters:
        """The characters of a corpus, in code point order."""
        found: set[str] = set()
        for text in texts:
            found.update(text)
        if not found:
            raise DataError("no text to learn the characters from", remedy="fit needs a training set")
        return cls(sorted(found))

    def encode(self, text: str, *, record: object | None = None) -> list[int]:
        try:
            return list(map(self._ids.__getitem__, text))
        except KeyError:
            at = next(i for i, character in enumerate(text) if character not in self._ids)
        raise UnknownTokenError(
            f"{text[at]!r} (U+{ord(text[at]):04X}) is not among the {self.size} characters of the training text",
            record=record,
            column=at + 1,
            remedy="tokenizer='bpe' knows every character",
        )

    def decode(self, tokens: Sequence[int]) -> str:
        self.known(tokens)
        return "".join([self.characters[token] for token in tokens])

    def symbol(self, token: int) -> str:
        return self.characters[token]

    def built(self) -> Pieces:
        from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

        pieces = Tokenizer(models.WordLevel(vocab=self._ids, unk_token="[UNK]"))  # noqa: S106 (no password)
        pieces.pre_tokenizer = pre_tokenizers.Split(Regex("(?m:.)"), "isolated")
        pieces.decoder = decoders.Fuse()
        return pieces


class BytePairs(Tokenizer):
    """Byte-level byte-pair encoding (Sennrich et al. 2016; Radford et al. 2019): exact on any Unicode text.

    There are no special tokens: `[MASK]` in a text is six characters.

    Args:
        pieces: a tokenizer that `learn` made.
    """

    spaced = True

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self.size = pieces.get_vocab_size()
        byte_of = _byte_of_character()
        names = [pieces.id_to_token(i) or "" for i in range(self.size)]
        self._bytes = [bytes(byte_of[character] for character in name) for name in names]
        self._numbers = list(range(self.size))  # so that lists of tokens share them: 8 bytes a token, not 40
        self._seen: dict[str, list[int]] = {}
        self._taken = 0

    @classmethod
    def learn(cls, texts: Iterable[str], vocab_size: int) -> BytePairs:
        """Merge pairs until there are `vocab_size` tokens, or no pair occurs twice."""
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        pieces = Tokenizer(models.BPE())
        pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        pieces.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        empty = True

        def blocks() -> Iterable[str]:
            nonlocal empty
            for i, text in enumerate(texts, 1):
                _check_text(text, i)
                empty = empty and not text
                yield from _blocks(text)

        pieces.train_from_iterator(blocks(), trainer)
        if empty:
            raise DataError("no text to learn the tokens from", remedy="fit needs a training set")
        return cls(pieces)

    def encode(self, text: str, *, record: object | None = None) -> list[int]:
        first, *rest = _SEAM.split(text)
        words = [first, *(f" {word}" for word in rest)]
        seen, fresh = self._seen, dict[str, list[int]]()
        if new := list(dict.fromkeys(word for word in words if word not in seen)):
            _check_text(text, record)
            encoded = self._pieces.encode_batch_fast(new, add_special_tokens=False)
            shared = self._numbers.__getitem__
            fresh = dict(zip(new, (list(map(shared, one.ids)) for one in encoded), strict=True))
        tokens: list[int] = []
        for word in words:
            tokens += fresh[word] if word in fresh else seen[word]
        self._remember(fresh)
        return tokens

    def _remember(self, words: dict[str, list[int]]) -> None:
        # A text without spaces is one word, as long as a file: it does not come again, and would fill the memory.
        short = {word: ids for word, ids in words.items() if len(word) <= _SHORT}
        self._seen.update(short)
        self._taken += sum(getsizeof(word) + getsizeof(ids) + _ENTRY for word, ids in short.items())
        if self._taken > _REMEMBERED:
            self._seen, self._taken = {}, 0

    def decode(self, tokens: Sequence[int]) -> str:
        """The text; bytes that are no UTF-8, which a model may write, become U+FFFD."""
        self.known(tokens)
        return b"".join([self._bytes[token] for token in tokens]).decode("utf-8", errors="replace")

    def num_bytes(self, tokens: Sequence[int]) -> int:
        # not of the decoded text: a lone part of a character would count as the three bytes of U+FFFD
        self.known(tokens)
        return sum(len(self._bytes[token]) for token in tokens)

    def symbol(self, token: int) -> str:
        return self._bytes[token].decode("utf-8", errors="backslashreplace")

    def built(self) -> Pieces:
        return self._pieces

    def spelled(self) -> Sequence[bytes]:
        return self._bytes


class Given(Tokenizer):
    """Any `tokenizer.json`. Its special tokens are content here, and nobody's text becomes one of them.

    Args:
        path: the file.

    Raises:
        CheckpointError: it is not there or cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        from tokenizers import Tokenizer

        try:
            text = Path(path).read_text(encoding="utf-8")
            self._pieces = Tokenizer.from_str(text)
        except OSError as error:
            raise CheckpointError(f"{path}: no tokenizer there ({error.strerror})") from error
        except Exception as error:  # the library raises no other
            raise CheckpointError(f"{path}: not a tokenizer.json of Hugging Face tokenizers ({error})") from error
        # Not saved in the file, so set after every load: special tokens in a text are read as text.
        self._pieces.encode_special_tokens = True
        self._pieces.no_truncation()
        self._pieces.no_padding()
        vocabulary = self._pieces.get_vocab(with_added_tokens=True)
        self.size = max(vocabulary.values()) + 1
        unknown = getattr(self._pieces.model, "unk_token", None)
        self._unknown = vocabulary.get(unknown) if unknown is not None else None
        self.spaced = any(name.startswith(("Ġ", "▁")) for name in vocabulary)

    @property
    def exact(self) -> bool:
        """Whether a text with all sorts of characters comes back as it was."""
        try:
            return self.decode(self.encode(PROBE)) == PROBE
        except UnknownTokenError:
            return False

    def encode(self, text: str, *, record: object | None = None) -> list[int]:
        _check_text(text, record)
        try:
            encoding: Any = self._pieces.encode(text, add_special_tokens=False)
        except Exception as error:  # the library raises no other
            raise UnknownTokenError(f"the tokenizer cannot read this text: {error}", record=record) from error
        if self._unknown is not None and self._unknown in encoding.ids:
            start, end = encoding.offsets[encoding.ids.index(self._unknown)]
            raise UnknownTokenError(
                f"{text[start:end]!r} is unknown to the tokenizer",
                record=record,
                column=start + 1,
                remedy="tokenizer='bpe' learns one that knows every character",
            )
        return list(encoding.ids)

    def decode(self, tokens: Sequence[int]) -> str:
        self.known(tokens)
        return str(self._pieces.decode(list(tokens), skip_special_tokens=False))

    def symbol(self, token: int) -> str:
        return self.decode([token]) or self._pieces.id_to_token(token) or ""

    def built(self) -> Pieces:
        return self._pieces

    def spelled(self) -> Sequence[bytes]:
        """As of byte-level BPE; special tokens stand for no text."""
        byte_of = _byte_of_character()
        names = self._pieces.get_vocab(with_added_tokens=False)
        if type(self._pieces.decoder).__name__ != "ByteLevel" or not set(byte_of).issuperset("".join(names)):
            return super().spelled()
        added = {token.content for token in self._pieces.get_added_tokens_decoder().values()}
        found = [b""] * self.size
        for name, token in names.items():
            if name not in added:
                found[token] = bytes(byte_of[character] for character in name)
        return found


def load(path: Path) -> Tokenizer:
    """The tokenizer in a `tokenizer.json`, as one of the quick kinds where it is one."""
    given = Given(path)
    model, before = type(given.built().model).__name__, repr(given.built().pre_tokenizer)
    vocabulary = given.built().get_vocab(with_added_tokens=True)
    if len(vocabulary) == given.size:
        by_id = sorted(vocabulary, key=vocabulary.__getitem__)
        if model == "WordLevel" and given.built().normalizer is None and all(len(name) == 1 for name in by_id):
            return Characters(by_id)
        plain = "ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)"
        bytewise = set(_byte_of_character()) >= set("".join(by_id))
        if model == "BPE" and before == plain and bytewise and given.built().normalizer is None:
            return BytePairs(given.built())
    return given


def check_size(vocab_size: int) -> None:
    """Refuse a byte-pair vocabulary that has no room for the bytes."""
    if vocab_size < 256:
        raise ConfigError(f"text: vocab_size got {vocab_size}, expected at least 256: byte-level BPE begins with bytes")


def _blocks(text: str, size: int = 1 << 16) -> Iterator[str]:
    """A text in parts that are worked on at the same time, cut where no token reaches across."""
    start = 0
    while start < len(text):
        seam = _SEAM.search(text, start + size)
        end = seam.start() if seam else len(text)
        yield text[start:end]
        start = end


def _check_text(text: object, record: object | None) -> None:
    if not isinstance(text, str):
        raise DataError(f"expected text, got {type(text).__name__}", record=record, remedy="decode bytes first")
    if not text.isascii() and (found := re.search("[\ud800-\udfff]", text)):
        raise UnknownTokenError(
            f"U+{ord(found[0]):04X} is half of a surrogate pair, not a character", record=record,
            column=found.start() + 1, remedy="the text was decoded wrongly; read it as UTF-8",
        )  # fmt: skip


def _byte_of_character() -> dict[str, int]:
    """The byte that each character stands for in names of byte-level tokens.

    Printable bytes stand for themselves, the others for the characters from U+0100 on, in order.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}
