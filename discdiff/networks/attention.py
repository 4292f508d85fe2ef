"""Attention: one function, several interchangeable backends."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.networks import kernels
from discdiff.networks.kernels import Request
from discdiff.networks.visibility import Visibility


@dataclass(frozen=True)
class Backend:
    """One way to compute attention.

    Attributes:
        run: `(q, k, v, visibility) -> [B, H, L, D]`.
        obstacle: the reason why `run` cannot take what is requested, or None.
        remedy: what to do about an obstacle.
        prepare: compute what all layers share of a visibility, `[B, L]` tokens being given.
        variable_length: whether padding costs nothing once it is packed away.
    """

    run: Callable[[Tensor, Tensor, Tensor, Visibility], Tensor]
    obstacle: Callable[[Request], str | None]
    remedy: str
    prepare: Callable[[Tensor, Visibility], object]
    variable_length: bool = False


def _sdpa(q: Tensor, k: Tensor, v: Tensor, visibility: Visibility) -> Tensor:
    packing = visibility.packing
    if packing is not None:
        # A mask of T × T would cost more than the padding that was saved: back to rows, each with its own tokens.
        q, k, v = (packing.unpack(x.transpose(1, 2)).transpose(1, 2) for x in (q, k, v))
        mixed = _sdpa(q, k, v, visibility.padded())
        return packing.pack(mixed.transpose(1, 2)).transpose(1, 2)
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


def _never(request: Request) -> str | None:
    return None


def _mask(tokens: Tensor, visibility: Visibility) -> object:
    return (visibility if visibility.packing is None else visibility.padded()).mask()


def _runs(tokens: Tensor, visibility: Visibility) -> object:
    return None if visibility.padding is None else visibility.runs()


def _block_mask(tokens: Tensor, visibility: Visibility) -> object:
    return visibility.block_mask(tokens.shape[0], tokens.shape[1], tokens.device)


_INSTEAD = "Choose backend='auto' or 'sdpa' (network.backend)"

#: The backends by name. A new kernel is one more entry.
BACKENDS: dict[str, Backend] = {
    "sdpa": Backend(_sdpa, _never, "", _mask),
    "varlen": Backend(
        kernels.variable_length(kernels.torch_varlen),
        kernels.varlen_obstacle,
        f"{_INSTEAD}; for varlen itself: bf16 on a GPU, and a torch that has torch.nn.attention.varlen",
        _runs,
        variable_length=True,
    ),
    "flash": Backend(
        kernels.variable_length(kernels.flash),
        kernels.flash_obstacle,
        f"{_INSTEAD}; for flash-attn itself: pip install 'discdiff[flash]', bf16 on a GPU",
        _runs,
        variable_length=True,
    ),
    "flex": Backend(
        kernels.flex,
        kernels.flex_obstacle,
        f"{_INSTEAD}; flex itself trains on a GPU, with heads of 16 channels or more",
        _block_mask,
    ),
    "reference": Backend(_reference, _never, "", lambda tokens, visibility: visibility.mask()),
}
# What `auto` tries, in this order. Where nothing is hidden, SDPA has torch's own flash kernel, as varlen does.
_SOME_HIDDEN = ("flash", "varlen", "sdpa")
_NOTHING_HIDDEN = ("flash", "sdpa")


def check_backend(name: str) -> None:
    """Refuse a backend name that is not registered.

    Raises:
        IncompatibleError: unknown name.
    """
    if name != "auto" and name not in BACKENDS:
        raise IncompatibleError(
            "attention backend", got=repr(name), expected=f"one of {['auto', *BACKENDS]}", remedy=_INSTEAD
        )


def choose(name: str, request: Request) -> Backend:
    """The backend called `name`, or for `"auto"` the fastest that takes the request.

    Raises:
        IncompatibleError: the name is unknown, or was given and cannot take the request.
    """
    if name == "auto":
        preferred = _SOME_HIDDEN if request.padded or request.packed else _NOTHING_HIDDEN
        return next(BACKENDS[each] for each in preferred if BACKENDS[each].obstacle(request) is None)
    check_backend(name)
    chosen = BACKENDS[name]
    obstacle = chosen.obstacle(request)
    if obstacle is not None:
        raise IncompatibleError(
            f"attention backend {name!r}", got=obstacle, expected="an input that it takes", remedy=chosen.remedy
        )
    return chosen


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
        q: `[B, H, L, D]`, any floating dtype, any strides; of packed tokens `[1, H, T, D]`.
        k: like `q`.
        v: like `q`.
        padding: bool `[B, L]`, True where a key is not attended to.
        segments: int64 `[B, L]`, for packed rows: attention stays within equal ids.
        visibility: instead of `padding` and `segments`, when several layers share one; packed tokens need one.
        backend: a name from `BACKENDS`, or `"auto"`: in half precision on a GPU flash-attn where it is installed, else
            torch's kernel of variable length where tokens are padded or packed; otherwise SDPA.

    Returns:
        `[B, H, L, D]` of `v`'s dtype. Rows of padded queries are finite and mean nothing.

    Raises:
        IncompatibleError: the backend is unknown, or was asked for by name and cannot take this input.
    """
    if visibility is None:
        visibility = Visibility(padding, segments)
    gradients = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    request = Request(q.device, q.dtype, q.shape[-1], gradients, **visibility.hides())
    return choose(backend, request).run(q, k, v, visibility)
