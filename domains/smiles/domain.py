"""The domain of molecules written as SMILES."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TextIO

from discdiff.constraints import Constraint
from discdiff.data.files import Faults
from discdiff.domain import MASK_SYMBOL, Domain, Record
from discdiff.errors import CheckpointError, ConfigError, DataError
from domains.smiles.vocabulary import AtomVocabulary, ClosedVocabulary, Vocabulary

if TYPE_CHECKING:
    from discdiff.rules import Rule, Rules
    from domains.smiles.reading import Entry

Tokenizer = Literal["closed", "atom"]
Validate = Literal["full", "syntax", "none"]


class SMILES(Domain):
    """Molecules as SMILES strings (Weininger 1988; the OpenSMILES dialect of RDKit).

    Args:
        tokenizer: `"closed"`, 173 tokens that spell every molecule, bracket atoms cut into their parts; or `"atom"`,
            atom-level tokens learned from the training set by `fit`, which refuses what it has not seen.
        canonicalize: rewrite what is read as RDKit's canonical SMILES. Without it strings stay as they are.
        fragments: of a record with several fragments (salts, solvents) `"keep"` all, or the `"largest"`.
        validate: what is checked while reading. `"full"`: RDKit's sanitization (about 3,000 molecules a second);
            `"syntax"`: RDKit's parser, which finds all but valence and aromaticity (six times as fast); `"none"`: only
            that the tokens are known. `canonicalize` always checks in full.
        on_invalid: `"raise"` at the first record that fails the check, or `"skip"` such records, count them and warn.

    Example:
        >>> smiles = SMILES()
        >>> smiles.symbols(smiles.encode("C[13C@H](O)Cl"))
        ['C', '[', '1', '3', 'C', '@', 'H', ']', '(', 'O', ')', 'Cl']
    """

    name: ClassVar[str] = "smiles"
    unit: ClassVar[str] = "character"
    groupings: ClassVar[tuple[str, ...]] = ("scaffold",)
    suffix = "smi"

    def __init__(
        self,
        tokenizer: Tokenizer = "closed",
        canonicalize: bool = False,
        fragments: Literal["keep", "largest"] = "keep",
        validate: Validate = "full",
        on_invalid: Literal["raise", "skip"] = "raise",
    ) -> None:
        for option, value, known in (
            ("tokenizer", tokenizer, ("closed", "atom")),
            ("fragments", fragments, ("keep", "largest")),
            ("validate", validate, ("full", "syntax", "none")),
            ("on_invalid", on_invalid, ("raise", "skip")),
        ):
            if value not in known:
                raise ConfigError(f"smiles: {option} got {value!r}, expected one of {', '.join(map(repr, known))}")
        self.tokenizer: Tokenizer = tokenizer
        self.canonicalize, self.fragments = bool(canonicalize), fragments
        self.validate: Validate = validate
        self.on_invalid = on_invalid
        self._vocabulary: Vocabulary | None = ClosedVocabulary() if tokenizer == "closed" else None

    # ---- tokens -----------------------------------------------------------------------------------------------------
    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens and how strings are cut into them."""
        if self._vocabulary is None:
            raise ConfigError("smiles: tokenizer='atom' learns its tokens; call fit with the training set first")
        return self._vocabulary

    @property
    def vocab_size(self) -> int:
        return len(self.vocabulary.tokens)

    def fit(self, sequences: Iterable[str]) -> SMILES:
        if self.tokenizer == "atom":
            self._vocabulary = AtomVocabulary.learn(sequences)
        return self

    def encode(self, sequence: str, *, record: object | None = None) -> list[int]:
        return self.vocabulary.encode(sequence, record=record)

    def decode(self, tokens: Sequence[int]) -> str:
        known = self.vocabulary.tokens
        if wrong := [token for token in tokens if not 0 <= token < len(known)]:
            raise DataError(f"token {wrong[0]} is none of the {len(known)} of {self!r}", remedy="the mask is no token")
        return "".join([known[token] for token in tokens])

    def symbols(self, tokens: Sequence[int]) -> list[str]:
        shown = (*self.vocabulary.tokens, MASK_SYMBOL)
        return [shown[token] for token in tokens]

    # ---- files ------------------------------------------------------------------------------------------------------
    def read(self, path: str | Path, *, faults: Faults | None = None, **options: Any) -> Iterator[Record]:
        """Records of a `.smi` (SMILES, white space, name), CSV, TSV, Parquet or SD file, checked as they come.

        Args:
            path: the file, plain or compressed by gzip, bzip2 or xz, or a hub data set's name.
            faults: takes the records that cannot be used.
            options: of tables: `sequence_column` (by default `smiles` or the like), `label_column`, `name_column`,
                `where`, `separator`; of SD files: `name_column`, `label_column`, `where`, on properties; `encoding`.

        Raises:
            DataError: names file, record, SMILES and RDKit's reason.
        """
        from domains.smiles.reading import read_entries, rejected

        taken = faults or Faults(path)
        # an option of the domain leaves records out whatever the policy
        policy: Literal["skip"] | None = "skip" if self.on_invalid == "skip" else None
        kept = 0
        for entry in read_entries(path, taken, **options):
            fault = entry.fault or self._fault(entry.record.sequence)
            if fault is None:
                kept += 1
                yield self._normalized(entry)
                continue
            error = rejected(entry, fault, path, "correct or remove it; on_invalid='skip' leaves such records out")
            kind, _, _ = fault.partition(": ")
            taken.add(error, reason=fault.split(" at position ")[0] if kind == "parse error" else kind, on_error=policy)
        if faults is None:
            taken.warn(kept)

    def _fault(self, smiles: str) -> str | None:
        from domains.smiles import chemistry

        if self.canonicalize or self.validate == "full":
            return chemistry.fault(smiles)
        return chemistry.syntax_fault(smiles) if self.validate == "syntax" else None

    def _normalized(self, entry: Entry) -> Record:
        from domains.smiles import chemistry

        record = entry.record
        smiles = record.sequence
        if self.fragments == "largest":
            smiles = chemistry.largest_fragment(smiles)
        if self.canonicalize:
            smiles = chemistry.canonical(smiles)
        return record if smiles == record.sequence else Record(smiles, record.name, record.label, record.place)

    def write(self, records: Iterable[Record], stream: TextIO) -> None:
        """SMILES lines: the string, and after a tab the name where there is one."""
        for record in records:
            stream.write(f"{record.sequence}\t{record.name}\n" if record.name else f"{record.sequence}\n")

    # ---- what chemists know and want to know ------------------------------------------------------------------------
    def template(self, text: str) -> Constraint:
        """A fragment with gaps: `c1ccccc1{4}C(=O)O`; see `domains.smiles.template.read_template`."""
        from domains.smiles.template import read_template

        return read_template(text, self.vocabulary)

    @property
    def rules(self) -> Mapping[str, Rule]:
        """The grammar, elements, rings, hetero-atoms, fragments, lengths; see `domains.smiles.rules`."""
        from domains.smiles.rules import rules

        return rules(self.vocabulary)

    @property
    def validity(self) -> Rules:
        """The grammar, and the valence of atoms; what RDKit finds beside, mostly of aromaticity, no automaton holds."""
        return {"grammar": "", "valence": ""}

    def invalid(self, sequence: str) -> str | None:
        """RDKit's parser and sanitization on the raw string; the reason begins with its kind and a colon."""
        from domains.smiles import chemistry

        return chemistry.fault(sequence)

    def canonical(self, sequence: str) -> str:
        """RDKit's canonical isomeric SMILES."""
        from domains.smiles import chemistry

        return chemistry.canonical(sequence)

    def groups(self, how: str, sequences: Sequence[str], **options: Any) -> list[str | None]:
        """`"scaffold"`: the Bemis-Murcko scaffold, None for molecules without a ring (`generic`: without elements)."""
        if how not in self.groupings:
            return super().groups(how, sequences, **options)
        from domains.smiles import chemistry

        return [chemistry.scaffold(smiles, **options) for smiles in sequences]

    def metrics(
        self,
        samples: Sequence[str],
        *,
        reference: Sequence[str] | None = None,
        training: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """The figures of all domains, and of the valid samples: properties, their distances, internal diversity."""
        from domains.smiles.metrics import molecule_metrics, possibly_equal

        if training is not None:
            training = possibly_equal(samples, training)
        found = super().metrics(samples, reference=reference, training=training)
        return found | molecule_metrics(samples, reference)

    def plots(
        self, folder: Path, samples: Sequence[str], *, reference: Sequence[str] | None = None
    ) -> Mapping[str, Path]:
        """A grid of molecules (SVG and PNG) and histograms of their properties."""
        from domains.smiles.plots import draw_plots

        return draw_plots(folder, samples, reference)

    # ---- run folders ------------------------------------------------------------------------------------------------
    def options(self) -> dict[str, Any]:
        return {
            "tokenizer": self.tokenizer,
            "canonicalize": self.canonicalize,
            "fragments": self.fragments,
            "validate": self.validate,
            "on_invalid": self.on_invalid,
        }

    def save_tokenizer(self, folder: Path) -> None:
        (folder / "tokenizer.json").write_text(self.vocabulary.tokenizer().to_str(pretty=True), encoding="utf-8")

    def load_tokenizer(self, folder: Path) -> None:
        path = folder / "tokenizer.json"
        try:
            ids = json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"]
            tokens = sorted(ids, key=ids.__getitem__)
            if [ids[token] for token in tokens] != list(range(len(tokens))):
                raise ValueError("ids are not 0, 1, 2, ...")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path}: cannot be read as a vocabulary of SMILES ({error!r})") from error
        if self.tokenizer == "atom":
            self._vocabulary = AtomVocabulary(tokens)
        elif tuple(tokens) != self.vocabulary.tokens:
            raise CheckpointError(
                f"{path}: holds {len(tokens)} tokens that are not the closed vocabulary of this version "
                f"({self.vocab_size} tokens); load it with the version of discdiff that wrote it"
            )
