"""Randomness as an argument: `torch.Generator`, or counter-based `Keys`.

A draw is named by a `purpose`. With a `torch.Generator` the purpose is ignored and numbers come in sequence; with
`Keys` the number at `[b, i]` is a hash of (seed, row id of b, step, purpose, i), the same on every device, whatever
the batch, its order, its padding or the rows that were left out.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from discdiff.errors import DiscdiffError, IncompatibleError
from discdiff.sequences import onto


def _signed(value: int) -> int:
    """A 64-bit pattern as the int64 that torch holds."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


_GOLDEN, _MIX1, _MIX2 = (_signed(v) for v in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64 (torch's is arithmetic)."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014, figure 16) on int64 with wrap-around."""
    x = (x ^ _shift(x, 30)) * _MIX1
    x = (x ^ _shift(x, 27)) * _MIX2
    return x ^ _shift(x, 31)


@dataclass(frozen=True)
class Keys:
    """Counter-based randomness, one stream a row.

    Args:
        seed: any integer.
        rows: int64 `[B]`, the rows' ids; sample i of a job keeps its id in whatever batch it lands.
        step: the step of the loop; `at(step)` moves on.
        strata: float64 `[B]` in [0, 1) or None: stratification points for a row's time draw (see `time_points`).
    """

    seed: int
    rows: Tensor
    step: int = 0
    strata: Tensor | None = None

    def at(self, step: int) -> Keys:
        """The same streams at another step."""
        return replace(self, step=step)

    def index(self, rows: Tensor) -> Keys:
        """The streams of some rows."""
        return replace(self, rows=self.rows[rows], strata=None if self.strata is None else self.strata[rows])

    def _stream(self, purpose: str, rows: Tensor) -> Tensor:
        word = zlib.crc32(purpose.encode())
        state = _mix(torch.full_like(rows, _signed(self.seed)) + _GOLDEN)
        state = _mix(state ^ (rows + _GOLDEN))
        return _mix(state ^ _signed((self.step << 32) ^ word)) + _GOLDEN

    def uniform(self, shape: tuple[int, ...], purpose: str, dtype: torch.dtype) -> Tensor:
        """Numbers in [0, 1) of `shape`, whose first axis is the rows."""
        if shape[0] != len(self.rows):
            raise IncompatibleError(
                "Keys",
                got=f"{len(self.rows)} rows",
                expected=f"{shape[0]}",
                remedy="Give one row id per sequence.",
            )
        count = 1
        for size in shape[1:]:
            count *= size
        index = torch.arange(count, device=self.rows.device) * _GOLDEN
        return _to_uniform(_mix(_mix(self._stream(purpose, self.rows)[:, None] + index)), dtype).reshape(shape)

    def shared_uniform(self, purpose: str) -> Tensor:
        """One float64 number, the same for every row: float64 `[]`, on the host."""
        zero = torch.zeros((), dtype=torch.int64)
        return _to_uniform(_mix(self._stream("shared " + purpose, zero)), torch.float64)


Randomness = torch.Generator | Keys


def _to_uniform(bits: Tensor, dtype: torch.dtype) -> Tensor:
    digits = 53 if dtype == torch.float64 else 24
    return _shift(bits, 64 - digits).to(dtype) * (2.0**-digits)


def at_step(generator: Randomness, step: int) -> Randomness:
    """Move counter-based keys to `step`; a `torch.Generator` is its own state."""
    return generator.at(step) if isinstance(generator, Keys) else generator


def fork(generator: Randomness, name: str) -> Randomness:
    """Streams independent of those of `generator`, for another part that uses the same purposes at the same step."""
    if not isinstance(generator, Keys):
        return generator
    word = torch.tensor(_signed(generator.seed)) ^ _signed(zlib.crc32(name.encode()) << 16)
    return replace(generator, seed=int(_mix(word + _GOLDEN)))


def index_rows(generator: Randomness, rows: Tensor) -> Randomness:
    """The randomness of some rows; a `torch.Generator` has no rows."""
    return generator.index(rows) if isinstance(generator, Keys) else generator


def uniform(
    shape: tuple[int, ...],
    *,
    generator: Randomness,
    purpose: str,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Uniform numbers in [0, 1).

    Args:
        shape: the first axis is the rows.
        generator: where the numbers come from; a CPU generator serves any device.
        purpose: the draw's name; draws of different purposes at one step are independent.
        dtype: float32 (24 random bits) or float64 (53).
    """
    if isinstance(generator, Keys):
        return generator.uniform(shape, purpose, dtype).to(device)
    return torch.rand(shape, generator=generator, dtype=dtype, device=generator.device).to(device)


_CHUNK = 256
"""Entries that are summed in float32 where there are many: see `categorical`."""


def categorical(weights: Tensor, u: Tensor) -> Tensor:
    """Draw from unnormalised weights by the inverse distribution function.

    No Gumbel noise: in float32 its truncation acts like a lower temperature. Many entries of float32 are drawn in two
    stages, a chunk by the chunks' float32 sums, and then one of its entries: no entry is lost beside larger ones, and
    each has its probability to a few parts in 10⁷, as have the weights themselves.

    Args:
        weights: `[..., K]`, non-negative.
        u: `[...]` uniform numbers in [0, 1).

    Returns:
        int64 `[...]`; an entry of weight 0 is never returned. K, no entry, where a weight is NaN or infinite, all are
        0, or float32 weights sum to more than 3.4e38.
    """
    size = weights.shape[-1]
    if size <= 2 * _CHUNK or weights.dtype == torch.float64:
        return _drawn(weights, u)[0]
    whole, rest = size // _CHUNK * _CHUNK, size % _CHUNK
    sums = weights[..., :whole].unflatten(-1, (-1, _CHUNK)).sum(-1)
    if rest:
        sums = torch.cat([sums, weights[..., whole:].sum(-1, keepdim=True)], -1)
    chunk, point = _drawn(sums, u)
    failed = chunk == sums.shape[-1]
    # The last chunk begins where it is full; its first entries may be another's, and weigh nothing here.
    first = (chunk * _CHUNK).clamp(max=size - _CHUNK)
    within = first[..., None] + torch.arange(_CHUNK, device=weights.device)
    part = weights.gather(-1, within).masked_fill(within < (chunk * _CHUNK)[..., None], 0)
    drawn = first + _drawn(part, point)[0]
    return torch.where(failed, size, drawn.clamp(max=size))


def _drawn(weights: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """An entry as of `categorical`, and a uniform number in [0, 1) that is independent of it."""
    # Summed in float64: in float32 entries below 2^-24 of the sum so far would add nothing, and never be drawn.
    cumulative = weights.cumsum(-1, dtype=torch.float64)
    total = cumulative[..., -1:]
    # u * total can round up to total; the draw must still land on the last entry that has weight.
    point = torch.minimum(u[..., None].double() * total, total.nextafter(torch.zeros_like(total)))
    drawn = torch.searchsorted(cumulative, point, right=True)
    # A parallel scan may round two prefixes with nothing between them differently, and let a draw fall in the gap.
    last = weights.shape[-1] - 1
    at = drawn.clamp(max=last)
    weight = weights.gather(-1, at).double()
    drawn = torch.where(weight == 0, weights.argmax(-1, keepdim=True), drawn)
    rest = (1 - (cumulative.gather(-1, at) - point) / weight).nan_to_num(0.5).clamp(0, 1 - 2.0**-53)
    drawn = torch.where(total.isfinite() & (total > 0), drawn, weights.shape[-1])
    return drawn.squeeze(-1), rest.squeeze(-1)


def check_draws(*draws: tuple[Tensor, int]) -> None:
    """Refuse tokens that no draw gave: from weights that are not numbers they fall behind the last state.

    Args:
        draws: tokens, and how many states they were drawn from; all are looked at together, for one wait on the device.

    Raises:
        DiscdiffError: a draw failed (see `categorical`).
    """
    if bool(torch.stack([(tokens >= states).any() for tokens, states in draws]).any()):
        raise DiscdiffError(
            "sample: a draw failed: the network's output is not finite, or one long step from a score left no state "
            "any probability. Were the weights trained? Take more steps?"
        )


def random_order(shape: tuple[int, int], *, generator: Randomness, purpose: str, device: torch.device) -> Tensor:
    """A uniform random permutation of `range(L)` for each row: int64 `[B, L]`."""
    u = uniform(shape, generator=generator, purpose=purpose, dtype=torch.float64, device=device)
    return u.argsort(dim=-1, stable=True)


def time_points(batch: int, *, generator: Randomness, device: torch.device | str = "cpu") -> Tensor:
    """Low-discrepancy times: one random shift, then one point in each of `batch` equal strata. float64 `[batch]`.

    Each point is uniform on [0, 1) by itself, so averages stay unbiased while their variance falls (Kingma et al.
    2021, "Variational Diffusion Models", appendix I.1). With `Keys` the strata are those that the keys carry (slots of
    the global batch, in training); without strata each row's point is its own hash.
    """
    if isinstance(generator, Keys):
        if generator.strata is None:
            return generator.uniform((batch,), "time", torch.float64).to(device)
        return onto((generator.shared_uniform("time") + generator.strata) % 1.0, device)
    u = uniform((2,), generator=generator, purpose="time", dtype=torch.float64, device=device)
    order = uniform((batch,), generator=generator, purpose="time order", dtype=torch.float64, device=device).argsort()
    return (u[0] + order.double() / batch) % 1.0
