"""The domain of plain text."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TextIO

from discdiff.constraints import Constraint
from discdiff.domain import MASK_SYMBOL, Domain, Record
from discdiff.errors import CheckpointError, ConfigError, DiscdiffWarning
from discdiff.rules import Rule
from domains.text.tokenizers import BytePairs, Characters, Given, Tokenizer, check_size, load

SAVED = "saved"


class Text(Domain):
    r"""Text of any language.

    Args:
        tokenizer: `"bpe"`, byte-level byte-pair encoding learned by `fit`, exact on any text; `"characters"`, the
            characters of the training text, learned by `fit`; or the path of a `tokenizer.json`. (`"saved"` waits for
            the one of a run folder.)
        vocab_size: tokens that `"bpe"` learns, at least 256.
        lines: each line of a text file is a sequence of its own. Without it a file is one long stream of text, cut
            into blocks of the model's length.
        join: what is put after each document of a JSON Lines file or table when they form a stream.

    Example:
        >>> text = Text(tokenizer="characters").fit(["hello"])
        >>> text.decode(text.encode("hole"))
        'hole'
    """

    name: ClassVar[str] = "text"
    unit: ClassVar[str] = "character"

    def __init__(self, tokenizer: str = "bpe", vocab_size: int = 8192, lines: bool = False, join: str = "\n\n") -> None:
        self.lines, self.streams, self.join = bool(lines), not lines, join
        self.suffix = "txt" if lines else None
        self._wanted, self._kind = vocab_size, tokenizer
        self._tokenizer: Tokenizer | None = None
        if tokenizer == "bpe":
            check_size(vocab_size)
        elif tokenizer not in ("characters", SAVED):
            if not _is_file(tokenizer):
                raise ConfigError(
                    f"text: tokenizer got {tokenizer!r}, expected 'bpe', 'characters' or the path of a tokenizer.json"
                )
            self._tokenizer = load(Path(tokenizer))
            if isinstance(self._tokenizer, Given) and not self._tokenizer.exact:
                warnings.warn(
                    f"{tokenizer} does not give every text back exactly (it normalizes, or has unknown characters)",
                    DiscdiffWarning,
                    stacklevel=2,
                )
            self._kind = SAVED  # a run folder holds its own copy

    # ---- tokens -----------------------------------------------------------------------------------------------------
    @property
    def tokenizer(self) -> Tokenizer:
        """The learned or given tokenizer."""
        if self._tokenizer is None:
            remedy = "load a run folder" if self._kind == SAVED else "call fit with the training text first"
            raise ConfigError(f"text: tokenizer={self._kind!r} has no tokens yet; {remedy}")
        return self._tokenizer

    @property
    def vocab_size(self) -> int:
        return self.tokenizer.size

    def fit(self, sequences: Iterable[str]) -> Text:
        if self._kind == "characters":
            self._tokenizer = Characters.learn(sequences)
        elif self._kind == "bpe":
            self._tokenizer = BytePairs.learn(sequences, self._wanted)
        return self

    def encode(self, sequence: str, *, record: object | None = None) -> list[int]:
        return self.tokenizer.encode(sequence, record=record)

    def decode(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode(tokens)

    def symbols(self, tokens: Sequence[int]) -> list[str]:
        return [MASK_SYMBOL if token == self.vocab_size else self.tokenizer.symbol(token) for token in tokens]

    def counters(self) -> dict[str, Callable[[str, Sequence[int]], int]]:
        """Characters (code points), tokens, and bytes of UTF-8; of a character cut by a block, those within it."""
        return super().counters() | {"byte": lambda sequence, tokens: self.tokenizer.num_bytes(tokens)}

    # ---- files ------------------------------------------------------------------------------------------------------
    def read(self, path: str | Path, **options: Any) -> Iterator[Record]:
        r"""Records of a text file, JSON Lines, or a column of a table or hub data set; line ends become `\n`.

        A text file is one stream, handed out a few million characters at a time, or with `lines` a record a line that
        is not blank.

        Args:
            path: the file (txt, jsonl, CSV, TSV, Parquet), plain or compressed by gzip, bzip2 or xz, or a data set's
                name.
            options: `faults`, which takes what cannot be read; `encoding`; of tables and JSON Lines also
                `sequence_column` (by default `text`), `label_column`, `name_column`, `where`; of tables `separator`.

        Raises:
            DataError: names file, line, and column or byte.
        """
        from domains.text.reading import read_records

        return read_records(path, lines=self.lines, join="" if self.lines else self.join, **options)

    def write(self, records: Iterable[Record], stream: TextIO) -> None:
        """With `lines` a line each; else the texts with a blank line between them."""
        for i, record in enumerate(records):
            stream.write(("\n" if i and not self.lines else "") + record.sequence + "\n")

    # ---- what readers know and want to know -------------------------------------------------------------------------
    def template(self, text: str) -> Constraint:
        """Text with holes, `running is [MASK] for your [MASK:3]`; see `domains.text.template.read_template`."""
        from domains.text.template import read_template

        return read_template(text, self.tokenizer)

    @property
    def rules(self) -> Mapping[str, Rule]:
        """regex, require, forbid, choices, words, json, length, characters."""
        from domains.text.rules import rules_of

        return rules_of(lambda: self.tokenizer)

    @property
    def every_valid(self) -> bool:
        """Bytes may form no character; characters are valid each, and so are texts of them but for line ends."""
        letters = self.tokenizer.letters
        return letters is not None and "\ufffd" not in letters and not (self.lines and "\n" in letters)

    def invalid(self, sequence: str) -> str | None:
        """Text is valid if it decodes: U+FFFD stands where sampled bytes were no UTF-8."""
        if not sequence:
            return "empty: no text"
        at = sequence.find("\ufffd")
        if at >= 0:
            return f"broken UTF-8: the bytes at position {at + 1} form no character"
        if self.lines and "\n" in sequence:
            return "line end: more than one line"
        return None

    def metrics(
        self,
        samples: Sequence[str],
        *,
        reference: Sequence[str] | None = None,
        training: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """The figures of all domains, and n-gram distances, distinct n-grams and the entropy within each text."""
        from domains.text.metrics import text_metrics

        found = super().metrics(samples, reference=reference, training=training)
        return found | text_metrics(self, samples, reference)

    def plots(
        self, folder: Path, samples: Sequence[str], *, reference: Sequence[str] | None = None
    ) -> Mapping[str, Path]:
        """How often the tokens of each rank occur."""
        from domains.text.plots import draw_plots

        return draw_plots(self, folder, samples, reference)

    # ---- run folders ------------------------------------------------------------------------------------------------
    def options(self) -> dict[str, Any]:
        return {"tokenizer": self._kind, "vocab_size": self._wanted, "lines": self.lines, "join": self.join}

    @classmethod
    def rebuilt(cls, options: Mapping[str, Any]) -> Text:
        kind = options.get("tokenizer")
        if kind not in ("bpe", "characters", SAVED):
            raise ConfigError(
                f"text: tokenizer got {kind!r}; that of a run is its own tokenizer.json, not another file"
            )
        return cls(**options)

    def save_tokenizer(self, folder: Path) -> None:
        (folder / "tokenizer.json").write_text(self.tokenizer.built().to_str(pretty=True), encoding="utf-8")

    def load_tokenizer(self, folder: Path) -> None:
        path = folder / "tokenizer.json"
        found = load(path)
        kinds: dict[str, type[Tokenizer]] = {"bpe": BytePairs, "characters": Characters}
        if not isinstance(found, kinds.get(self._kind, Tokenizer)):
            raise CheckpointError(f"{path}: holds no tokenizer of the kind {self._kind!r} that config.json names")
        self._tokenizer = found


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except OSError:  # a name that is too long
        return False
