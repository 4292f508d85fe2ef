"""A character alphabet: a table of 256 entries, exact both ways."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from discdiff.domain import MASK_SYMBOL
from discdiff.errors import ConfigError, DiscdiffError, UnknownTokenError

UNKNOWN = 255
"""What stands for a character that is no letter."""


class Alphabet:
    """Characters and their tokens: the i-th letter is token i.

    Args:
        letters: distinct characters of Latin-1, at most 255.
        title: what messages call the alphabet, such as "DNA".

    Raises:
        ConfigError: no letters, a letter twice, or one outside Latin-1.
    """

    def __init__(self, letters: str, title: str) -> None:
        if not 0 < len(letters) == len(set(letters)) <= UNKNOWN or any(ord(c) > 255 for c in letters):
            raise ConfigError(f"alphabet {letters!r}: expected 1 to 255 distinct Latin-1 characters")
        self.letters, self.title = letters, title
        self._codes = np.frombuffer(letters.encode("latin-1"), dtype=np.uint8)
        self._tokens = np.full(256, UNKNOWN, dtype=np.uint8)
        self._tokens[self._codes] = np.arange(len(letters), dtype=np.uint8)
        # a character outside Latin-1 is looked up as this one, which is no letter
        self._foreign = bytes([next(c for c in range(256) if chr(c) not in letters)])

    def __len__(self) -> int:
        return len(self.letters)

    def __contains__(self, letter: str) -> bool:
        return letter in self.letters

    def lookup(self, text: str) -> NDArray[np.uint8]:
        """Tokens of a string, uint8 `[len(text)]`; 255 where a character is no letter."""
        try:
            raw = text.encode("latin-1")
        except UnicodeEncodeError:
            foreign = self._foreign.decode("latin-1")
            raw = "".join(c if ord(c) < 256 else foreign for c in text).encode("latin-1")
        return self._tokens[np.frombuffer(raw, dtype=np.uint8)]

    def table(self, replaced: bytes) -> bytes:
        """For `bytes.translate`: the token of each of 256 bytes, once it is replaced as another table says.

        255 where the byte is no letter.
        """
        return self._tokens[np.frombuffer(replaced, dtype=np.uint8)].tobytes()

    def first_unknown(self, text: str) -> int | None:
        """0-based index of the first character that is no letter, or None."""
        if text.isascii() and not text.encode().translate(None, self._codes.tobytes()):
            return None
        unknown = self.lookup(text) == UNKNOWN
        return int(unknown.argmax()) if unknown.any() else None

    def encode(self, text: str, *, record: object | None = None, remedy: str | None = None) -> list[int]:
        """Tokens of a string.

        Raises:
            UnknownTokenError: names the record, the 1-based position and the character.
        """
        tokens = self.lookup(text)
        unknown = tokens == UNKNOWN
        if unknown.any():
            raise self.unknown(text, int(unknown.argmax()), record=record, remedy=remedy)
        return [int(token) for token in tokens.tolist()]

    def unknown(
        self,
        text: str,
        index: int,
        *,
        path: object | None = None,
        record: object | None = None,
        remedy: str | None = None,
    ) -> UnknownTokenError:
        """The error for the character at a 0-based index."""
        return UnknownTokenError(
            f"{shown(text[index])} is not in the {self.title} alphabet {self.letters}",
            path=path,
            record=record,
            column=index + 1,
            remedy=remedy,
        )

    def decode(self, tokens: Sequence[int]) -> str:
        """The string of some tokens.

        Raises:
            DiscdiffError: a number that is no content token.
        """
        array = np.asarray(tokens, dtype=np.int64)
        if array.size and not (array.min() >= 0 and array.max() < len(self)):
            wrong = int(array[(array < 0) | (array >= len(self))][0])
            raise DiscdiffError(f"decode: got token {wrong}, expected 0..{len(self) - 1} ({self.title})")
        return self._codes[array].tobytes().decode("latin-1")

    def symbols(self, tokens: Sequence[int]) -> list[str]:
        """One letter a token; token `len(self)` is the mask."""
        shown_as = [*self.letters, MASK_SYMBOL]
        return [shown_as[token] for token in tokens]

    def save_tokenizer(self, folder: Path) -> None:
        """Write the same alphabet as `tokenizer.json` (Hugging Face tokenizers): one token a character.

        It has no unknown token, so that the library refuses what the table refuses.
        """
        from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

        vocabulary = {letter: token for token, letter in enumerate(self.letters)}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("(?m:.)"), "isolated")
        tokenizer.decoder = decoders.Fuse()
        (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), encoding="utf-8")


def shown(character: str) -> str:
    """A character as messages show it: its number too where it cannot be seen or is easily mistaken."""
    code = f" (U+{ord(character):04X})" if not (character.isascii() and character.isprintable()) else ""
    return f"{character!r}{code}"
