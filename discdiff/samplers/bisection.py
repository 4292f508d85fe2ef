"""Bisection: each call reveals the middles of all gaps."""

from __future__ import annotations

import torch
from torch import Tensor

from discdiff.samplers.base import State, rank_among
from discdiff.samplers.planned import PlannedSampler


class Bisection(PlannedSampler):
    """Call k of m = ceil(log2(n + 1)) reveals the hidden positions whose number, 1 .. n, is an odd multiple of 2^(m−k).

    Between two positions of one call stands one that is known already, so on first-order Markov data they are
    independent given what is known. Elsewhere neighbours are never drawn together, which is where dependence is
    strongest.

    Luxembourg, Permuter and Nachmani 2025, "Plan for Speed: dilated scheduling for masked diffusion language models",
    dilates within blocks of 2^m positions; here the whole row is one, of any length.
    """

    law = "exact on Markov data, in ceil(log2(L + 1)) calls; else an approximation"
    pace = "it takes ceil(log2(L + 1)) calls"

    def turns(self, state: State, hidden: Tensor, steps: int | None) -> Tensor:
        number = rank_among(hidden, torch.arange(hidden.shape[1], device=hidden.device).expand(hidden.shape)) + 1
        # frexp counts the bits of an integer: of n, ceil(log2(n + 1)); of a number's last set bit, 1 + how often 2
        # divides the number.
        calls = torch.frexp(hidden.sum(-1, keepdim=True).double()).exponent
        return (calls - torch.frexp((number & -number).double()).exponent).long()
