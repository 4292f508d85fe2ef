"""What users hand to a pipeline, turned into tensors or refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from discdiff.constraints import Allowed, Automaton, Constraint, PositionWise, Unconstrained
from discdiff.data.dataset import SequenceDataset
from discdiff.domain import Domain
from discdiff.errors import DataError, DiscdiffError, EmptyLanguageError, IncompatibleError, TemplateError
from discdiff.languages import Language
from discdiff.rules import Rules, Span, languages
from discdiff.sequences import Sequences

Labels = str | int | Sequence[str | int] | None


@dataclass(frozen=True)
class Classes:
    """The classes that a model is conditioned on.

    Attributes:
        count: how many; None for a model without labels.
        names: in the order of their numbers; None where they have only numbers.
    """

    count: int | None
    names: Sequence[str] | None

    def numbers(self, labels: Labels, n: int, *, in_turn: bool = False) -> Tensor | None:
        """Numbers of classes, int64 `[n]`; None for a model without labels.

        Args:
            labels: a class, by name or number, or one a sequence.
            n: how many sequences.
            in_turn: take all classes in turn where none are named.

        Raises:
            IncompatibleError: no such class, labels for a model without, or none for a model with labels.
        """
        if self.count is None:
            if labels is None:
                return None
            raise IncompatibleError(
                "labels",
                got=repr(labels),
                expected="none: the model was trained without labels",
                remedy="Leave them out, or train with data.label_column.",
            )
        if labels is None and in_turn:
            return torch.arange(n) % self.count
        known = list(self.names) if self.names else [str(i) for i in range(self.count)]
        if labels is None:
            raise IncompatibleError(
                "labels",
                got="none",
                expected=f"one of {', '.join(known)}: the model was trained with labels",
                remedy="Name a class (--label), or the column of classes (--label-column).",
            )
        each = [labels] * n if isinstance(labels, str | int) else list(labels)
        if len(each) != n:
            raise IncompatibleError("labels", got=len(each), expected=n, remedy="Give one, or one a sequence.")
        for label in each:
            if str(label) not in known:
                raise IncompatibleError(
                    "label", got=repr(label), expected=f"one of {', '.join(known)}", remedy="Name a class of the run."
                )
        return torch.tensor([known.index(str(label)) for label in each])

    def of_rows(self, labels: Labels, rows: Tensor) -> Tensor | None:
        """Numbers of the classes of some of a job's rows: int64 `[len(rows)]`, or None for a model without labels.

        Args:
            labels: a class, one for each row of the job, or None for all classes in turn.
            rows: int64, numbers of rows from 0 on.

        Raises:
            IncompatibleError: see `numbers`.
        """
        if labels is None and self.count is not None:
            return rows % self.count
        if labels is None or isinstance(labels, str | int):
            return self.numbers(labels, len(rows))
        every = self.numbers(labels, len(labels))
        return None if every is None else every[rows]


@dataclass(frozen=True)
class Rows:
    """Strings as rows of tokens; a long one may be several.

    Attributes:
        texts: the strings.
        sequences: the rows, with classes.
        owners: int64, increasing: the number of the string that each row belongs to.
    """

    texts: list[str]
    sequences: Sequences
    owners: Tensor

    def tokens(self, cut: slice = slice(None)) -> list[list[int]]:
        """The tokens of each string, or a part of each of its rows."""
        found: list[list[int]] = [[] for _ in self.texts]
        for owner, row in zip(self.owners.tolist(), self.sequences.lists(), strict=True):
            found[owner] += row[cut]
        return found

    @property
    def keys(self) -> Tensor:
        """int64: a number for each row that follows from its string's number and its own within the string."""
        block = torch.arange(len(self.owners)) - torch.searchsorted(self.owners, self.owners)
        return (self.owners << 32) + block


def rows_of(
    strings: Sequence[str] | SequenceDataset, domain: Domain, labels: Labels, *, classes: Classes, max_length: int
) -> Rows:
    """Strings or a data set as rows of tokens with their classes.

    Raises:
        DataError: see `encode_blocks`.
        IncompatibleError: see `Classes.numbers`.
    """
    if isinstance(strings, SequenceDataset):
        owners, texts = torch.arange(len(strings)), strings.texts()
        sequences = strings.batch(owners)
    else:
        tokens, owners = encode_blocks(domain, strings, max_length)
        sequences, texts = Sequences.from_lists(tokens), list(strings)
    numbers = sequences.labels
    if classes.count is None or labels is not None or numbers is None:
        chosen = classes.numbers(labels, len(texts))
        numbers = None if chosen is None else chosen[owners]
    return Rows(texts, replace(sequences, labels=numbers), owners)


def encode_blocks(domain: Domain, strings: Sequence[str], max_length: int) -> tuple[list[list[int]], Tensor]:
    """Rows of tokens, and the number of the string that each belongs to: int64, increasing.

    A string longer than `max_length` tokens is cut into blocks where the domain's files are streams.

    Raises:
        DataError: no strings, an empty one, or one that is too long for the model.
        UnknownTokenError: a symbol outside the alphabet.
    """
    if isinstance(strings, str):
        raise DiscdiffError("got one string, expected a list of strings")
    rows: list[list[int]] = []
    owners: list[int] = []
    for i, string in enumerate(strings):
        tokens = domain.encode(string, record=i + 1)
        if not tokens:
            raise DataError("the sequence is empty", record=i + 1, remedy="leave it out")
        if len(tokens) > max_length and not domain.streams:
            raise DataError(
                f"the sequence has {len(tokens)} tokens; the model was trained on at most {max_length}",
                record=i + 1,
                remedy="shorten it, or train on longer sequences",
            )
        blocks = [tokens[at : at + max_length] for at in range(0, len(tokens), max_length)]
        rows += blocks
        owners += [i] * len(blocks)
    if not rows:
        raise DataError("no sequences to score")
    return rows, torch.tensor(owners)


def with_end(constraint: Constraint, *, longest: int, end: int) -> Constraint:
    """A constraint on content, for a model that learned an end token: then comes the end, up to the model's length.

    Args:
        constraint: on the content tokens.
        longest: positions of the model.
        end: the end token's id, which is the number of content tokens.
    """
    if isinstance(constraint, Automaton):
        within = _sets_with_end(constraint.within, longest, end) if constraint.length is not None else None
        return Automaton({name: part.ended() for name, part in constraint.parts.items()}, within)
    if isinstance(constraint, PositionWise):
        return constraint if constraint.length is None else _sets_with_end(constraint, longest, end)
    raise IncompatibleError(
        "End token",
        got=f"a constraint of kind {type(constraint).__name__}",
        expected="clamps, sets of tokens and automata",
        remedy="Give top-k and top-p as arguments of their own.",
    )


def _sets_with_end(constraint: PositionWise, longest: int, end: int) -> Allowed:
    length = constraint.length
    assert length is not None
    every = torch.arange(length)
    table = torch.zeros(longest, end + 1, dtype=torch.bool)
    allowed = constraint.allowed_at((torch.zeros_like(every), every))
    table[:length, :end] = True if allowed is None else allowed
    tokens, frozen = (value[0] for value in constraint.given(1, length))
    table[:length][frozen] = torch.nn.functional.one_hot(tokens[frozen], end + 1).bool()
    table[length:, end] = True
    return Allowed(table)


def constraint_of(
    domain: Domain,
    template: str | None,
    rules: Rules | None,
    extra: Constraint | Language | None,
    *,
    longest: int,
    length: int | None = None,
    valid: bool = False,
) -> Constraint:
    """Everything that is asked of sequences: a template, rules, and a constraint of the caller's own; all hold.

    With `valid` the domain's own rules of validity hold too, under names that say where they come from.

    Raises:
        TemplateError: the template cannot be read, or is longer than what the model was trained on.
        EmptyLanguageError: nothing of at most `longest` tokens satisfies it all; names what conflicts.
        ConfigError: no such rule.
    """
    if template is not None and not isinstance(template, str):
        raise DiscdiffError(f"template: got {type(template).__name__}, expected one string; ask for several in turn")
    constraint: Constraint = Unconstrained() if template is None else domain.template(template)
    length = constraint.length or length
    alone = constraint.possible_lengths(longest) if template is not None and length is None else None
    if template is not None and alone is not None and not len(alone):
        raise TemplateError(  # before rules are joined to it, so that none of them is blamed
            f"the template takes more than {longest} positions; the model was trained on at most {longest}",
            template=template if len(template) <= 200 else template[:200] + "…",
            remedy="shorten it or its gaps, or train on longer sequences",
        )
    if template is not None and length is not None and length > longest:
        raise TemplateError(
            f"the template has {length} positions; the model was trained on at most {longest}",
            template=template if len(template) <= 200 else template[:200] + "…",
            remedy="shorten it, or train on longer sequences",
        )
    span = Span(length or 1, length or longest)
    rules = rules or {}
    helping = {name: value for name, value in domain.validity.items() if name not in rules} if valid else {}
    parts = {
        f"{name} (for validity)": part
        for name, part in languages(domain.rules, helping, span, domain=domain.name).items()
    }
    parts |= languages(domain.rules, rules, span, domain=domain.name)
    if isinstance(extra, Language):
        parts["the language given"] = extra
    elif extra is not None:
        constraint = constraint & extra
    if parts:
        constraint = constraint & Automaton(parts)
    possible = constraint.possible_lengths(longest) if length is None else None  # one length is looked at when drawing
    if possible is not None and not len(possible):
        names = ", ".join(constraint.parts) if isinstance(constraint, Automaton) else "the constraint"
        raise EmptyLanguageError(
            f"{names}: no sequence of at most {longest} tokens, which the model was trained on, satisfies this; "
            "ask for less, or train on longer sequences"
        )
    return constraint


def pick_device(device: str | torch.device | None) -> torch.device:
    """A device of this machine; by default a GPU if there is one.

    Raises:
        IncompatibleError: there is no such device.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise IncompatibleError(
            "device", got=repr(str(device)), expected="a device of this machine", remedy=str(error).splitlines()[0]
        ) from error
    return chosen


__all__ = ["Classes", "Labels", "Rows", "constraint_of", "encode_blocks", "pick_device", "rows_of", "with_end"]
