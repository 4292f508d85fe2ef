"""A domain of a few letters: enough of the interface to test what stands on domains."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import torch

from discdiff.constraints import Clamp, Constraint
from discdiff.domain import Domain
from discdiff.errors import UnknownTokenError
from discdiff.records import Record


class Letters(Domain):
    """Strings over `alphabet`; a file has a sequence a line, with an optional name and label behind tabs."""

    name = "letters"
    unit = "letter"

    def __init__(self, alphabet: str = "abcd", streams: bool = False) -> None:
        self.alphabet, self.streams = alphabet, streams

    @property
    def vocab_size(self) -> int:
        return len(self.alphabet)

    def encode(self, sequence: str, *, record: object | None = None) -> list[int]:
        for column, letter in enumerate(sequence, 1):
            if letter not in self.alphabet:
                raise UnknownTokenError(f"{letter!r} is not in the alphabet", record=record, column=column)
        return [self.alphabet.index(letter) for letter in sequence]

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(self.alphabet[token] for token in tokens)

    def symbols(self, tokens: Sequence[int]) -> list[str]:
        return [(self.alphabet + "_")[token] for token in tokens]

    def read(self, path: str | Path, **options: Any) -> Iterator[Record]:
        for place, line in enumerate(Path(path).read_text().splitlines(), 1):
            sequence, name, label = [*line.split("\t"), "", ""][:3]
            yield Record(sequence, name or None, label or None, place)

    def write(self, records: Iterable[Record], stream: TextIO) -> None:
        stream.writelines(record.sequence + "\n" for record in records)

    def template(self, text: str) -> Constraint:
        tokens = [self.alphabet.find(letter) for letter in text]
        return Clamp(torch.tensor(tokens).clamp(min=0), torch.tensor(tokens) >= 0)

    def invalid(self, sequence: str) -> str | None:
        return None

    def options(self) -> dict[str, Any]:
        return {"alphabet": self.alphabet, "streams": self.streams}

    def save_tokenizer(self, folder: Path) -> None:
        (folder / "tokenizer.json").write_text(json.dumps({"alphabet": self.alphabet}))
