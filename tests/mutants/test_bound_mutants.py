"""Deliberately broken bounds off the absorbing process, and units: the guarding tests must see each of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from discdiff.likelihood import noised as noise
from discdiff.likelihood import terms
from discdiff.processes import Hybrid, Process
from discdiff.randomness import categorical
from domains.text.tokenizers import BytePairs, Tokenizer
from tests import test_units
from tests.likelihood import test_bound, test_noised
from tests.processes import test_score_scale

Noised = Callable[..., tuple[Tensor, Tensor]]


def with_noised(monkeypatch: pytest.MonkeyPatch, broken: Noised) -> None:
    monkeypatch.setattr(test_noised, "noised", broken)
    monkeypatch.setattr(terms, "noised", broken)


def test_weights_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise is drawn more often than it is, and not weighed."""
    real = noise.noised

    def broken(*arguments: Tensor, generator: object) -> tuple[Tensor, Tensor]:
        xt, weight = real(*arguments, generator=generator)  # type: ignore[arg-type]
        return xt, torch.ones_like(weight)

    with_noised(monkeypatch, broken)
    with pytest.raises(AssertionError):
        test_noised.test_weighted_law("uniform", 0.05, [True] * 3)
    with pytest.raises(AssertionError):
        test_bound.test_unbiased_and_honest("uniform", "denoiser", "log_linear")


def test_only_one_noisy_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows the first noisy token stays clean: right to first order in σ."""
    real = noise.noised

    def broken(process: Process, x0: Tensor, *arguments: Tensor, generator: object) -> tuple[Tensor, Tensor]:
        xt, weight = real(process, x0, *arguments, generator=generator)  # type: ignore[arg-type]
        return torch.where((xt != x0).cumsum(-1) > 1, x0, xt), weight

    with_noised(monkeypatch, broken)
    with pytest.raises(AssertionError):
        test_noised.test_weighted_law("marginal", 0.3, [True] * 3)


def test_first_position_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first noisy position is drawn evenly, not by the chance that those before it are clean."""
    monkeypatch.setattr(
        noise,
        "categorical",
        lambda weights, u: categorical((weights > 0).double() if weights.shape[-1] == 3 else weights, u),
    )
    with pytest.raises(AssertionError):
        test_noised.test_weighted_law("hybrid", 2.0, [True] * 3)


def test_density_of_another_power(monkeypatch: pytest.MonkeyPatch) -> None:
    """σ is drawn by one density and weighed by another that is 2% off at the ends."""
    real = terms.noise_levels

    def broken(points: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
        level, density = real(points, low, high)
        return level, density * (level / (low * high) ** 0.5) ** 0.005

    monkeypatch.setattr(terms, "noise_levels", broken)
    with pytest.raises(AssertionError), pytest.MonkeyPatch.context() as inner:
        test_bound.test_diffusion_over_the_whole_range("uniform", "denoiser", "log_linear", inner)


def test_zero_for_every_score(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent score network says that all states are equally likely."""
    monkeypatch.setattr(Process, "log_score_scale", lambda self, x, sigma: torch.zeros_like(sigma)[..., None])
    with pytest.raises(AssertionError):
        test_score_scale.test_silence_at_much_noise_is_the_marginal_ratio("marginal")
    monkeypatch.setattr(Hybrid, "log_score_scale", Process.log_score_scale)
    with pytest.raises(AssertionError):
        test_score_scale.test_silence_knows_nothing("hybrid", 1e-5)


def test_bytes_of_the_decoded_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A part of a character counts as the three bytes of U+FFFD; and characters counted for bytes."""
    monkeypatch.setattr(BytePairs, "num_bytes", Tokenizer.num_bytes)
    with pytest.raises(AssertionError):
        test_units.test_bytes_of_blocks_that_cut_characters(tmp_path)
    monkeypatch.setattr(Tokenizer, "num_bytes", lambda self, tokens: len(self.decode(tokens)))
    with pytest.raises(AssertionError):
        test_units.test_bits_per_byte("characters")
