"""Broken processes, and the tests that see each of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from discdiff.losses import ScoreEntropy
from discdiff.processes import Hybrid, Marginal, Process, RateMatrix
from discdiff.schedules import LogLinear
from tests.cases import PROCESSES, build
from tests.oracles import test_o02_score_entropy as o02
from tests.oracles import test_o04_reverse_generator as o04
from tests.processes import test_fast_forms as forms
from tests.processes import test_maps as maps
from tests.toys import TOYS, circular_rates, frequencies


class Transposed(RateMatrix):
    """Reads rows where columns are meant: seen only where Q is not symmetric."""

    def rates_into(self, x: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
        return super().rates_from(x, dtype=dtype)


def transposed(vocab_size: int) -> Process:
    return Transposed(vocab_size, circular_rates(vocab_size).tolist())


def test_rows_for_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    case = replace(PROCESSES["circular"], make=transposed)
    with pytest.raises(AssertionError):
        maps.test_rates(case, torch.float64)
    monkeypatch.setitem(PROCESSES, "circular", case)
    assert o04.stationarity_error(build("circular", "denoiser", toy=o04.TOY), "circular", 0.5) > 1e-3


class Rounded(RateMatrix):
    """1 + σQ rounded to float32's digits: fine at σ = 1, not at 1e-6."""

    def transition(self, x0: Tensor, sigma: Tensor) -> Tensor:
        return 1 - (1 - super().transition(x0, sigma)).float().to(sigma.dtype)


def test_digits_of_small_noise() -> None:
    case = replace(PROCESSES["circular"], make=lambda V: Rounded(V, circular_rates(V).tolist()))
    with pytest.raises(AssertionError):
        maps.test_transition_and_likelihood(case, torch.float64)


class Biased(Marginal):
    """Jumps to π where π without the present token is meant."""

    def draw_base_except(self, x: Tensor, u: Tensor) -> Tensor:
        return self.draw_base(u)


def test_jumps_that_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    made = replace(PROCESSES["marginal"], make=lambda V: Biased(V, probabilities=frequencies(V).tolist()))
    monkeypatch.setitem(PROCESSES, "marginal", made)
    with pytest.raises(AssertionError):
        forms.test_jump_follows_the_conditional_rate("marginal")


class WrongShare(Hybrid):
    """Corrupts with another share of masks than its rates say."""

    def draw_base(self, u: Tensor) -> Tensor:
        return Hybrid(self.vocab_size, self.mask_share + 0.02).draw_base(u)


def test_share_of_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROCESSES, "hybrid", replace(PROCESSES["hybrid"], make=lambda V: WrongShare(V, 0.4)))
    with pytest.raises(AssertionError):
        forms.test_corrupt_follows_the_transition("hybrid", torch.float64)


class Unnormalized(RateMatrix):
    """Rates 1% too fast for the noise that the likelihood is told."""

    def rates_into(self, x: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
        return 1.01 * super().rates_into(x, dtype=dtype)


def test_one_percent_of_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """O2 and O5 see a rate that is off by 1%."""
    case = replace(PROCESSES["circular"], make=lambda V: Unnormalized(V, circular_rates(V).tolist()))
    monkeypatch.setitem(PROCESSES, "circular", case)
    loss, toy = ScoreEntropy(), TOYS["dense3x2"]
    assert o02.error_of(loss, "circular", "denoiser", toy, LogLinear(t_min=o02.T_MIN)) > 1e-3
    assert o04.stationarity_error(build("circular", "denoiser", toy=o04.TOY), "circular", 0.5) > 1e-4
