"""Weights as safetensors: written with names, shapes and dtypes, and read only into the model that they fit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path

import torch
from torch import Tensor, nn

from discdiff.errors import CheckpointError
from discdiff.model import Diffusion

_FLOATS = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64}
_OTHERS = {"BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "I32": torch.int32,
           "I64": torch.int64}  # fmt: skip
_DTYPES = _FLOATS | _OTHERS
Layout = dict[str, tuple[list[int], torch.dtype | str]]


def save_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors of finite or infinite numbers.

    Raises:
        CheckpointError: a weight is NaN.
    """
    from safetensors.torch import save_file

    kept = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    _check_numbers(kept, path)
    save_file(kept, path, metadata={"format": "pt"})


def load_weights(make: Callable[[], Diffusion], path: Path) -> Diffusion:
    """The model that `make` builds, with the weights of a file.

    Building stops where the model grows much larger than the file: a description of a few bytes cannot ask for more
    memory than its weights do.

    Raises:
        CheckpointError: the file cannot be read, its tensors are not the model's in name, shape and dtype, or one has
            a NaN.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    there = layout(path)
    with _no_larger_than(sum(prod(shape) for shape, _ in there.values()), path):
        model = make()
    check_layout(layout_of(model.state_dict()), there, path)
    try:
        weights = load_file(path)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}). Copy it again.") from error
    _check_numbers(weights, path)
    model.load_state_dict(weights, assign=False)
    return model


def layout(path: Path) -> Layout:
    """Shape and dtype of each tensor of a file, from its header.

    Raises:
        CheckpointError: the file is empty, cut short, or no safetensors.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 - it is no dict
            return {
                name: (list(part.get_shape()), _DTYPES.get(part.get_dtype(), str(part.get_dtype())))
                for name, part in slices.items()
            }
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors ({error}). Copy it again.") from error


def layout_of(weights: Mapping[str, object]) -> Layout:
    """Shape and dtype of tensors in memory; what is no tensor has no shape."""
    return {
        name: (list(value.shape), value.dtype) if isinstance(value, Tensor) else ([], type(value).__name__)
        for name, value in weights.items()
    }


def check_layout(here: Layout, there: Layout, path: Path) -> None:
    """Refuse tensors that are not those of a model.

    Args:
        here: the model's.
        there: the file's.
        path: the file, for the message.

    Raises:
        CheckpointError: names are missing or unknown, or shapes or dtypes differ.
    """
    for what, names in (("missing", set(here) - set(there)), ("unknown", set(there) - set(here))):
        if names:
            some = ", ".join(sorted(names)[:4])
            raise CheckpointError(
                f"{path}: weights {what}: {some} ({len(names)} in all). It is the file of another model."
            )
    for name, (shape, dtype) in there.items():
        if shape != here[name][0]:
            raise CheckpointError(f"{path}: {name} has shape {shape}, the model's is {here[name][0]}")
        if dtype != here[name][1]:
            raise CheckpointError(f"{path}: {name} has dtype {dtype}, the model's is {here[name][1]}")


def _check_numbers(weights: Mapping[str, Tensor], path: Path) -> None:
    for name, value in weights.items():
        if value.is_floating_point() and bool(value.isnan().any()):
            raise CheckpointError(
                f"{path}: {name} is not a number (NaN) in places: training diverged. Take an earlier checkpoint."
            )


@contextmanager
def _no_larger_than(elements: int, path: Path) -> Iterator[None]:
    """Stop the construction of a model by this thread once it has several times as many elements as there are."""
    from torch.nn.modules import module

    most, made, here = 4 * elements + 4096, 0, threading.get_ident()  # layers may be registered twice as they are built

    def register(_: nn.Module, name: str, value: Tensor | None) -> None:
        nonlocal made
        if value is None or threading.get_ident() != here:
            return
        made += value.numel()
        if made > most:
            raise CheckpointError(
                f"{path}: holds {elements:,} numbers, fewer than the model has. It is the file of another model."
            )

    handles = [
        module.register_module_parameter_registration_hook(register),
        module.register_module_buffer_registration_hook(register),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


__all__ = ["Layout", "check_layout", "layout", "layout_of", "load_weights", "save_weights"]
