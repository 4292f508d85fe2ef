"""Attention kernels: when each runs and why not, and what they are fed; here a stand-in takes the place of those that
need a GPU.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.networks import kernels
from discdiff.networks.attention import BACKENDS, attention, choose
from discdiff.networks.kernels import Request, variable_length
from discdiff.networks.packing import Packing
from discdiff.networks.visibility import Visibility
from tests.networks.test_attention import MASKS, PADDING, qkv


@pytest.mark.parametrize(
    ("backend", "why"),
    [
        ("varlen", r"varlen runs on CUDA.*cpu.*backend='auto'.*bf16 on a GPU"),
        ("flash", r"flash-attn runs on CUDA.*cpu.*discdiff\[flash\]"),
        ("flex", r"flex has no gradients on the CPU.*backend='auto'"),
    ],
)
def test_a_backend_by_name_says_why_not(generator: torch.Generator, backend: str, why: str) -> None:
    with pytest.raises(IncompatibleError, match=why):
        attention(*qkv(generator), backend=backend)


def wish(dtype: torch.dtype = torch.bfloat16, head_dim: int = 64, *, device: str = "cuda", **hidden: bool) -> Request:
    """What is asked of a backend, on a GPU that need not be there."""
    return Request(torch.device(device), dtype, head_dim, True, **hidden)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A machine whose GPU and modules are what the test says: the capability, and modules by name."""
    says: dict[str, Any] = {"capability": (9, 0)}
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: says["capability"])
    for name in ("_IMPORTED", "_IMPORT_ERRORS", "_CAPABILITIES"):
        monkeypatch.setattr(kernels, name, {})

    def load(name: str) -> Any:
        if name not in says:
            raise ImportError(f"No module named {name!r}")
        return says[name]

    monkeypatch.setattr(kernels, "import_module", load)
    return says


@pytest.mark.parametrize("backend", ["varlen", "flash"])
@pytest.mark.parametrize(
    ("asked", "capability", "why"),
    [
        (wish(torch.float32), (9, 0), "takes float16 or bfloat16"),
        (wish(segmented=True), (9, 0), "no segment ids"),
        (wish(head_dim=20), (9, 0), "multiples of 8"),
        (wish(head_dim=512), (9, 0), "up to 256"),
        (wish(), (7, 5), "compute capability"),
        (wish(padded=True), (9, 0), "cannot be imported"),
        (wish(packed=True), (9, 0), "cannot be imported"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_why_kernels_cannot_run(
    gpu: dict[str, Any], backend: str, asked: Request, capability: tuple[int, int], why: str
) -> None:
    gpu["capability"] = capability
    assert why in (BACKENDS[backend].obstacle(asked) or "")


def test_why_flex_cannot_run() -> None:
    assert BACKENDS["flex"].obstacle(wish()) is None
    assert "16 channels" in (BACKENDS["flex"].obstacle(wish(head_dim=8)) or "")
    assert "on the CPU" in (BACKENDS["flex"].obstacle(wish(device="mps")) or "")


VARLEN, FLASH2, FLASH3 = "torch.nn.attention.varlen", "flash_attn", "flash_attn_interface"


@pytest.mark.parametrize(
    ("asked", "installed", "chosen"),
    [
        (wish(), [VARLEN], "sdpa"),
        (wish(), [VARLEN, FLASH2], "flash"),
        (wish(padded=True), [VARLEN], "varlen"),
        (wish(packed=True), [VARLEN], "varlen"),
        (wish(packed=True), [VARLEN, FLASH2], "flash"),
        (wish(padded=True), [], "sdpa"),
        (wish(torch.float32, packed=True), [VARLEN, FLASH2], "sdpa"),
        (wish(segmented=True, padded=True), [VARLEN, FLASH2], "sdpa"),
        (wish(packed=True, device="cpu"), [VARLEN, FLASH2], "sdpa"),
    ],
)
def test_what_auto_takes(gpu: dict[str, Any], asked: Request, installed: list[str], chosen: str) -> None:
    for name in installed:
        gpu[name] = SimpleNamespace(varlen_attn=None, flash_attn_varlen_func=None)
    assert choose("auto", asked) is BACKENDS[chosen]


@pytest.mark.parametrize(
    ("capability", "installed", "used"),
    [((9, 0), [FLASH2, FLASH3], FLASH3), ((9, 0), [FLASH2], FLASH2), ((8, 0), [FLASH2, FLASH3], FLASH2)],
)
def test_which_flash_attn(
    gpu: dict[str, Any], generator: torch.Generator, capability: tuple[int, int], installed: list[str], used: str
) -> None:
    gpu["capability"] = capability
    for name in installed:
        # flash-attn 3 once returned a pair
        kernel = lambda q, *rest, name=name: (name, rest) if name == FLASH3 else name  # noqa: E731
        gpu[name] = SimpleNamespace(flash_attn_varlen_func=kernel)
    q = torch.randn(7, 2, 8, generator=generator)
    assert kernels.flash(q, q, q, torch.tensor([0, 7]), 7) == used


def test_kernels_are_found_before_compilers_trace(gpu: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    gpu[VARLEN] = SimpleNamespace(varlen_attn=None)
    kernels.look(torch.device("cpu"))
    assert not kernels._IMPORT_ERRORS
    kernels.look(torch.device("cuda"))
    monkeypatch.setattr(kernels, "import_module", None)
    assert choose("auto", wish(packed=True)) is BACKENDS["varlen"]


def by_sequence(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, longest: int) -> Tensor:
    """What a kernel of variable length computes, one sequence at a time; it is as strict as they are."""
    ends = cu_seqlens.tolist()
    assert cu_seqlens.dtype == torch.int32
    assert ends[0] == 0
    assert ends[-1] == len(q)
    parts = []
    for start, end in pairwise(ends):
        assert 0 <= end - start <= longest
        one = (x[start:end].transpose(0, 1)[None] for x in (q, k, v))
        parts.append(attention(*one, backend="reference")[0].transpose(0, 1))
    return torch.cat(parts)


@pytest.mark.parametrize("padding", [None, PADDING, PADDING.flip(-1)], ids=["full", "padded", "padded in front"])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-12), (torch.bfloat16, 3e-2)])
def test_kernels_of_variable_length_are_fed_right(
    generator: torch.Generator, padding: Tensor | None, dtype: torch.dtype, atol: float
) -> None:
    tensors = qkv(generator, dtype=dtype)
    real = torch.ones(3, 7, dtype=torch.bool) if padding is None else ~padding
    results = []
    stand_in = replace(BACKENDS["varlen"], run=variable_length(by_sequence), obstacle=lambda request: None)
    with patch.dict(BACKENDS, varlen=stand_in):
        for backend in ("varlen", "reference"):
            out = attention(*tensors, padding=padding, backend=backend)
            assert out.shape == (3, 2, 7, 8)
            assert out.dtype == dtype
            kept = out.transpose(1, 2)[real]
            results.append([kept, *torch.autograd.grad(kept.float().square().sum(), tensors)])
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, atol=atol, rtol=atol)


LENGTHS = torch.tensor([7, 0, 4, 1])


@pytest.mark.parametrize("backend", ["sdpa", "reference", "varlen"])
def test_packed_tokens_see_their_own_sequence(generator: torch.Generator, backend: str) -> None:
    packing = Packing.of(LENGTHS, 8, 12)
    tensors = qkv(generator, (1, 2, 12, 8))
    stand_in = replace(BACKENDS["varlen"], run=variable_length(by_sequence), obstacle=lambda request: None)
    with patch.dict(BACKENDS, varlen=stand_in):
        out = attention(*tensors, visibility=Visibility(packing=packing), backend=backend)
    ends = [0, 7, 11, 12]
    alone = [attention(*(x[:, :, start:end] for x in tensors), backend="reference") for start, end in pairwise(ends)]
    torch.testing.assert_close(out, torch.cat(alone, 2), atol=1e-12, rtol=0)
    gradients = [torch.autograd.grad(y.square().sum(), tensors) for y in (out, torch.cat(alone, 2))]
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, atol=1e-12, rtol=0)


@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS)
def test_flex_equals_the_reference(generator: torch.Generator, masks: dict[str, Any]) -> None:
    tensors = [x.detach() for x in qkv(generator, dtype=torch.float32)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = attention(*tensors, **masks, backend="flex")
    torch.testing.assert_close(ours, attention(*tensors, **masks, backend="reference"), atol=1e-5, rtol=1e-5)


def test_flex_takes_packed_tokens(generator: torch.Generator) -> None:
    tensors = [x.detach() for x in qkv(generator, (1, 2, 12, 8), torch.float32)]
    seen = Visibility(packing=Packing.of(LENGTHS, 8, 12))
    ours, exact = (attention(*tensors, visibility=seen, backend=backend) for backend in ("flex", "reference"))
    torch.testing.assert_close(ours, exact, atol=1e-5, rtol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["varlen", "flash", "flex"])
@pytest.mark.parametrize("hidden", ["everywhere", "padding", "packed"])
def test_kernels_equal_the_reference(generator: torch.Generator, backend: str, hidden: str) -> None:
    lengths = torch.tensor([65, 64, 1, 30]).cuda()
    width, total = 65, 160
    shape = (1, 4, total, 64) if hidden == "packed" else (4, 4, width, 64)
    tensors = [x.detach().cuda().requires_grad_() for x in qkv(generator, shape, torch.bfloat16)]
    padding = torch.arange(width).cuda() >= lengths[:, None] if hidden == "padding" else None
    seen = Visibility(padding, packing=Packing.of(lengths, width, total) if hidden == "packed" else None)
    request = Request(tensors[0].device, torch.bfloat16, 64, True, **seen.hides())
    if "imported" in (BACKENDS[backend].obstacle(request) or ""):
        pytest.skip(str(BACKENDS[backend].obstacle(request)))
    results = []
    for name in (backend, "reference"):
        out = attention(*tensors, visibility=seen, backend=name).transpose(1, 2)
        kept = out if padding is None else out[~padding]
        results.append([kept, *torch.autograd.grad(kept.float().square().sum(), tensors)])
    for ours, exact in zip(*results, strict=True):
        torch.testing.assert_close(ours, exact, atol=3e-2, rtol=3e-2)


def test_importing_loads_no_kernels() -> None:
    import subprocess
    import sys

    absent = "{'flash_attn', 'torch.nn.attention.varlen', 'sympy'}"
    code = f"import sys, discdiff.networks.attention; assert not {absent} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
