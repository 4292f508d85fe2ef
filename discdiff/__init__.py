"""Discrete diffusion for any sequence: text, DNA, protein, molecules, tokens."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from discdiff import constraints, losses, samplers
from discdiff.domain import Domain, Record, domain, domain_names
from discdiff.errors import DiscdiffError, IncompatibleError
from discdiff.guidance import Temperature
from discdiff.likelihood import Bound, nelbo
from discdiff.model import Diffusion
from discdiff.networks import Context, Network
from discdiff.networks.transformer import Transformer
from discdiff.parameterizations import Conditional, Denoiser, Parameterization, Score
from discdiff.processes import Absorbing, Process, Uniform
from discdiff.randomness import Keys
from discdiff.sampling import sample
from discdiff.schedules import Cosine, Geometric, LogLinear, Schedule
from discdiff.sequences import Sequences

if TYPE_CHECKING:
    from discdiff.pipeline import Pipeline
    from discdiff.training.fit import fit

__version__ = "0.1.0"

# Heavy to import, so loaded on first use.
_LAZY = {"Pipeline": "discdiff.pipeline", "fit": "discdiff.training"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'discdiff' has no attribute {name!r}")


__all__ = [
    "Absorbing",
    "Bound",
    "Conditional",
    "Context",
    "Cosine",
    "Denoiser",
    "Diffusion",
    "DiscdiffError",
    "Domain",
    "Geometric",
    "IncompatibleError",
    "Keys",
    "LogLinear",
    "Network",
    "Parameterization",
    "Pipeline",
    "Process",
    "Record",
    "Schedule",
    "Score",
    "Sequences",
    "Temperature",
    "Transformer",
    "Uniform",
    "constraints",
    "domain",
    "domain_names",
    "fit",
    "losses",
    "nelbo",
    "sample",
    "samplers",
]
