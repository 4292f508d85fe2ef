"""The marginal process: a jump event replaces a token by one drawn from the tokens' own frequencies."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.processes.base import check_vocab_size
from discdiff.processes.kept import Kept
from discdiff.processes.rank_one import RankOne

REMEDY = "Give counts or probabilities, or call fit with the training set's counts."


class Marginal(Kept, RankOne):
    """Q = π1ᵀ − I, π the frequencies of tokens; no mask. At σ = ∞ nothing but the unigram law is left.

    π is a float64 buffer that is saved with the weights. Without counts and probabilities it is unknown until `fit` or
    `load_state_dict`, and whatever needs it raises `IncompatibleError`.

    Vignac et al. 2023 (DiGress), section 4.1 (marginal noise).

    >>> Marginal(3, counts=[7, 1, 0]).stationary(dtype=torch.float64).tolist()
    [0.7272727272727273, 0.18181818181818182, 0.09090909090909091]

    Args:
        vocab_size: V content tokens, which are all the states.
        counts: how often each token occurs, `[V]`; π ∝ counts + pseudocount.
        probabilities: π itself, `[V]`, positive; normalised.
        pseudocount: added to each count, so that π > 0.

    Raises:
        IncompatibleError: not V numbers, a negative or unusable one (named), or both counts and probabilities.
    """

    def __init__(
        self,
        vocab_size: int,
        counts: Sequence[float] | Tensor | None = None,
        probabilities: Sequence[float] | Tensor | None = None,
        pseudocount: float = 1.0,
    ) -> None:
        super().__init__()
        self.vocab_size = self.num_states = check_vocab_size(vocab_size)
        self.counts, self.probabilities, self.pseudocount = None, None, float(pseudocount)  # the buffer is what counts
        if not 0 <= pseudocount < float("inf"):
            raise IncompatibleError(
                "Marginal", got=f"pseudocount={pseudocount}", expected="at least 0", remedy="1 is the usual one."
            )
        if counts is not None and probabilities is not None:
            raise IncompatibleError(
                "Marginal", got="counts and probabilities", expected="one of the two", remedy="Leave one out."
            )
        self.register_buffer("table", torch.full((self.num_states,), torch.nan, dtype=torch.float64))
        if counts is not None:
            self._fill(counts, self.pseudocount)
        elif probabilities is not None:
            self._fill(probabilities, 0.0)

    def _fill(self, values: Sequence[float] | Tensor, pseudocount: float) -> None:
        weights = torch.as_tensor(values, dtype=torch.float64) + pseudocount
        if weights.shape != (self.vocab_size,):
            raise IncompatibleError(
                "Marginal",
                got=f"{list(weights.shape)} frequencies",
                expected=f"[{self.vocab_size}], one for each token",
                remedy="Count with torch.bincount(tokens, minlength=vocab_size).",
            )
        bad = ~((weights > 0) & weights.isfinite() & (weights >= pseudocount))
        if bool(bad.any()):
            token = int(bad.nonzero()[0])
            raise IncompatibleError(
                "Marginal",
                got=f"a frequency of {float(weights[token]) - pseudocount:g} for token {token}",
                expected="finite frequencies, positive once the pseudocount is added",
                remedy="Give counts with a pseudocount: every token must be reachable.",
            )
        self.table = (weights / weights.sum()).to(self.table.device)

    def fit(
        self, *, rate_matrix: Callable[..., Tensor] | None = None, counts: Callable[[], Tensor] | None = None
    ) -> None:
        if counts is not None and not self.known:
            self._fill(counts(), self.pseudocount)

    def stationary(self, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Tensor:
        return self.filled(REMEDY).to(dtype=dtype, device=device)

    def base_mass(self, x: Tensor, *, dtype: torch.dtype) -> Tensor:
        return self.stationary(dtype=dtype, device=x.device)[x]

    def draw_base(self, u: Tensor) -> Tensor:
        return self._invert(u.double())

    def draw_base_except(self, x: Tensor, u: Tensor) -> Tensor:
        # The inverse distribution function with the interval of x cut out: no [..., V] weights.
        pi = self.stationary(dtype=torch.float64, device=x.device)
        here = pi[x]
        before = pi.cumsum(0)[x] - here
        point = u.double() * (1 - here)
        y = self._invert(torch.where(point < before, point, point + here))
        # Rounding at either edge of the interval can land on x; its neighbour is meant.
        beside = torch.where(point < before, x - 1, x + 1)
        beside = torch.where(beside < 0, x + 1, torch.where(beside >= self.num_states, x - 1, beside))
        return torch.where(y == x, beside, y)

    def _invert(self, point: Tensor) -> Tensor:
        edges = self.stationary(dtype=torch.float64, device=point.device).cumsum(0)
        return torch.searchsorted(edges, point.contiguous(), right=True).clamp(max=self.num_states - 1)
