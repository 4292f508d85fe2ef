"""The domain of integers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from discdiff.constraints import Constraint
from discdiff.domain import MASK_SYMBOL, Domain, Record
from discdiff.errors import CheckpointError, ConfigError, DataError, DiscdiffError, UnknownTokenError
from discdiff.rules import Rule

_SEPARATORS = re.compile(r"[\s,;]+")
_NUMBER = re.compile(r"\+?[0-9]{1,18}")
_GREATEST = 2**31 - 1


class Tokens(Domain):
    """Sequences of integers 0 .. V − 1, written as numbers with spaces or commas between them.

    Templates are lists with gaps: `[5, 3, ?, ?{4}, ?{2-6}, 1|2|7]`. `?` (or `_`) is any token, `1|2|7` one of these,
    `{4}` and `{2-6}` repeat what stands before them; brackets and commas may be left out.

    >>> tokens = Tokens(vocab_size=10)
    >>> tokens.encode("5, 3, 9"), tokens.decode([5, 3, 9])
    ([5, 3, 9], '5 3 9')
    >>> tokens.template("[5, 3, ?, ?{4}, 1|2|7]").length
    8

    Args:
        vocab_size: V; None lets `fit` take one more than the greatest number of the training set.
        streams: cut files into blocks of the model's length.

    Raises:
        ConfigError: no positive number.
    """

    name = "tokens"
    unit = "token"
    suffix = "txt"

    def __init__(self, vocab_size: int | None = None, streams: bool = False) -> None:
        if vocab_size is not None and vocab_size < 1:
            raise ConfigError(f"vocab_size: got {vocab_size}, expected a positive number")
        self._size, self.streams = vocab_size, streams

    def options(self) -> dict[str, Any]:
        return {"vocab_size": self._size, "streams": self.streams}

    # ---- tokens -----------------------------------------------------------------------------------------------------
    @property
    def vocab_size(self) -> int:
        if self._size is None:
            raise ConfigError("domain 'tokens': vocab_size is not known; pass vocab_size=, or fit it to a training set")
        return self._size

    def fit(self, sequences: Iterable[str]) -> Tokens:
        """Take one more than the greatest number for V, if V was not given."""
        if self._size is None:
            rows = (self._numbers(sequence, record) for record, sequence in enumerate(sequences, start=1))
            greatest = max((max(row, default=-1) for row in rows), default=-1)
            if greatest < 0:
                raise DataError("no tokens to learn vocab_size from", remedy="pass vocab_size=")
            self._size = greatest + 1
        return self

    def encode(self, sequence: str, *, record: object | None = None) -> list[int]:
        tokens = self._numbers(sequence, record)
        if tokens and max(tokens) >= self.vocab_size:
            place = next(i for i, token in enumerate(tokens) if token >= self.vocab_size)
            raise UnknownTokenError(
                f"token {tokens[place]} is not in 0..{self.vocab_size - 1}", record=record, column=place + 1,
                remedy="raise vocab_size or correct the data",
            )  # fmt: skip
        return tokens

    def _numbers(self, sequence: str, record: object | None) -> list[int]:
        words = [word for word in _SEPARATORS.split(sequence.strip().strip("[]()")) if word]
        if all(map(_NUMBER.fullmatch, words)):
            tokens = list(map(int, words))
            if max(tokens, default=0) <= _GREATEST:
                return tokens
        place = next(i for i, word in enumerate(words) if not (_NUMBER.fullmatch(word) and int(word) <= _GREATEST))
        raise UnknownTokenError(
            f"{words[place][:20]!r} is no token", record=record, column=place + 1,
            remedy="expected integers from 0 on, with spaces or commas between them",
        )  # fmt: skip

    def decode(self, tokens: Sequence[int]) -> str:
        for token in tokens:
            if not 0 <= token < self.vocab_size:
                raise DiscdiffError(f"decode: got token {token}, expected 0..{self.vocab_size - 1}")
        return " ".join(map(str, tokens))

    def symbols(self, tokens: Sequence[int]) -> list[str]:
        return [MASK_SYMBOL if token == self.vocab_size else str(token) for token in tokens]

    def units(self, sequence: str) -> int:
        return len(self.parts(sequence))

    def parts(self, sequence: str) -> list[str]:
        """The numbers, as they are written."""
        return [word for word in _SEPARATORS.split(sequence.strip().strip("[]()")) if word]

    def save_tokenizer(self, folder: Path) -> None:
        from tokenizers import Tokenizer, models, pre_tokenizers

        vocabulary = {str(token): token for token in range(self.vocab_size)}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), encoding="utf-8")

    def load_tokenizer(self, folder: Path) -> None:
        path = folder / "tokenizer.json"
        try:
            saved = len(json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"])
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: cannot be read as a tokenizer ({error})") from error
        if self._size not in (None, saved):
            raise CheckpointError(f"{path}: got {saved} tokens, expected {self._size} as config.json says")
        self._size = saved

    # ---- files ------------------------------------------------------------------------------------------------------
    def read(self, path: str | Path, **options: Any) -> Iterator[Record]:
        """Records of an npy, Parquet, CSV, TSV or text file, plain or compressed, or of a hub data set.

        - npy: integers; one axis is one sequence, of more the first counts sequences and the rest are read in order.
        - Parquet, CSV, TSV with a header: a column of numbers in text, or (Parquet) of lists; `sequence_column`,
          `label_column`, `name_column`, `where`.
        - text and CSV without a header: a sequence a line, spaces, tabs or commas between the numbers.

        Raises:
            DataError: with file and record: not integers, negative, empty, or no record.
        """
        from domains.tokens.files import read_tokens

        return read_tokens(self, path, **options)

    def write(self, records: Iterable[Record], stream: TextIO) -> None:
        """One sequence a line; names are not written."""
        for record in records:
            stream.write(record.sequence + "\n")

    # ---- what users know and want to know ---------------------------------------------------------------------------
    def template(self, text: str) -> Constraint:
        from domains.tokens.templates import read_template

        return read_template(text, self.vocab_size)

    @property
    def rules(self) -> Mapping[str, Rule]:
        """require, forbid, regex, count, length."""
        from domains.tokens.rules import rules_of

        return rules_of(lambda: self.vocab_size)

    @property
    def every_valid(self) -> bool:
        return True

    def invalid(self, sequence: str) -> str | None:
        try:
            return None if self.encode(sequence) else "empty"
        except UnknownTokenError as error:
            return f"outside the range: {error.message}"

    def canonical(self, sequence: str) -> str:
        return " ".join(map(str, self._numbers(sequence, None)))

    def plots(
        self, folder: Path, samples: Sequence[str], *, reference: Sequence[str] | None = None
    ) -> Mapping[str, Path]:
        from domains.tokens.plots import plot_tokens

        return plot_tokens(self, folder, samples, reference)
