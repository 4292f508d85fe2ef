"""What a job's samples are drawn from, as checksums: the same run gives the same ones wherever it is."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from discdiff.description import describe
from discdiff.errors import ConfigError
from discdiff.manifest import sha256

if TYPE_CHECKING:
    from discdiff.pipeline.pipeline import Pipeline


def identity(pipeline: Pipeline, *, profiled: bool) -> dict[str, Any]:
    """SHA-256 of the weights and of all else that samples depend on; the defaults of sampling as they are.

    Args:
        pipeline: what is drawn from.
        profiled: whether the profile decides on the calls.
    """
    model = pipeline.model
    try:
        described: object = describe(model)
    except ConfigError:  # a network of the user's own, which no run folder could hold either
        described = [type(part).__qualname__ for part in model.modules()]
    profile = pipeline.profile.to_json() if profiled and pipeline.profile is not None else None
    if profile is not None:
        profile.pop("weights", None)  # which run folders write down, and pipelines in memory need not
    return {
        "weights": _of_weights(model),
        "model": _of_json(described),
        "domain": _of_domain(pipeline),
        "lengths": _of_json([pipeline.lengths.to_json(), pipeline.max_length, pipeline.label_names]),
        "defaults": pipeline.defaults.to_json(),
        "profile": None if profile is None else _of_json(profile),
    }


def _of_weights(model: torch.nn.Module) -> str:
    found = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        found.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _of_domain(pipeline: Pipeline) -> str:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pipeline.domain.save_tokenizer(folder)
        files = {path.name: sha256(path) for path in sorted(folder.iterdir())}
    return _of_json([pipeline.domain.to_json(), files])


def _of_json(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


__all__ = ["identity"]
