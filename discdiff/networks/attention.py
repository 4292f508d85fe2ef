"""Attention: one function, several interchangeable backends; and rotary positions."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from discdiff.errors import IncompatibleError

_HALF = (torch.float16, torch.bfloat16)


class Visibility:
    """Which keys each query sees. Build it once per forward pass: every layer shares its cached mask.

    Args:
        padding: bool `[B, L]`, True where a position is not attended to; None where all are.
        segments: int64 `[B, L]`: a query sees the keys of its own segment; None where there is one segment.

    No query is left without a key: in a row that is all padding every key is seen, and with segments each
    position sees itself. What such positions hold is never read, but their gradients must stay finite.
    """

    def __init__(self, padding: Tensor | None = None, segments: Tensor | None = None) -> None:
        self.padding, self.segments = padding, segments
        self._mask: Tensor | None = None

    @property
    def everywhere(self) -> bool:
        """Every query sees every key."""
        return self.padding is None and self.segments is None

    def mask(self) -> Tensor | None:
        """bool, True where the key is seen: `[B, 1, 1, L]`, with segments `[B, 1, L, L]`, None if everywhere."""
        if self._mask is None and not self.everywhere:
            self._mask = self._build()
        return self._mask

    def _build(self) -> Tensor:
        if self.segments is None:
            assert self.padding is not None
            return (~self.padding | self.padding.all(-1, keepdim=True))[:, None, None, :]
        seen = self.segments[:, :, None] == self.segments[:, None, :]
        if self.padding is not None:
            itself = torch.eye(seen.shape[-1], dtype=torch.bool, device=seen.device)
            seen = (seen & ~self.padding[:, None, :]) | itself
        return seen[:, None]


@dataclass(frozen=True)
class Backend:
    """One way to compute attention.

    Attributes:
        run: `(q, k, v, visibility) -> [B, H, L, D]`.
        obstacle: `(q, visibility) -> None`, or the reason why `run` cannot take this input here.
        remedy: what to do about an obstacle.
    """

    run: Callable[[Tensor, Tensor, Tensor, Visibility], Tensor]
    obstacle: Callable[[Tensor, Visibility], str | None]
    remedy: str


def _sdpa(q: Tensor, k: Tensor, v: Tensor, visibility: Visibility) -> Tensor:
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=visibility.mask())
    # The CPU kernel's bf16 backward takes eight times as long as its float32 one; autocast would choose it.
    with torch.autocast("cpu", enabled=False):
        wide = torch.promote_types(q.dtype, torch.float32)
        mixed = F.scaled_dot_product_attention(q.to(wide), k.to(wide), v.to(wide), attn_mask=visibility.mask())
    return mixed.to(v.dtype)


def _reference(q: Tensor, k: Tensor, v: Tensor, visibility: Visibility) -> Tensor:
    wide = torch.promote_types(q.dtype, torch.float32)
    scores = q.to(wide) @ k.to(wide).transpose(-1, -2) / math.sqrt(q.shape[-1])
    mask = visibility.mask()
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return (scores.softmax(-1) @ v.to(wide)).to(v.dtype)


def _flash(q: Tensor, k: Tensor, v: Tensor, visibility: Visibility) -> Tensor:
    from flash_attn import flash_attn_func

    out: Tensor = flash_attn_func(*(x.transpose(1, 2) for x in (q, k, v)))
    return out.transpose(1, 2)


@functools.cache
def _flash_import_error() -> str | None:
    # A build against another torch raises OSError or RuntimeError from its extension, not only ImportError.
    try:
        import flash_attn  # noqa: F401
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return f"flash-attn cannot be imported ({error})"
    return None


def _flash_obstacle(q: Tensor, visibility: Visibility) -> str | None:
    if not q.is_cuda:
        return f"flash-attn runs on CUDA, the tensors are on {q.device.type}"
    if q.dtype not in _HALF:
        return f"flash-attn takes float16 or bfloat16, the tensors are {q.dtype}"
    if not visibility.everywhere:
        return "flash-attn takes no padding or segment mask here"
    if q.shape[-1] > 256 or q.shape[-1] % 8:
        return f"flash-attn takes head sizes that are multiples of 8 up to 256, this one is {q.shape[-1]}"
    if torch.cuda.get_device_capability(q.device) < (8, 0):
        return "flash-attn needs compute capability 8.0 (Ampere) or newer"
    return _flash_import_error()


def _never(q: Tensor, visibility: Visibility) -> str | None:
    return None


_INSTEAD = "Choose backend='auto' or 'sdpa'"

#: The backends by name. A new kernel (variable-length, block-sparse) is one more entry.
BACKENDS: dict[str, Backend] = {
    "sdpa": Backend(_sdpa, _never, ""),
    "flash": Backend(
        _flash,
        _flash_obstacle,
        f"{_INSTEAD}; for flash-attn itself: pip install 'discdiff[flash]', bf16 on a GPU",
    ),
    "reference": Backend(_reference, _never, ""),
}
_PREFERENCE = ("flash", "sdpa")


def check_backend(name: str) -> None:
    """Refuse a backend name that is not registered.

    Raises:
        IncompatibleError: unknown name.
    """
    if name != "auto" and name not in BACKENDS:
        raise IncompatibleError(
            "attention backend", got=repr(name), expected=f"one of {['auto', *BACKENDS]}", remedy=_INSTEAD
        )


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    padding: Tensor | None = None,
    segments: Tensor | None = None,
    visibility: Visibility | None = None,
    backend: str = "auto",
) -> Tensor:
    """softmax(q kᵀ / √D) v over the keys that each query sees (Vaswani et al. 2017, eq. 1); bidirectional.

    Args:
        q: `[B, H, L, D]`, any floating dtype, any strides.
        k: like `q`.
        v: like `q`.
        padding: bool `[B, L]`, True where a key is not attended to.
        segments: int64 `[B, L]`, for packed rows: attention stays within equal ids.
        visibility: instead of `padding` and `segments`, when several layers share one.
        backend: `"auto"` (flash-attn where it is installed and applies, else SDPA), or a name from `BACKENDS`.

    Returns:
        `[B, H, L, D]` of `v`'s dtype. Rows of padded queries are finite and mean nothing.

    Raises:
        IncompatibleError: the backend is unknown, or was asked for by name and cannot take this input.
    """
    if visibility is None:
        visibility = Visibility(padding, segments)
    if backend == "auto":
        usable = (name for name in _PREFERENCE if BACKENDS[name].obstacle(q, visibility) is None)
        return BACKENDS[next(usable)].run(q, k, v, visibility)
    check_backend(backend)
    chosen = BACKENDS[backend]
    obstacle = chosen.obstacle(q, visibility)
    if obstacle is not None:
        raise IncompatibleError(
            f"attention backend {backend!r}",
            got=obstacle,
            expected="an input that it takes",
            remedy=chosen.remedy,
        )
    return chosen.run(q, k, v, visibility)
