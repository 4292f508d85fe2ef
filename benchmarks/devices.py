"""What devices can do at best: published figures of GPUs, measured ones of the machine at hand."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

CACHE = 24 * 2**20


@dataclass(frozen=True)
class Device:
    """Rates of one device.

    Attributes:
        name: what it is called.
        rates: FLOP/s of dense matrix products by the type of their operands.
        bandwidth: bytes/s of its memory, read and written together.
        memory: bytes.
        link: bytes/s that it sends and receives at once, to its neighbours in one node; 0 where it is alone.
        source: where the figures come from.
        cache: bytes up to which what an operation touches is taken to stay in a cache, 0 for none.
        cache_bandwidth: bytes/s there.
    """

    name: str
    rates: Mapping[str, float]
    bandwidth: float
    memory: float
    link: float
    source: str
    cache: float = 0.0
    cache_bandwidth: float = 0.0

    def seconds(self, flops: float, size: float, dtype: str) -> float:
        """The larger of the times that the arithmetic and the traffic take."""
        cached = size <= self.cache
        return max(flops / self.rates[dtype], size / (self.cache_bandwidth if cached else self.bandwidth))


def _gpu(
    name: str, half: float, tf32: float, single: float, bandwidth: float, gigabytes: int, nvlink: float, source: str
) -> Device:
    """Rates in TFLOP/s without sparsity, bandwidth in TB/s, NVLink in GB/s both ways as vendors give it."""
    rates = {"bfloat16": half * 1e12, "tf32": tf32 * 1e12, "float32": single * 1e12}
    return Device(name, rates, bandwidth * 1e12, gigabytes * 1e9, nvlink / 2 * 1e9, source)


#: Data sheets print tensor-core rates with 2:4 sparsity; these are half of them.
DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        _gpu("H200", 989.5, 494.7, 67, 4.8, 141, 900, "NVIDIA H200 Tensor Core GPU data sheet, SXM"),
        _gpu("H100", 989.5, 494.7, 67, 3.35, 80, 900, "NVIDIA H100 Tensor Core GPU data sheet, SXM5 80 GB"),
        _gpu("A100", 312, 156, 19.5, 2.039, 80, 600, "NVIDIA A100 Tensor Core GPU data sheet, SXM4 80 GB"),
        _gpu("B200", 2250, 1100, 75, 8.0, 180, 1800, "NVIDIA DGX B200 data sheet, an eighth of it"),
    )
}


def here(*, size: int = 1024, seconds: float = 0.5) -> Device:
    """The machine that runs this, measured with torch's present number of threads.

    The product of square float32 and bfloat16 matrices, and additions `a += b`, which read two arrays and write one:
    once far beyond any cache, once 24 MB in all, which a
    server's last-level cache holds. The fastest of many repetitions, as a bound should be.

    Args:
        size: rows and columns of the matrices.
        seconds: spent on each measurement.
    """
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        rates[str(dtype).removeprefix("torch.")] = 2 * size**3 / _fastest(lambda: torch.mm(a, b, out=out), seconds)  # noqa: B023
    rates["tf32"] = rates["float32"]
    large, small = (_add_rate(bytes_, seconds) for bytes_ in (384 * 2**20, CACHE))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    threads = torch.get_num_threads()
    source = f"measured on {threads} thread{'s' if threads > 1 else ''}, torch {torch.__version__}"
    return Device("here", rates, large, memory, 0.0, source, CACHE, max(large, small))


def _add_rate(total: int, seconds: float) -> float:
    a, b = (torch.ones(total // 12) for _ in range(2))  # read twice, written once, 4 bytes each
    return 12 * len(a) / _fastest(lambda: a.add_(b), seconds)


def _fastest(call: Callable[[], object], seconds: float) -> float:
    call()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best
