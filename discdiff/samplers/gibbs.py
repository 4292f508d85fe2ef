"""Leave-one-out Gibbs moves: one token of each row redrawn given all the others."""

from __future__ import annotations

import torch
from torch import Tensor

from discdiff.constraints.base import Constraint
from discdiff.errors import IncompatibleError
from discdiff.model import Model
from discdiff.prediction import positions_of
from discdiff.randomness import categorical
from discdiff.samplers.base import Level, Sampler, State, any_prediction, fraction_hidden
from discdiff.samplers.predictor_corrector import Corrector


class Gibbs(Corrector):
    """x_i ~ p_t(x_i | x_{−i}) at a random position i, which leaves p_t as it is. A sweep is a move for each position.

    On the absorbing process i is a position that shows its token: it is masked again and drawn from the denoiser, at
    any noise, σ = 0 included. Elsewhere x0_i is drawn from the leave-one-out law, the denoiser over P_σ[x_i, x0], then
    x_i from q(· | x0_i). A score network says it directly: p_t(y | x_{−i}) ∝ s_y. A token that rules out some x0, of a
    chain with states that cannot be entered again, tells neither.

    Off the absorbing process moves at σ = 0 draw x_i = x0_i as the network says at σ(t_min), the clean tokens taken for
    noised ones: p0 then moves by at most twice the chance that one of the other positions has changed by t_min. That is
    for networks that say a score or the leave-one-out law; a posterior at σ(t_min) hardly depends on the others, and
    its quotient by P_σ is mostly the network's error.

    Position-wise constraints hold and p_t given them is left as it is.

    Campbell et al. 2022, section 4.4; Zhao et al. 2024, "Informed correctors for discrete diffusion models", section 3.
    """

    def check(self, model: Model, predictor: Sampler, *, final: bool) -> None:
        if not (model.process.reveals_noise or model.process.irreducible):
            raise IncompatibleError(
                "Gibbs corrector",
                got=f"{type(model.process).__name__} with states that cannot be entered again",
                expected="a process whose tokens could have come from any other",
                remedy="Connect its states by a small rate, use the ForwardBackward corrector, or none.",
            )
        if final and not model.process.reveals_noise and not says_left_out(model):
            raise IncompatibleError(
                "Gibbs sweeps at σ = 0",
                got=f"a posterior on {type(model.process).__name__}, "
                "which at σ = 0 says nothing but the token that is there",
                expected="the absorbing process, or a network trained with LeaveOneOut or Score",
                remedy="Set final_sweeps=0 and sweeps=1: they act at each noise level before the last.",
            )

    def unweighable(self, model: Model, sweeps: float, final_sweeps: float) -> str | None:
        if sweeps == 0 or model.process.reveals_noise:
            return None
        return f"Gibbs sweeps at noise levels of {type(model.process).__name__}, where all positions move what is said"

    def moves(self, model: Model, state: State, sweeps: float) -> Tensor:
        return torch.ceil(sweeps * _candidates(model, state).sum(-1).double() - 1e-9).long()

    def move(
        self, model: Model, constraint: Constraint, state: State, predictor: Sampler, level: Level, rows: Tensor
    ) -> State:
        process = model.process
        candidates = _candidates(model, state)
        rank = (state.uniform("position", per_row=True) * candidates.sum(-1)).long()
        chosen = candidates & (candidates.cumsum(-1) - 1 == rank[:, None]) & rows[:, None]
        where = positions_of(chosen)
        if process.reveals_noise:
            assert process.mask_id is not None
            shown = state.tokens.masked_fill(chosen, process.mask_id)
            hidden = fraction_hidden(state, state.movable & process.active(shown))
            sigma = (-torch.log1p(-hidden)).clamp(*model.schedule.ends()).to(model.dtype)[:, None]
            prediction = model.predict(shown, sigma, state.context())
            x0 = constraint.redraw(prediction, where, state.uniform("token"), state.tokens)
            return state.moved(where, x0, prediction, x0=x0)
        clean = level.sigma_next == 0.0
        sigma = level.noise(state, model.dtype)[1]
        if clean:
            sigma = torch.full_like(sigma, model.schedule.ends()[0])
        prediction = model.predict(state.tokens, sigma, state.context())
        if not prediction.has_denoiser:
            log_s = prediction.log_score(where)
            law = (process.content(log_s) if clean else log_s).softmax(-1)
            return state.moved(where, categorical(law, state.uniform("token")[where]), prediction)
        noise = sigma.expand(state.tokens.shape)[where]
        own = process.content(process.log_likelihood(state.tokens[where], noise))
        # On clean sequences a token is drawn given the others as they stand: with them it satisfies the constraint.
        asked = prediction.beside(state.tokens, frozen=~chosen) if clean else prediction
        x0 = constraint.redraw(asked, where, state.uniform("token"), state.tokens, tilt=-own)
        if clean:
            return state.moved(where, x0, prediction, x0=x0)
        known = x0.clamp(max=process.vocab_size - 1)  # a failed draw is passed on
        tokens = categorical(process.transition(known, noise), state.uniform("noise")[where])
        return state.moved(where, torch.where(known == x0, tokens, process.num_states), prediction, x0=x0)


def says_left_out(model: Model) -> bool:
    """Whether a model's predictions are scores or leave-one-out laws."""
    return any_prediction(model).leaves_out


def _candidates(model: Model, state: State) -> Tensor:
    """bool `[B, L]`: positions that may be redrawn; on the absorbing process those that show a token."""
    if not model.process.reveals_noise:
        return state.movable
    return state.movable & ~model.process.active(state.tokens)
