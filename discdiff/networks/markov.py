"""The exact network of a Markov chain, by messages along it: any length, any process. For tests and teaching."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from discdiff.errors import DiscdiffError
from discdiff.networks.base import Context, Network
from discdiff.processes.base import Process

if TYPE_CHECKING:
    from discdiff.parameterizations import Parameterization


class MarkovChain(Network):
    """p(x0_i | xt) ∝ a_i(x0_i) P_σ[xt_i, x0_i] b_i(x0_i) for data p0(x) = μ(x_1) Π T[x_{i−1}, x_i], in float64.

    a_{i+1} = Tᵀ (a_i ∘ P_σ[xt_i, ·]) from the left and b_{i−1} = T (b_i ∘ P_σ[xt_i, ·]) from the right: O(L V²) a row
    (Rabiner 1989, section III.A, forward and backward procedures). Padding is passed over, so that rows may differ in
    length. A noised sequence that cannot occur has no posterior; all tokens are then called equally likely.

    Args:
        initial: μ, float `[V]`.
        transition: T, float `[V, V]`, rows sum to 1.
        num_states: S of the process.

    Raises:
        DiscdiffError: these are no distributions.
    """

    initial: Tensor
    transition: Tensor

    def __init__(self, initial: Tensor, transition: Tensor, num_states: int) -> None:
        super().__init__()
        square = transition.shape == (len(initial),) * 2
        table = torch.cat([initial[None], transition]).double() if square else -initial[None]
        if bool((table < 0).any()) or bool(((table.sum(-1) - 1).abs() > 1e-9).any()):
            raise DiscdiffError(
                f"MarkovChain: got shapes {list(initial.shape)} and {list(transition.shape)}, expected distributions "
                "[V] and [V, V] whose rows sum to 1"
            )
        self.num_states = num_states
        self.register_buffer("initial", initial.double())
        self.register_buffer("transition", transition.double())

    @property
    def conditions_on_frozen(self) -> bool:
        return True

    def configure(self, process: Process, parameterization: Parameterization) -> None:
        self.num_outputs = parameterization.num_outputs(process)
        self._process = [process]  # in a list: the network is no second owner of the module
        self._parameterization = parameterization

    # ---- the chain ---------------------------------------------------------------------------------------------------
    def sample(self, count: int, length: int, *, generator: torch.Generator) -> Tensor:
        """Sequences of the chain itself: int64 `[count, length]`."""
        tokens = [torch.multinomial(self.initial, count, replacement=True, generator=generator)]
        for _ in range(length - 1):
            tokens.append(torch.multinomial(self.transition[tokens[-1]], 1, generator=generator)[:, 0])
        return torch.stack(tokens, -1)

    def log_prob(self, tokens: Tensor) -> Tensor:
        """log p0 of int64 `[B, L]`: float64 `[B]` nats."""
        return self.initial[tokens[:, 0]].log() + self.transition[tokens[:, :-1], tokens[:, 1:]].log().sum(-1)

    def marginals(self, length: int) -> Tensor:
        """p0(x_i): float64 `[L, V]`."""
        rows = [self.initial]
        for _ in range(length - 1):
            rows.append(rows[-1] @ self.transition)
        return torch.stack(rows)

    def entropy(self, length: int) -> float:
        """H(p0) of sequences of a length, nats."""
        inner = torch.special.entr(self.transition).sum(-1)
        return float(torch.special.entr(self.initial).sum() + (self.marginals(length)[:-1] @ inner).sum())

    def bigrams(self, length: int) -> Tensor:
        """The law of a neighbouring pair, at a random place: float64 `[V, V]`."""
        return self.marginals(length)[:-1].mean(0)[:, None] * self.transition

    # ---- what it knows of noised sequences ---------------------------------------------------------------------------
    def log_posterior(self, tokens: Tensor, sigma: Tensor, context: Context) -> Tensor:
        """log p(x0_i | xt), float64 `[B, L, V]`."""
        process, size = self._process[0], len(self.initial)
        evidence = process.content(process.likelihood(tokens, sigma.double().expand(tokens.shape)))
        if context.frozen is not None:
            given = F.one_hot(tokens.clamp(max=size - 1), size).double()
            evidence = torch.where(context.frozen[..., None], given, evidence)
        if context.padding is not None:
            evidence = evidence.masked_fill(context.padding[..., None], 1.0)
        evidence = evidence / evidence.sum(-1, keepdim=True)
        left, right = [self.initial.expand(len(tokens), -1)], [torch.ones_like(evidence[:, 0])]
        for i in range(tokens.shape[1] - 1):
            left.append(_normalized((left[-1] * evidence[:, i]) @ self.transition))
            right.append(_normalized((right[-1] * evidence[:, -1 - i]) @ self.transition.T))
        joint = torch.stack(left, 1) * evidence * torch.stack(right[::-1], 1)
        total = joint.sum(-1, keepdim=True)
        return torch.where(total > 0, joint / total, 1 / size).log()

    def hidden(self, tokens: Tensor, sigma: Tensor | None, context: Context) -> Tensor:
        noise = tokens.new_ones(len(tokens), 1, dtype=torch.float64) if sigma is None else sigma.double()
        log_denoiser = self.log_posterior(tokens, noise, context)
        return self._parameterization.encode_denoiser(self._process[0], tokens, noise, context.frozen, log_denoiser)

    def head(self, hidden: Tensor) -> Tensor:
        return hidden


def _normalized(message: Tensor) -> Tensor:
    """Messages `[B, V]` keep a sum of 1: products over long chains would leave float64's range."""
    total = message.sum(-1, keepdim=True)
    return torch.where(total > 0, message / total, message)


def sparse_chain(
    vocab_size: int, num_states: int, *, successors: int = 5, rest: float = 0.023, seed: int = 0
) -> MarkovChain:
    """A random chain, started from its stationary law, in which a few tokens follow each.

    With V = 16 its entropy is 1.59 nats a token over 32 tokens.

    Args:
        vocab_size: V.
        num_states: S of the process.
        successors: how many tokens are likely after each, with weights uniform in [0, 1).
        rest: the mass that all tokens share evenly.
        seed: of the chain.
    """
    draw = torch.Generator().manual_seed(seed)
    weights = torch.rand(vocab_size, vocab_size, generator=draw, dtype=torch.float64)
    likely = torch.rand(vocab_size, vocab_size, generator=draw).argsort(-1) < successors
    weights = weights * likely
    transition = (1 - rest) * weights / weights.sum(-1, keepdim=True) + rest / vocab_size
    stationary = torch.linalg.matrix_power(transition, 1 << 12)[0]
    return MarkovChain(stationary / stationary.sum(), transition, num_states)
