"""Deliberately broken variants: the oracles must see each of them. An oracle that cannot fail proves nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from discdiff.constraints import Unconstrained
from discdiff.logits import LazyLogits
from discdiff.losses import AnyOrder, MaskFractionCrossEntropy, ScoreEntropy
from discdiff.model import Model
from discdiff.parameterizations import Conditional
from discdiff.prediction import DenoiserPrediction, Positions, Prediction
from discdiff.processes import Process
from discdiff.randomness import Keys, Randomness
from discdiff.samplers import Ancestral, Euler, Level
from discdiff.sampling import sample
from discdiff.schedules import LogLinear
from discdiff.sequences import Sequences
from tests.cases import PARAMETERIZATIONS, SCHEDULES, build
from tests.laws import slope
from tests.oracles import test_o01_masked_losses as o01
from tests.oracles import test_o02_score_entropy as o02
from tests.oracles import test_o06_exact_samplers as o06
from tests.oracles import test_o07_kernels as o07
from tests.oracles import test_o08_convergence as o08
from tests.toys import DENSE, P_VALUE, TOYS, chi_square, counts_of


# ---- losses ---------------------------------------------------------------------------------------------------------
class Unweighted(AnyOrder):
    """k-DCE with weight 1 in place of L/k."""

    def __call__(self, model: Model, sequences: Sequences, *, generator: Randomness) -> Tensor:
        assert isinstance(generator, Keys)
        k = 1 + (generator.uniform((len(sequences),), "time", torch.float64) * sequences.lengths).long()
        return super().__call__(model, sequences, generator=generator) * k / sequences.lengths


class Halved(ScoreEntropy):
    """The score entropy with half its weight."""

    def __call__(self, model: Model, sequences: Sequences, *, generator: Randomness) -> Tensor:
        return super().__call__(model, sequences, generator=generator) / 2


def test_weight_of_k_dce() -> None:
    assert o01.error_of(Unweighted(), "k_dce", DENSE, "conditional") > 0.1


def test_weight_of_the_score_entropy() -> None:
    assert o02.error_of(Halved(), "uniform", "denoiser", TOYS["dense3x2"], LogLinear(t_min=o02.T_MIN)) > 0.1


# ---- probability left on the mask -----------------------------------------------------------------------------------
class Leaking(DenoiserPrediction):
    """A softmax over V + 1 columns, the mask's logit merely small."""

    def log_denoiser(self, where: Positions | None = None) -> Tensor:
        log_p = super().log_denoiser(where)
        return torch.cat([log_p, torch.full_like(log_p[..., :1], -4.0)], -1).log_softmax(-1)[..., :-1]


class Leaky(Conditional):
    """A denoiser that believes in masks in clean data."""

    def predict(
        self, process: Process, tokens: Tensor, sigma: Tensor, frozen: Tensor | None, logits: LazyLogits
    ) -> Prediction:
        return Leaking(process, tokens, sigma, frozen, log_p=logits, calls=lambda: logits.evaluated.long())


def test_mask_probability_left_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PARAMETERIZATIONS, "conditional", Leaky)
    assert o01.error_of(MaskFractionCrossEntropy(), "lambda_dce", DENSE, "conditional") > 0.01
    assert o06.order_error(build("absorbing", "conditional"), DENSE) > 1e-3


# ---- samplers -------------------------------------------------------------------------------------------------------
class NoInterval(Euler):
    """Euler steps without (t − s)."""

    def kernel(self, prediction: Prediction, level: Level, sigma_next: Tensor, where: Positions | None) -> Tensor:
        longer = Level(level.t, level.t - 1.0, level.sigma, level.sigma_next, level.noise_rate)
        return super().kernel(prediction, longer, sigma_next, where)


class Late(Ancestral):
    """Ancestral steps that look up the noise at the wrong end: they come half an interval late."""

    def kernel(self, prediction: Prediction, level: Level, sigma_next: Tensor, where: Positions | None) -> Tensor:
        return super().kernel(prediction, level, (prediction.sigma[:, :1] + sigma_next) / 2, where)


def test_euler_without_its_interval() -> None:
    assert o07.euler_error(NoInterval(), DENSE, "conditional") > 0.1
    tv, _ = o08.errors(NoInterval(), "absorbing", DENSE, SCHEDULES["log_linear"](), [8, 32])
    assert slope([8, 32], tv) < 0.5


def test_steps_to_the_wrong_level() -> None:
    assert o07.euler_error(Late(), DENSE, "denoiser") > 0.1


class Untilted(Unconstrained):
    """Draws x0 from the denoiser where a jump asks for x0 in proportion to its own rate."""

    def draw(self, prediction: Prediction, where: Positions, u: Tensor, *, tilt: Tensor | None = None) -> Tensor:
        return super().draw(prediction, where, u)


def test_jumps_without_their_tilt() -> None:
    """Only the law of real draws can show it."""
    model = build("uniform", "denoiser", network=o08.wrong)
    law = o08.law_of(model, Euler())
    for constraint, right in ((Unconstrained(), True), (Untilted(), False)):
        generator = torch.Generator().manual_seed(11)
        drawn = sample(model, 100_000, length=3, sampler=Euler(), steps=6, constraint=constraint, generator=generator)
        assert (chi_square(counts_of(drawn.tokens, 3), law) > P_VALUE) == right


def test_one_percent_is_caught() -> None:
    """Move 1% of the mass between the two likeliest sequences: p < 1e-4 at the tests' 200,000 draws."""
    law = DENSE.probabilities.copy()
    first, second = np.argsort(law)[-2:]
    shifted = law.copy()
    shifted[first] -= 0.01
    shifted[second] += 0.01
    for seed in range(5):
        counts = np.random.default_rng(seed).multinomial(o06.DRAWS, shifted)
        assert chi_square(counts, law) < P_VALUE
        assert chi_square(np.random.default_rng(seed).multinomial(o06.DRAWS, law), law) > P_VALUE


# ---- draws ----------------------------------------------------------------------------------------------------------
def test_sums_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The inverse distribution function summed in float32 loses what is below 2^-24 of the sum."""
    from tests import test_randomness

    def single(weights: Tensor, u: Tensor) -> Tensor:
        cumulative = weights.cumsum(-1)
        point = (u * cumulative[..., -1]).to(weights.dtype)[..., None]
        return torch.searchsorted(cumulative, point, right=True).squeeze(-1).clamp(max=weights.shape[-1] - 1)

    monkeypatch.setattr(test_randomness, "categorical", single)
    with pytest.raises(AssertionError):
        test_randomness.test_small_weights_behind_a_large_one_survive_float32()
