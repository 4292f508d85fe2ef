"""What a run needs around it: device, precision, quiet, seeds, compilation, loggers."""

from __future__ import annotations

import ctypes
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from discdiff.errors import CheckpointError, ConfigError
from discdiff.manifest import CONFIG_FILE
from discdiff.networks import kernels
from discdiff.networks.base import Network
from discdiff.unfinished import CHECKPOINT, begun

Precision = Literal["auto", "float32", "bf16", "bfloat16", "float64"]


def choose_device(name: str) -> torch.device:
    """The device called `name`; "auto" is a GPU if there is one.

    Raises:
        ConfigError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device: got {name!r}, expected auto, cpu, cuda or cuda:1") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device: got {name!r}, expected auto, cpu, cuda or cuda:1")
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ConfigError(f"device: got {name!r}, but torch sees {count} CUDA devices; device='cpu' does without")
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device


def lightning_precision(precision: Precision, device: torch.device) -> Any:
    """Lightning's name of a precision; a float64 model is float64 all over, which Lightning has no need to know.

    Raises:
        ConfigError: unknown, or not to be had on the device.
    """
    if precision not in get_args(Precision):
        expected = " or ".join(map(repr, get_args(Precision)))
        raise ConfigError(f"precision: got {precision!r}, expected {expected}")
    bf16 = device.type == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False)
    if precision == "auto":
        precision = "bf16" if bf16 and (device.type == "cuda" or cpu_multiplies_bf16()) else "float32"
    half = precision in ("bf16", "bfloat16")
    if half and not bf16:
        raise ConfigError("precision: this GPU has no bf16; use precision='float32'")
    return "bf16-mixed" if half else "32-true"


def training_dtype(precision: Precision, name: str) -> torch.dtype:
    """What the network's layers compute in, given Lightning's name of the precision."""
    if precision == "float64":
        return torch.float64
    return torch.bfloat16 if name == "bf16-mixed" else torch.float32


def cpu_multiplies_bf16() -> bool:
    """Whether this processor has instructions for bf16 products, so far as torch tells; emulated they are slow."""
    capabilities: Any = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16"))


def make_loggers(loggers: Sequence[Any], folder: Path | None) -> list[Any]:
    """Lightning's logger objects; "csv" is not among them, it is `metrics.csv`."""
    made = []
    for logger in loggers:
        if logger == "tensorboard":
            if folder is not None:
                made.append(_board(folder))
        elif logger != "csv":
            if isinstance(logger, str):
                raise ConfigError(f"loggers: got {logger!r}, expected 'csv', 'tensorboard' or a Lightning logger")
            made.append(logger)
    return made


def _board(folder: Path) -> Any:
    """TensorBoard's logger. A full disk is told where figures are logged; it is no reason to stop."""
    from lightning.pytorch.loggers import TensorBoardLogger

    class Board(TensorBoardLogger):
        def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
            try:
                super().log_metrics(metrics, step)
            except ValueError as error:  # Lightning's, which blames the figure for whatever went wrong
                if isinstance(error.__cause__, OSError):
                    raise error.__cause__ from None
                raise

        def save(self) -> None:
            with suppress(OSError):
                super().save()

        def finalize(self, status: str) -> None:
            with suppress(OSError):
                super().finalize(status)

    return Board(folder, name="tensorboard", version="")


def checkpoint_to_resume(resume: bool | str | Path, folder: Path | None) -> Path | None:
    """The checkpoint to go on from, or None for a new run, or one that was stopped before its first checkpoint.

    Raises:
        CheckpointError: there is none.
    """
    if resume is False:
        return None
    if resume is True:
        if folder is None:
            raise CheckpointError("resume=True needs the run's folder; or give the checkpoint's path, resume=path")
        path = folder / CHECKPOINT
        if not path.is_file() and begun(folder) and not (folder / CONFIG_FILE).exists():
            return None
    else:
        if "://" in str(resume):
            raise CheckpointError(f"{resume}: checkpoints are read from local files only; download it first")
        path = Path(resume)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; to start a new run, leave out resume")
    return path


@contextmanager
def around(
    device: torch.device, seed: int, network: Network, compile_network: bool, gradient_checkpointing: bool
) -> Iterator[None]:
    """Lightning quiet, torch's global random state seeded and then put back, fast products on GPUs, compilation,
    gradient checkpointing.
    """
    with ExitStack() as stack:
        stack.enter_context(quiet())
        stack.enter_context(keep_memory(device))
        stack.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
        torch.manual_seed(seed)  # dropout alone draws from it
        if device.type == "cuda":
            stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
            torch.set_float32_matmul_precision("high")
        if gradient_checkpointing:
            network.checkpoint_gradients(True)
            stack.callback(network.checkpoint_gradients, False)
        if compile_network:
            kernels.look(device)
            # An attribute of the instance hides the method; taken away afterwards, so nothing compiled is ever saved.
            network.hidden = torch.compile(network.hidden, dynamic=True)  # type: ignore[method-assign]
            stack.callback(delattr, network, "hidden")
        yield


@contextmanager
def keep_memory(device: torch.device) -> Iterator[None]:
    """Inside, memory that is freed on a CPU stays with the process, and what is allocated next takes its place.

    By default the C library gives each large block back to the system, and every page of the next one is faulted in and
    zeroed anew: with a large vocabulary a good part of a step. Known for glibc; elsewhere nothing is changed.
    """
    adjust = None if device.type != "cpu" else getattr(_c_library(), "mallopt", None)
    if adjust is None:
        yield
        return
    trim, top, blocks = -1, -2, -4  # M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX of malloc.h
    for option, value in ((trim, 2**31 - 1), (top, 1 << 26), (blocks, 0)):
        adjust(option, value)
    try:
        yield
    finally:
        for option, value in ((trim, 1 << 17), (top, 1 << 17), (blocks, 1 << 16)):
            adjust(option, value)
        _c_library().malloc_trim(0)


def _c_library() -> Any:
    """The C library of this process, where it is glibc."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning from advertising, and from advice that does not apply here."""
    names = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
    found = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in found]
    for logger in found:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message in (
                ".*does not have many workers.*",
                ".*smaller than the logging interval.*",
                ".*LeafSpec.*",
                "Grad strides do not match bucket view strides.*",  # of a convolution one position high
            ):
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        for logger, level in zip(found, levels, strict=True):
            logger.setLevel(level)
