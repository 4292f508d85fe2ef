"""`Language`: a regular language over tokens, as a deterministic automaton whose alphabet is classes of tokens."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from discdiff.errors import IncompatibleError
from discdiff.languages.minimal import merge_columns, minimal, within_reach

Table = npt.NDArray[np.int32]
MAX_STATES = 200_000
MAX_ENTRIES = 20_000_000
DEAD = -1


@dataclass(frozen=True, eq=False)
class Language:
    """The sequences of tokens that a deterministic automaton accepts.

    Tokens that no state tells apart are one class, so that a vocabulary of 50,000 costs as little as its classes. The
    automaton is trimmed: from every state an accepting one can be reached. State 0 is the start.

    Attributes:
        table: int32 `[states, classes]`: the state that a class of tokens leads to, or −1 where nothing accepted can
            follow.
        accepting: bool `[states]`: whether a sequence may end in it.
        classes: int32 `[V]`: the class of each token.
    """

    table: Table
    accepting: npt.NDArray[np.bool_]
    classes: npt.NDArray[np.int32]

    # ---- building ---------------------------------------------------------------------------------------------------
    @classmethod
    def of(
        cls, table: npt.ArrayLike, accepting: npt.ArrayLike, classes: npt.ArrayLike, *, shrink: bool = True
    ) -> Language:
        """A trimmed language, with the fewest states and classes if `shrink`.

        Raises:
            IncompatibleError: shapes that do not fit, or an automaton over the limits of size.
        """
        edges, final = np.asarray(table, dtype=np.int32), np.asarray(accepting, dtype=np.bool_)
        of_token = np.asarray(classes, dtype=np.int32)
        fits = edges.ndim == 2 and len(edges) and final.shape == edges.shape[:1] and of_token.ndim == 1
        fits = fits and of_token.min(initial=0) >= 0 and of_token.max(initial=-1) < edges.shape[1]
        if not fits or edges.min(initial=DEAD) < DEAD or edges.max(initial=DEAD) >= len(edges):
            raise IncompatibleError(
                "Language",
                got=f"table {list(edges.shape)}, accepting {list(final.shape)}, classes {list(of_token.shape)}",
                expected="[states, classes] of states, [states], and [V] of classes",
                remedy="Give every token a class and every state a row.",
            )
        used, places = np.unique(of_token, return_inverse=True)  # classes of no token must not tell states apart
        edges, of_token = edges[:, used], places.reshape(-1).astype(np.int32)
        edges, final = within_reach(edges, final)
        if shrink:
            edges, final = minimal(edges, final)
        edges, of_token = merge_columns(edges, of_token)
        return cls(edges, final, of_token)

    @classmethod
    def explore(
        cls,
        start: Hashable,
        step: Callable[[Any, int], Hashable | None],
        accepts: Callable[[Any], bool],
        classes: npt.ArrayLike,
        *,
        what: str = "language",
    ) -> Language:
        """The automaton whose states are whatever `step` leads to from `start`.

        Args:
            start: the first state.
            step: the state that a class of tokens leads to from a state, or None where nothing accepted follows.
            accepts: whether a sequence may end in a state.
            classes: `[V]`, the class of each token.
            what: its name, for messages.

        Raises:
            IncompatibleError: more states than the limit.
        """
        of_token = np.asarray(classes, dtype=np.int32)
        count = int(of_token.max(initial=-1)) + 1
        number: dict[Hashable, int] = {start: 0}
        states, rows = [start], []
        for state in states:  # grows as it goes
            row = []
            for symbol in range(count):
                following = step(state, symbol)
                if following is None:
                    row.append(DEAD)
                    continue
                if following not in number:
                    number[following] = len(states)
                    states.append(following)
                row.append(number[following])
            rows.append(row)
            check_size(len(states), count, what)
        return cls.of(np.array(rows).reshape(len(rows), count), [accepts(state) for state in states], of_token)

    # ---- questions --------------------------------------------------------------------------------------------------
    @property
    def num_states(self) -> int:
        """How many states the automaton has."""
        return len(self.table)

    @property
    def num_classes(self) -> int:
        """How many classes of tokens it tells apart."""
        return self.table.shape[1]

    @property
    def vocab_size(self) -> int:
        """V."""
        return len(self.classes)

    @property
    def empty(self) -> bool:
        """Whether nothing is accepted."""
        return not self.accepting.any()

    def accepts(self, tokens: Iterable[int]) -> bool:
        """Whether a sequence of tokens is in the language."""
        state = 0
        for token in tokens:
            state = int(self.table[state, self.classes[token]])
            if state == DEAD:
                return False
        return bool(self.accepting[state])

    def lengths(self, longest: int) -> npt.NDArray[np.bool_]:
        """bool `[longest + 1]`: whether some sequence of n tokens is accepted."""
        now = np.zeros(self.num_states + 1, dtype=np.bool_)  # the last entry is the dead state
        now[0] = True
        found = np.zeros(longest + 1, dtype=np.bool_)
        for n in range(longest + 1):
            found[n] = now[:-1][self.accepting].any()
            following = np.zeros_like(now)
            following[self.table[now[:-1]].ravel()] = True
            following[-1] = False
            now = following
        return found

    def follows(self, states: npt.NDArray[np.int32], tokens: npt.NDArray[np.int_]) -> npt.NDArray[np.int32]:
        """The states that tokens lead to from states (elementwise); the dead state stays dead."""
        return np.where(states == DEAD, DEAD, self.table[states, self.classes[tokens]]).astype(np.int32)

    # ---- algebra ----------------------------------------------------------------------------------------------------
    def __and__(self, other: Language) -> Language:
        """What both accept."""
        from discdiff.languages.product import product

        return product(self, other, lambda a, b: a & b)

    def __or__(self, other: Language) -> Language:
        """What either accepts."""
        from discdiff.languages.product import product

        return product(self, other, lambda a, b: a | b)

    def __sub__(self, other: Language) -> Language:
        """What this accepts and `other` does not."""
        from discdiff.languages.product import product

        return product(self, other, lambda a, b: a & ~b)

    def __invert__(self) -> Language:
        """Every sequence that is not accepted."""
        return anything(self.vocab_size) - self

    def equivalent(self, other: Language) -> bool:
        """Whether both accept the same sequences."""
        return (self - other).empty and (other - self).empty

    def renamed(self, classes: npt.ArrayLike) -> Language:
        """The same automaton reading other tokens.

        Args:
            classes: `[V']`: which token of this language each new token stands for; −1 for none (never allowed).
        """
        stands_for = np.asarray(classes, dtype=np.int64)
        never = self.num_classes
        table = np.concatenate([self.table, np.full((self.num_states, 1), DEAD, dtype=np.int32)], axis=1)
        return Language.of(table, self.accepting, np.where(stands_for < 0, never, self.classes[stands_for]))

    def along(self, words: Sequence[Sequence[int]]) -> Language:
        """The language over a vocabulary of words, each a sequence of this language's tokens.

        A token of several characters is accepted where the automaton of characters can walk along it. An empty word is
        never allowed: it would say nothing.

        Raises:
            IncompatibleError: the words fall into too many classes for the limits of size.
        """
        from discdiff.languages.spelled import walk

        columns, of_word = walk(self.table, self.classes, words)
        # Where every letter is a word too, states that letters tell apart stay apart: no need to look again.
        single = {int(self.classes[word[0]]) for word in words if len(word) == 1}
        return Language.of(columns.T, self.accepting, of_word, shrink=len(single) < self.num_classes)

    def ended(self) -> Language:
        """Sequences of the language, each followed by any number of end tokens: one more token, the last of V + 1."""
        states, classes = self.table.shape
        table = np.full((states + 1, classes + 1), DEAD, dtype=np.int32)
        table[:-1, :-1] = self.table
        table[:-1, -1] = np.where(self.accepting, states, DEAD)
        table[-1, -1] = states
        return Language.of(table, np.append(self.accepting, True), np.append(self.classes, classes))

    def __repr__(self) -> str:
        return f"Language({self.num_states} states, {self.num_classes} classes of {self.vocab_size} tokens)"


def anything(vocab_size: int) -> Language:
    """Every sequence."""
    return Language.of([[0]], [True], np.zeros(vocab_size, dtype=np.int32))


def nothing(vocab_size: int) -> Language:
    """No sequence."""
    return Language.of([[DEAD]], [False], np.zeros(vocab_size, dtype=np.int32))


def check_vocabularies(languages: Sequence[Language]) -> None:
    """Refuse languages that are not over one vocabulary.

    Raises:
        IncompatibleError: there is none, or they differ.
    """
    sizes = [language.vocab_size for language in languages]
    if len(set(sizes)) != 1:
        raise IncompatibleError(
            "Languages",
            got=f"vocabularies of {' and '.join(map(str, sizes)) or 'none'} tokens",
            expected="one or more languages over one vocabulary",
            remedy="Build all with the model's own domain.",
        )


def check_size(states: int, classes: int, what: str, *, most: int = MAX_STATES) -> None:
    """Refuse an automaton over the limits.

    Raises:
        IncompatibleError: too many states, or states × classes.
    """
    if states > most or states * classes > MAX_ENTRIES:
        raise IncompatibleError(
            f"Constraint ({what})",
            got=f"an automaton of {states:,} states or more, {classes} classes of tokens",
            expected=f"at most {most:,} states, and {MAX_ENTRIES:,} entries",
            remedy="Ask for less at once: shorter windows, smaller counts, fewer forbidden words.",
        )
