"""The process of any rate matrix: amino-acid substitutions, nucleotide models, neighbours in an embedding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.processes.base import Process, check_vocab_size
from discdiff.processes.exponential import ENTRIES, Exponential, reachable_of, stationary_of
from discdiff.processes.kept import Kept
from discdiff.randomness import Randomness, categorical, uniform

MOST_STATES = 2048
REMEDY = "Give rates, or call fit with the domain's rate_matrix where rates is a name."


class RateMatrix(Kept, Process):
    """dp/dσ = Q p for a dense generator Q, `Q[y, x]` the rate of x → y; no mask.

    Q is normalised to one expected jump per unit of σ at stationarity, −Σ π_x Q[x, x] = 1. It is a float64 buffer that
    is saved with the weights; a name is looked up once, by `fit`. All is computed in float64 from exp(σQ), one matrix
    for each noise level that occurs in a batch (see `Exponential`).

    Austin et al. 2021 (D3PM), section 3.1 and appendix A.2; Campbell et al. 2022, section 3.

    >>> process = RateMatrix(2, [[-1.0, 3.0], [1.0, -3.0]])
    >>> process.stationary(dtype=torch.float64).tolist()
    [0.75, 0.25]

    Args:
        vocab_size: V content tokens, which are all the states; at most 2,048.
        rates: Q `[V, V]`, columns summing to 0; or the name of one of the domain's matrices, such as "BLOSUM62".
        options: of the named matrix, such as `{"kappa": 2.0}`.

    Raises:
        IncompatibleError: no generator, naming the entry; more than one closed class of states; too many states.
    """

    def __init__(
        self,
        vocab_size: int,
        rates: Sequence[Sequence[float]] | Tensor | str | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.vocab_size = self.num_states = check_vocab_size(vocab_size)
        if vocab_size > MOST_STATES:
            raise _refused(f"{vocab_size} states", f"at most {MOST_STATES}", "Use a process of rank one.")
        self.rates, self.options = (rates if isinstance(rates, str) else None), options
        self.register_buffer("table", torch.full((vocab_size, vocab_size), torch.nan, dtype=torch.float64))
        self._exponential: Exponential | None = None
        self._active: Tensor | None = None
        if rates is not None and not isinstance(rates, str):
            self._fill(torch.as_tensor(rates, dtype=torch.float64))

    def _fill(self, rates: Tensor) -> None:
        self.table = normalized_generator(rates, self.vocab_size).to(self.table.device)
        self._forget()

    def fit(
        self, *, rate_matrix: Callable[..., Tensor] | None = None, counts: Callable[[], Tensor] | None = None
    ) -> None:
        if self.rates is not None and rate_matrix is not None and not self.known:
            self._fill(rate_matrix(self.rates, **(self.options or {})))

    # ---- what follows from the table ---------------------------------------------------------------------------------
    def _forget(self) -> None:
        self._exponential = self._active = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self._forget()
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._forget()
        super()._load_from_state_dict(*args, **kwargs)

    @property
    def exponential(self) -> Exponential:
        """exp(σQ), decomposed on first use."""
        if self._exponential is None:
            table = self.filled(REMEDY)
            self._exponential = Exponential(table, stationary_of(table), reachable_of(table))
        return self._exponential

    @property
    def irreducible(self) -> bool:
        return bool(self.exponential.reachable.all())

    @property
    def fastest_rate(self) -> float:
        return self.exponential.fastest_rate

    def _levels(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """The noise levels that occur, float64 `[U]`, and which of them each x has."""
        levels, index = sigma.double().unique(return_inverse=True)
        return levels, index.expand(torch.broadcast_shapes(x.shape, sigma.shape))

    def _gather(self, x: Tensor, sigma: Tensor, matrices: Callable[[Tensor], Tensor]) -> Tensor:
        """`matrices(levels)[·, x, :]` for each x at its own level: `[..., S]` in σ's dtype."""
        levels, index = self._levels(x, sigma)
        x = x.expand(index.shape)
        at_once = max(1, ENTRIES // self.num_states**2)
        if len(levels) <= at_once:
            return matrices(levels)[index, x].to(sigma.dtype)
        rows = torch.empty(*index.shape, self.num_states, dtype=sigma.dtype, device=x.device)
        for start in range(0, len(levels), at_once):
            here = (index >= start) & (index < start + at_once)
            rows[here] = matrices(levels[start : start + at_once])[index[here] - start, x[here]].to(sigma.dtype)
        return rows

    # ---- the linear maps ---------------------------------------------------------------------------------------------
    def rates_into(self, x: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
        return self.filled(REMEDY)[x].to(dtype)

    def rates_from(self, x: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
        return self.filled(REMEDY).T[x].to(dtype)

    def transition(self, x0: Tensor, sigma: Tensor) -> Tensor:
        return self._gather(x0, sigma, lambda levels: self.exponential(levels).transpose(-1, -2))

    def likelihood(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self._gather(x, sigma, self.exponential)

    def propagate(self, p: Tensor, sigma: Tensor) -> Tensor:
        levels, index = sigma.double().unique(return_inverse=True)
        shape = torch.broadcast_shapes(p.shape[:-1], sigma.shape)
        flat, index = p.expand(*shape, -1).reshape(-1, self.num_states).double(), index.expand(shape).reshape(-1)
        if len(levels) == 1:
            moved = flat @ self._either_sign(levels)[0].T
        elif len(flat) * self.num_states**2 <= ENTRIES:  # a matrix for each position
            moved = (self._either_sign(levels)[index] @ flat[..., None])[..., 0]
        else:
            order = index.argsort(stable=True)
            parts = flat[order].split(torch.bincount(index, minlength=len(levels)).tolist())
            each = [part @ self._either_sign(s)[0].T for s, part in zip(levels.split(1), parts, strict=True)]
            moved = torch.cat(each)[order.argsort()]
        return moved.reshape(*shape, self.num_states).to(p.dtype)

    def _either_sign(self, levels: Tensor) -> Tensor:
        """exp(σQ), `[U, S, S]`, for levels of which some may be negative."""
        if not bool((levels < 0).any()):
            return self.exponential(levels)
        forward = self.exponential(levels.clamp(min=0))
        return torch.where((levels < 0)[:, None, None], self.exponential.inverse((-levels).clamp(min=0)), forward)

    def restrict(self, logits: Tensor, x: Tensor) -> Tensor:
        return torch.where(self.exponential.reachable[x], logits, -torch.inf)

    def active(self, x: Tensor) -> Tensor:
        if self._active is None:
            self._active = (self.filled(REMEDY) > 0).any(-1)
        return self._active[x]

    def comparable(self, x: Tensor) -> Tensor:
        return self.exponential.reachable[x]

    def stationary(self, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Tensor:
        return stationary_of(self.filled(REMEDY)).to(dtype=dtype, device=device)

    def sample_prior(
        self, shape: tuple[int, int], *, generator: Randomness, device: torch.device | str = "cpu"
    ) -> Tensor:
        u = uniform(shape, generator=generator, purpose="prior", dtype=torch.float64, device=device)
        pi = self.stationary(dtype=torch.float64, device=device)
        return torch.searchsorted(pi.cumsum(0), u, right=True).clamp(max=int(pi.nonzero()[-1]))

    # ---- in float64, where float32 would lose transition probabilities below 1e-38 -----------------------------------
    def log_likelihood(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.likelihood(x, sigma.double()).log().to(sigma.dtype)

    def conditional_ratio(self, x: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
        return super().conditional_ratio(x, x0, sigma.double()).to(sigma.dtype)

    def bridge(self, x: Tensor, x0: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        return super().bridge(x, x0, sigma.double(), sigma_next.double()).to(sigma.dtype)

    def move(self, x: Tensor, x0: Tensor, sigma: Tensor, sigma_next: Tensor, u: Tensor) -> Tensor:
        known = x0.clamp(max=self.num_states - 1)  # a failed draw lies behind the last state, and is passed on
        drawn = categorical(self.bridge(x, known, sigma.double(), sigma_next.double()), u)
        return torch.where(known == x0, drawn, x0)

    def jump(self, x: Tensor, x0: Tensor, sigma: Tensor, u: Tensor) -> Tensor:
        known = x0.clamp(max=self.num_states - 1)
        return torch.where(known == x0, super().jump(x, known, sigma.double(), u), x0)

    def log_jump_rate(self, x: Tensor, sigma: Tensor) -> Tensor:
        rates = self.filled(REMEDY).clone().fill_diagonal_(0.0)
        into = self._gather(x, sigma.double(), lambda levels: rates @ self.exponential(levels))
        like = self.likelihood(x, sigma.double())
        return torch.where(like > 0, into / like, 0.0).log().to(sigma.dtype)

    def score_from_denoiser(self, log_p: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        log_s = super().score_from_denoiser(log_p.double(), x, sigma.double()).to(log_p.dtype)
        return torch.where(self.comparable(x), log_s, -torch.inf)

    def score_from_leave_one_out(self, log_loo: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        return super().score_from_leave_one_out(log_loo.double(), x, sigma.double()).to(log_loo.dtype)

    def posterior_from_denoiser(self, log_p: Tensor, x: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        p = super().posterior_from_denoiser(log_p.double(), x, sigma.double(), sigma_next.double())
        return p.to(log_p.dtype)


def normalized_generator(rates: Tensor, size: int) -> Tensor:
    """A checked generator with one expected jump per unit of σ at stationarity, float64 `[S, S]`.

    Raises:
        IncompatibleError: naming the entry or column that is wrong.
    """
    remedy = "Q[y, x] is the rate of x → y: transpose a matrix whose rows sum to 0."
    if rates.ndim != 2 or rates.shape[0] != rates.shape[1]:
        raise _refused(f"shape {list(rates.shape)}", "a square matrix", remedy)
    if len(rates) != size:
        raise _refused(
            f"rates of {len(rates)} states for a vocabulary of {size}",
            "one state a token",
            "An end token or a gap letter is a token too: leave it out, or give a matrix that has it.",
        )
    q = rates.detach().double().cpu().clone()
    if not bool(q.isfinite().all()):
        y, x = (~q.isfinite()).nonzero()[0].tolist()
        raise _refused(f"Q[{y}, {x}] = {float(q[y, x])}", "finite rates", "Correct this entry.")
    off = q.clone().fill_diagonal_(0.0)
    if bool((off < 0).any()):
        y, x = (off < 0).nonzero()[0].tolist()
        raise _refused(f"Q[{y}, {x}] = {float(q[y, x]):g}", "off-diagonal rates of at least 0", "Correct this entry.")
    # The rates may come in float32; the diagonal is then made to fit them.
    wrong = (q.sum(0).abs() > 1e-5 * off.sum(0).clamp(min=1e-300)).nonzero()
    if len(wrong):
        column = int(wrong[0])
        raise _refused(f"column {column}, which sums to {float(q[:, column].sum()):g}", "columns that sum to 0", remedy)
    q = off - torch.diag(off.sum(0))
    if not bool(reachable_of(q).all(-1).any()):
        raise _refused(
            "states that cannot reach one another",
            "one closed class, so that the noise forgets where it began",
            "Connect the parts, by a small rate between all states.",
        )
    jumps = -float(stationary_of(q) @ q.diagonal())
    if jumps <= 0:
        raise _refused("one state that none leaves, where all end", "noise that goes on jumping", "Use Absorbing.")
    return q / jumps


def _refused(got: str, expected: str, remedy: str) -> IncompatibleError:
    return IncompatibleError("RateMatrix", got=got, expected=expected, remedy=remedy)
