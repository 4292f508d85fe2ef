"""Attention kernels that not every machine has: what each can take, and how it is called."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from discdiff.networks.visibility import Visibility

VarlenKernel = Callable[[Tensor, Tensor, Tensor, Tensor, int], Tensor]
"""`(q, k, v [T, H, D], cu_seqlens int32 [B + 1], longest) -> [T, H, D]`: attention within each sequence."""

_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Request:
    """What a backend is asked to take, so far as it decides whether it can.

    Attributes:
        device, dtype: of q, k and v.
        head_dim: D.
        gradients: whether the result will be differentiated.
        padded, segmented, packed: what hides keys from queries.
    """

    device: torch.device
    dtype: torch.dtype
    head_dim: int
    gradients: bool
    padded: bool = False
    segmented: bool = False
    packed: bool = False


# ---- kernels of variable length ----
VARLEN = ("torch.nn.attention.varlen", "varlen_attn")
FLASH2, FLASH3 = (("flash_attn", "flash_attn_varlen_func"), ("flash_attn_interface", "flash_attn_varlen_func"))


def variable_length(kernel: VarlenKernel) -> Callable[[Tensor, Tensor, Tensor, Visibility], Tensor]:
    """A backend's `run` from a kernel of variable length: for packed, padded and full rows."""

    def run(q: Tensor, k: Tensor, v: Tensor, visibility: Visibility) -> Tensor:
        rows, heads, length, size = q.shape
        q, k, v = (x.transpose(1, 2).reshape(rows * length, heads, size) for x in (q, k, v))
        if visibility.packing is not None:
            out = kernel(q, k, v, visibility.packing.cu_seqlens, visibility.packing.width)
        elif visibility.padding is not None:
            order, inverse, cu_seqlens = visibility.runs()
            q, k, v = (x.index_select(0, order) for x in (q, k, v))
            out = kernel(q, k, v, cu_seqlens, length).index_select(0, inverse)
        else:
            cu_seqlens = length * torch.arange(rows + 1, device=q.device, dtype=torch.int32)
            out = kernel(q, k, v, cu_seqlens, length)
        return out.view(rows, length, heads, size).transpose(1, 2)

    return run


def torch_varlen(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, longest: int) -> Tensor:
    """`torch.nn.attention.varlen`."""
    out: Tensor = imported(VARLEN)(q, k, v, cu_seqlens, cu_seqlens, longest, longest)
    return out


def flash(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, longest: int) -> Tensor:
    """flash-attn 3 where it is installed and the GPU is a Hopper, else flash-attn 2 (Dao 2023; Shah et al. 2024)."""
    out = imported(_flash_version(q.device))(q, k, v, cu_seqlens, cu_seqlens, longest, longest)
    # early versions of flash-attn 3 return the logarithms of the normalisers, too
    first: Tensor = out[0] if isinstance(out, tuple) else out
    return first


def varlen_obstacle(request: Request) -> str | None:
    """Why torch's kernel of variable length cannot run."""
    return _half_on_gpu("varlen", request) or import_error(VARLEN)


def flash_obstacle(request: Request) -> str | None:
    """Why flash-attn cannot run."""
    return _half_on_gpu("flash-attn", request) or import_error(_flash_version(request.device))


def _half_on_gpu(name: str, request: Request) -> str | None:
    if request.device.type != "cuda":
        return f"{name} runs on CUDA, the tensors are on {request.device.type}"
    if request.dtype not in _HALF:
        return f"{name} takes float16 or bfloat16, the tensors are of another dtype"
    if request.segmented:
        return f"{name} takes padding and packed tokens, but no segment ids"
    if request.head_dim > 256 or request.head_dim % 8:
        return f"{name} takes head sizes that are multiples of 8 up to 256, this one is {request.head_dim}"
    if _capability(request.device) < (8, 0):
        return f"{name} needs compute capability 8.0 (Ampere) or newer"
    return None


# Filled at first use: `torch.nn.attention.varlen` alone takes seconds to import. Plain dicts and not functools.cache,
# which compilers do not look into: what is known when they trace is a look-up.
_IMPORTED: dict[tuple[str, str], Any] = {}
_IMPORT_ERRORS: dict[tuple[str, str], str | None] = {}
_CAPABILITIES: dict[torch.device, tuple[int, int]] = {}


def imported(function: tuple[str, str]) -> Any:
    """The function of a module, by their names."""
    if function not in _IMPORTED:
        module, name = function
        _IMPORTED[function] = getattr(import_module(module), name)
    return _IMPORTED[function]


def import_error(function: tuple[str, str]) -> str | None:
    """Why a function cannot be imported, or None. Asked once a process."""
    if function not in _IMPORT_ERRORS:
        # A build against another torch raises OSError or RuntimeError from its extension, not only ImportError.
        try:
            imported(function)
            _IMPORT_ERRORS[function] = None
        except (ImportError, OSError, RuntimeError, AttributeError) as error:
            _IMPORT_ERRORS[function] = f"{'.'.join(function)} cannot be imported ({error})"
    return _IMPORT_ERRORS[function]


def look(device: torch.device) -> None:
    """Find out what there is for a device: before `torch.compile`, which cannot while it traces."""
    if device.type == "cuda":
        for function in (VARLEN, _flash_version(device)):
            import_error(function)


def _capability(device: torch.device) -> tuple[int, int]:
    if device not in _CAPABILITIES:
        _CAPABILITIES[device] = torch.cuda.get_device_capability(device)
    return _CAPABILITIES[device]


def _flash_version(device: torch.device) -> tuple[str, str]:
    hopper = _capability(device) >= (9, 0)
    return FLASH3 if hopper and import_error(FLASH3) is None else FLASH2


# ---- flex-attention ----
def flex(q: Tensor, k: Tensor, v: Tensor, visibility: Visibility) -> Tensor:
    """`torch.nn.attention.flex_attention` (Dong et al. 2024): skips blocks in which no query sees a key."""
    from torch.nn.attention.flex_attention import flex_attention

    block_mask = visibility.block_mask(q.shape[0], q.shape[2], q.device)
    if q.device.type != "cpu":
        # within a compiled network it is compiled with the rest
        fused: Any = flex_attention if torch.compiler.is_compiling() else _compiled(flex_attention)
        attended: Tensor = fused(q, k, v, block_mask=block_mask)
        return attended
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*flex_attention called without torch.compile.*")
        out: Any = flex_attention(q, k, v, block_mask=block_mask)
    unfused: Tensor = out
    return unfused


@functools.cache
def _compiled(function: Callable[..., Any]) -> Any:
    return torch.compile(function, dynamic=True)


def flex_obstacle(request: Request) -> str | None:
    """Why flex-attention cannot run."""
    if request.device.type == "cpu" and request.gradients:
        return "flex has no gradients on the CPU"
    if request.device.type not in ("cpu", "cuda"):
        return f"flex runs on CUDA, and without gradients on the CPU; the tensors are on {request.device.type}"
    if request.device.type == "cuda" and request.head_dim < 16:
        return f"flex takes heads of 16 channels or more, these have {request.head_dim}"
    return None
