"""Constraints on the clean sequence: they hold with probability one in every sampler."""

from discdiff.constraints.allowed import Allowed
from discdiff.constraints.automaton import Automaton
from discdiff.constraints.base import Constraint, PositionWise, Unconstrained
from discdiff.constraints.both import Both
from discdiff.constraints.checked import Checked
from discdiff.constraints.clamp import Clamp
from discdiff.constraints.truncated import Truncated

__all__ = [
    "Allowed",
    "Automaton",
    "Both",
    "Checked",
    "Clamp",
    "Constraint",
    "PositionWise",
    "Truncated",
    "Unconstrained",
]
