"""Discrete diffusion for any sequence: text, DNA, protein, molecules, tokens."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from discdiff.domain import Domain, Record, domain, domain_names
from discdiff.errors import DiscdiffError, IncompatibleError

__version__ = "0.1.0"

if TYPE_CHECKING:
    from discdiff import constraints, guidance, languages, losses, samplers
    from discdiff.guidance import Temperature
    from discdiff.likelihood import (
        Bound,
        Likelihood,
        any_order_likelihood,
        conditional_likelihood,
        nelbo,
        ordered_likelihood,
    )
    from discdiff.model import Diffusion
    from discdiff.networks import Context, Network
    from discdiff.networks.transformer import Transformer
    from discdiff.parameterizations import Conditional, Denoiser, LeaveOneOut, Parameterization, Score
    from discdiff.particles import Reward
    from discdiff.pipeline import Pipeline
    from discdiff.processes import Absorbing, Hybrid, Marginal, Process, RateMatrix, Uniform
    from discdiff.randomness import Keys
    from discdiff.sampling import sample
    from discdiff.schedules import Cosine, CosineSquared, Geometric, Linear, LogLinear, Polynomial, Schedule
    from discdiff.sequences import Sequences
    from discdiff.training.fit import fit
else:
    # Loaded on first use: torch takes seconds, and `discdiff --help` needs none of it.
    _HOMES = {
        "constraints": (),
        "guidance": ("Temperature",),
        "likelihood": (
            "Bound",
            "Likelihood",
            "any_order_likelihood",
            "conditional_likelihood",
            "nelbo",
            "ordered_likelihood",
        ),
        "languages": (),
        "losses": (),
        "model": ("Diffusion",),
        "networks": ("Context", "Network"),
        "networks.transformer": ("Transformer",),
        "particles": ("Reward",),
        "parameterizations": ("Conditional", "Denoiser", "LeaveOneOut", "Parameterization", "Score"),
        "pipeline": ("Pipeline",),
        "processes": ("Absorbing", "Hybrid", "Marginal", "Process", "RateMatrix", "Uniform"),
        "randomness": ("Keys",),
        "samplers": (),
        "sampling": ("sample",),
        "schedules": ("Cosine", "CosineSquared", "Geometric", "Linear", "LogLinear", "Polynomial", "Schedule"),
        "sequences": ("Sequences",),
        "training": ("fit",),
    }
    _LAZY = {name: home for home, names in _HOMES.items() for name in names}

    def __getattr__(name: str) -> object:
        if name in _LAZY:
            value = getattr(import_module(f"discdiff.{_LAZY[name]}"), name)
        elif name in _HOMES:
            value = import_module(f"discdiff.{name}")
        else:
            raise AttributeError(f"module 'discdiff' has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "Absorbing",
    "Bound",
    "Conditional",
    "Context",
    "Cosine",
    "CosineSquared",
    "Denoiser",
    "Diffusion",
    "DiscdiffError",
    "Domain",
    "Geometric",
    "Hybrid",
    "IncompatibleError",
    "Keys",
    "LeaveOneOut",
    "Likelihood",
    "Linear",
    "LogLinear",
    "Marginal",
    "Network",
    "Parameterization",
    "Pipeline",
    "Polynomial",
    "Process",
    "RateMatrix",
    "Record",
    "Reward",
    "Schedule",
    "Score",
    "Sequences",
    "Temperature",
    "Transformer",
    "Uniform",
    "any_order_likelihood",
    "conditional_likelihood",
    "constraints",
    "domain",
    "domain_names",
    "fit",
    "guidance",
    "languages",
    "losses",
    "nelbo",
    "ordered_likelihood",
    "sample",
    "samplers",
]
