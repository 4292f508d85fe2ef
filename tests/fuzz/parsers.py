"""Every template language, every rule and the configuration as targets: what is written is read, or refused by us."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import discdiff as dd
from discdiff.errors import DiscdiffError
from discdiff.rules import Span
from tests.fuzz.files import text_domain
from tests.fuzz.mutators import mutated, random_bytes

ROOT = Path(__file__).resolve().parents[2]
SPAN = Span(4, 12)

TEMPLATES = {
    "text": ["running is [MASK] for [MASK:2-4] you", "[MASK:3] [a|b|c] end", "[MASK/[a-z]+/]", "[MASK=a|bc] x"],
    "dna": ["N{3}TATAWAW N{2-4} ATG", "[AC][^G]W{3}_", "acgu"],
    "protein": ["M-x(3)-[LIVM]-{P}-G", "C-x(2,4)-C-x(3)-[LIVM>].", "<M-X{3}-B"],
    "smiles": ["c1ccccc1{2-4}C(=O)O", "C{3}[13C@H](O)Cl", "<C|N|O>{2}"],
    "tokens": ["[5, 3, ?, ?{4}, ?{2-6}, 1|2|7]", "1 2 _ 3"],
}
PIECES = {
    "text": ["[MASK]", "[MASK:", "]", "3", "-", "/", "a", "|", "\\", "\u00e9", "\U0001f642", " ", "\n"],
    "dna": ["A", "N", "W", "{", "}", "2", "-", "[", "]", "^", "_", " ", "u", "99", "0"],
    "protein": ["M", "x", "(", ")", "{", "}", "[", "]", "<", ">", "-", ",", ".", "2", "*", "B", "O", "99"],
    "smiles": ["C", "c", "1", "(", ")", "=", "[", "]", "{", "}", "2", "-", ".", "*", "Cl", "%12", "@", "H", ":"],
    "tokens": ["1", "2", ",", "?", "_", "{", "}", "[", "]", "|", "-", " ", "99", "0", "1000"],
}


@functools.cache
def domain_named(name: str) -> dd.Domain:
    """A domain with a vocabulary."""
    if name == "text":
        letters = 'abcdefghijklmnopqrstuvwxyz ABC0123456789.,:[]{}()|\\/"-+_\n\u00e9\U0001f642'
        return dd.domain("text", tokenizer="characters").fit([letters])
    return dd.domain(name, vocab_size=20) if name == "tokens" else dd.domain(name)


def text_of(data: bytes, random: Random) -> str:
    """Bytes as text, now and then with lone surrogates."""
    return data.decode("utf-8", random.choice(("replace", "ignore", "surrogateescape")))


@dataclass(frozen=True)
class ParserTarget:
    """A parser: its valid inputs, the pieces they are made of, and what reads them."""

    name: str
    valid: tuple[str, ...]
    pieces: tuple[str, ...]
    read: Callable[[str], object]

    def input(self, seed: int) -> bytes:
        """A text drawn by a seed: pieces at random, random characters, or a valid text with changes."""
        random = Random(f"{self.name} {seed}")
        kind = random.random()
        if kind < 0.4:
            return "".join(random.choices(self.pieces, k=random.randint(0, 12))).encode()
        if kind < 0.5:
            return random_bytes(random)
        valid = [one.encode() for one in self.valid]
        return mutated(random.choice(valid), valid, random)[:200]

    def check(self, data: bytes, folder: Path) -> str:
        """Parse; what became of it in a word. Any error but ours passes."""
        text = text_of(data, Random(data))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.read(text)
        except DiscdiffError as error:
            return type(error).__name__ if str(error) else "silent"
        return "read"


@dataclass(frozen=True)
class ConfigTarget:
    """Configurations: files like those that are shipped, with changes; whole ones are built."""

    name: str = "config"

    def input(self, seed: int) -> bytes:
        """A YAML text."""
        random = Random(f"{self.name} {seed}")
        shipped = [path.read_bytes() for path in sorted((ROOT / "configs").glob("*.yaml"))]
        return random_bytes(random) if random.random() < 0.05 else mutated(random.choice(shipped), shipped, random)

    def check(self, data: bytes, folder: Path) -> str:
        """Load; what became of it in a word."""
        from discdiff.experiment import Experiment

        path = folder / "input.yaml"
        path.write_bytes(data)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                Experiment.load(path)
        except DiscdiffError as error:
            return type(error).__name__ if str(error) else "silent"
        return "read"


@functools.cache
def parser_targets() -> dict[str, ParserTarget | ConfigTarget]:
    """Every parser by its name."""
    found: dict[str, ParserTarget | ConfigTarget] = {"config": ConfigTarget()}
    pairs = text_domain(False).template
    found["text-template-bpe"] = ParserTarget(
        "text-template-bpe", tuple(TEMPLATES["text"]), tuple(PIECES["text"]), pairs
    )
    for name, templates in TEMPLATES.items():
        domain = domain_named(name)
        found[f"{name}-template"] = ParserTarget(
            f"{name}-template", tuple(templates), tuple(PIECES[name]), domain.template
        )
        for key, rule in domain.rules.items():
            read = functools.partial(_read, rule.read)
            pieces = (*PIECES[name], *rule.example)
            found[f"{name}-rule-{key}"] = ParserTarget(f"{name}-rule-{key}", (rule.example,), pieces, read)
    return found


def _read(read: Callable[[str, Span], object], value: str) -> object:
    return read(value, SPAN)
