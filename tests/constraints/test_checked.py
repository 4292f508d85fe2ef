"""Checked: exact draws given any test, moves that keep that law, and no sampler that breaks it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from discdiff.constraints import Allowed, Automaton, Checked, Clamp, Constraint, Truncated, Unconstrained
from discdiff.errors import DiscdiffError, IncompatibleError
from discdiff.languages import contains
from discdiff.prediction import DenoiserPrediction, Positions
from discdiff.processes import Absorbing
from discdiff.randomness import Keys
from discdiff.samplers import Argmax, FirstHitting
from discdiff.sampling import sample
from discdiff.sequences import Sequences
from tests.cases import PROCESSES, SAMPLERS, build, runs
from tests.toys import Array, Integers, chi_square, counts_of, every_sequence

SIZE, LENGTH = 3, 4
SEQUENCES = every_sequence(SIZE, LENGTH)
P = np.random.default_rng(3).dirichlet(np.ones(SIZE), size=LENGTH)
PALINDROMES = (SEQUENCES[:, ::-1] == SEQUENCES).all(-1)


def palindrome(sequences: Sequences) -> torch.Tensor:
    """What no automaton of bounded memory holds."""
    rows = zip(sequences.tokens.tolist(), sequences.lengths.tolist(), strict=True)
    return torch.tensor([row[:n] == row[:n][::-1] for row, n in rows])


def said(rows: int, known: list[int] | None = None) -> DenoiserPrediction:
    """The same independent laws for each row, all positions masked but those with a token of `known`."""
    tokens = torch.tensor(known or [SIZE] * LENGTH).expand(rows, -1)
    log_p = torch.as_tensor(P).log()
    return DenoiserPrediction(
        Absorbing(SIZE),
        tokens,
        torch.ones(rows, 1, dtype=torch.float64),
        None,
        log_p=lambda where: log_p.expand(rows, -1, -1) if where is None else log_p[where[1]],
        calls=lambda: torch.zeros(rows, dtype=torch.int64),
    )


def sets() -> Allowed:
    table = torch.ones(LENGTH, SIZE, dtype=torch.bool)
    table[1, 0] = False
    return Allowed(table)


WITHIN: dict[str, tuple[Constraint, Array]] = {
    "all": (Unconstrained(), np.ones(len(SEQUENCES), dtype=bool)),
    "sets": (sets(), SEQUENCES[:, 1] != 0),
    "automaton": (Automaton(contains([[{2}]], SIZE)), (SEQUENCES == 2).any(-1)),
}


def everywhere(rows: int) -> Positions:
    first, second = torch.ones(rows, LENGTH).nonzero(as_tuple=True)
    return first, second


def law_of(accepted: Array, tilt: Array | None = None) -> Array:
    p = P if tilt is None else P * np.exp(tilt)
    law = np.prod([p[i, SEQUENCES[:, i]] for i in range(LENGTH)], axis=0) * accepted
    return law / law.sum()


def counted(constraint: Constraint, draws: int, seed: int, tilt: torch.Tensor | None = None) -> Integers:
    where, u = everywhere(draws), torch.rand(draws, LENGTH, generator=torch.Generator().manual_seed(seed)).double()
    tokens = constraint.draw(said(draws), where, u, tilt=tilt).view(draws, LENGTH)
    return counts_of(tokens, SIZE)


@pytest.mark.parametrize("name", WITHIN)
def test_draws_given_the_check(name: str) -> None:
    """40,000 draws against enumeration of ∏ p · 1[accepted] · 1[passes]: sees a cell that is 1% off in law."""
    within, accepted = WITHIN[name]
    draws = 40_000
    made = Checked(palindrome, within, tries=512, first=512).bound(torch.full((draws,), LENGTH))
    law = law_of(accepted & PALINDROMES)
    assert chi_square(counted(made, draws, 0), law) > 1e-4
    assert made.draws == {"exact": draws, "moved": 0}


@pytest.mark.parametrize("name", WITHIN)
def test_moves_keep_the_law(name: str) -> None:
    """Where one try is all there is, most rows move on from their last x0, which followed the law."""
    within, accepted = WITHIN[name]
    draws, law = 40_000, law_of(accepted & PALINDROMES)
    made = Checked(palindrome, within, tries=1, first=512, moves=3).bound(torch.full((draws,), LENGTH))
    first = counted(made, draws, 0)
    second = counted(made, draws, 1)
    assert made.draws["moved"] > 0.5 * draws
    assert chi_square(first, law) > 1e-4
    assert chi_square(second, law) > 1e-4


def test_moves_forget_where_they_began() -> None:
    """From one and the same palindrome everywhere, moves alone bring all rows to the law."""
    draws, law = 5_000, law_of(PALINDROMES)
    made = Checked(palindrome, tries=1, first=512, moves=400).bound(torch.full((draws,), LENGTH))
    assert made._bound is not None
    made._bound.found[:] = 0
    counts = counted(made, draws, 0)
    assert made.draws["moved"] > 0.5 * draws
    assert chi_square(counts, law) > 1e-4


def test_tilts() -> None:
    """Log weights multiply the denoiser before the check is made."""
    draws = 40_000
    tilt = torch.linspace(-1, 1, LENGTH * SIZE, dtype=torch.float64).view(LENGTH, SIZE)
    law = law_of(WITHIN["automaton"][1] & PALINDROMES, tilt.numpy())
    for tries in (512, 1):
        constraint = Checked(palindrome, WITHIN["automaton"][0], tries=tries, first=512)
        made = constraint.bound(torch.full((draws,), LENGTH))
        for seed in (0, 1):
            counts = counted(made, draws, seed, tilt.repeat(draws, 1))
            assert chi_square(counts, law) > 1e-4


def test_parts_are_of_one_x0() -> None:
    """A sampler that asks position by position sees one draw; with other numbers, another."""
    made = Checked(palindrome, sets()).bound(torch.full((500,), LENGTH))
    prediction, u = said(500), torch.rand(500, LENGTH, generator=torch.Generator().manual_seed(0)).double()
    every = torch.arange(500)
    parts = [made.draw(prediction, (every, torch.full_like(every, i)), u) for i in range(LENGTH)]
    assert bool(palindrome(Sequences(torch.stack(parts, 1), torch.full((500,), LENGTH))).all())
    assert not torch.equal(made.draw(prediction, (every, torch.zeros_like(every)), u.flip(0)), parts[0])


CASES = [(process, name) for process in PROCESSES for name, case in SAMPLERS.items() if runs(case, process, "denoiser")]


@pytest.mark.parametrize(("process", "name"), CASES)
def test_every_sampler_honours_it(process: str, name: str) -> None:
    """Palindromes that hold a 1 and begin with a given 2: 300 rows, few tries, so that many moves are made."""
    sampler = SAMPLERS[name].make()
    known = Clamp(torch.tensor([2, 0, 0]), torch.tensor([True, False, False]))
    out = sample(
        build(process, "denoiser"),
        300,
        sampler=sampler,
        steps=4 if sampler.takes_steps else None,
        constraint=Checked(palindrome, Automaton(contains([[{1}]], SIZE)), tries=2, first=256) & known,
        generator=torch.Generator().manual_seed(0),
    )
    assert out.tokens.tolist() == [[2, 1, 2]] * 300


def test_rows_stand_alone() -> None:
    """With keys, a row is the same in any batch, in any order."""
    model, rows = build("absorbing", "denoiser"), torch.arange(40)

    def drawn(rows: torch.Tensor) -> list[list[int]]:
        constraint = Checked(palindrome, tries=2, moves=2)
        made = sample(
            model, len(rows), length=3, sampler=FirstHitting(), constraint=constraint, generator=Keys(4, rows)
        )
        return made.lists()

    whole = drawn(rows)
    assert drawn(rows.flip(0)) == whole[::-1]
    assert drawn(rows[:7]) + drawn(rows[7:]) == whole
    assert len({tuple(row) for row in whole}) > 4


def refused(constraint: Constraint, particles: int = 1) -> None:
    model, generator = build("absorbing", "denoiser"), torch.Generator().manual_seed(0)
    sample(model, 2, length=3, sampler=FirstHitting(), constraint=constraint, particles=particles, generator=generator)


def test_what_nothing_passes_is_refused() -> None:
    seen = []

    def never(sequences: Sequences) -> torch.Tensor:
        seen.append(len(sequences))
        return torch.zeros(len(sequences), dtype=torch.bool)

    constraint = Checked(never, name="'never'", first=200)
    with pytest.raises(DiscdiffError, match=r"'never': none of 200 sequences.*\(row 1\).*first="):
        refused(constraint)
    assert sum(seen) == 3 * 400  # as said, and of two flatter laws


def test_answers_that_are_none_are_refused() -> None:
    constraint = Checked(lambda sequences: torch.ones(len(sequences)), name="floats")
    with pytest.raises(DiscdiffError, match=r"floats: got torch.float32 \[2\], expected bool \[2\]"):
        refused(constraint)
    with pytest.raises(IncompatibleError, match="tries=0"):
        Checked(palindrome, tries=0)
    with pytest.raises(IncompatibleError, match="Particles"):
        refused(Checked(palindrome), particles=2)


def test_it_joins_with_all_others() -> None:
    """In either order, with a second check, and under truncation."""
    free = Clamp(torch.tensor([1, 0, 0]), torch.tensor([True, False, False]))
    first_is_one = Automaton(contains([[{1}]], SIZE))
    odd = Checked(lambda sequences: sequences.tokens.sum(1) % 2 == 1, name="odd")
    for joined in (free & Checked(palindrome) & first_is_one, first_is_one & (Checked(palindrome) & free)):
        for constraint in (joined & odd, Truncated(joined, top_k=3) & odd, odd & Truncated(joined, top_k=3)):
            out = sample(
                build("absorbing", "denoiser"), 50, length=3, constraint=constraint, steps=4,
                generator=torch.Generator().manual_seed(0),
            )  # fmt: skip
            assert out.tokens.tolist() == [[1, 1, 1]] * 50  # 1, then a palindrome of odd sum: 1 x 1 with x = 1


def test_the_likeliest() -> None:
    """Argmax keeps its own choice where it passes, and moves to one that does where not."""
    out = sample(
        build("absorbing", "denoiser"), 4, length=3, sampler=Argmax(), steps=3, constraint=Checked(palindrome),
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert bool(palindrome(out).all())
