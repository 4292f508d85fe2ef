"""Broken profiles: the tests of them must see each."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from discdiff.samplers import mask_fractions, profiling
from discdiff.samplers.profile import Profile
from tests.oracles import test_o13_profiles as profiles


def test_divergence_the_other_way_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """KL of what was said before from what is said now."""
    inner = profiling._divergence
    monkeypatch.setattr(profiling, "_divergence", lambda log_p, log_q: inner(log_q, log_p))
    with pytest.raises(AssertionError):
        profiles.test_curve_of_own_draws(profiles.SIX)


def test_entropies_in_place_of_divergences(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for an exact network, another figure for one that is not consistent."""

    def fall(log_p: Tensor, log_q: Tensor) -> Tensor:
        return torch.special.entr(log_q.exp()).sum(-1) - torch.special.entr(log_p.exp()).sum(-1)

    monkeypatch.setattr(profiling, "_divergence", fall)
    with pytest.raises(AssertionError):
        profiles.test_pairs_need_no_consistency([2, 2])


def test_tokens_of_other_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws that do not depend on what was revealed: the states are not those that the sampler meets."""
    inner = profiling._Course.draw

    def blind(self: profiling._Course, where: Tensor, log_p: Tensor, step: int) -> None:
        inner(self, where, torch.full_like(log_p, -math.log(log_p.shape[-1])), step)

    monkeypatch.setattr(profiling._Course, "draw", blind)
    with pytest.raises(AssertionError):
        profiles.test_curve_of_own_draws(profiles.SIX)


def test_schedules_judged_by_what_chose_them() -> None:
    """The same sequences in both halves: the certificate is too good on average, and that shows."""

    def same(profile: Profile) -> Profile:
        groups = (replace(g, curves=g.curves[::2].repeat_interleave(2, 0)) for g in profile.groups)
        return Profile(tuple(groups), profile.source)

    assert profiles.selection_bias([same(each) for each in profiles.small_profiles()], 2) < -5


def test_a_position_told_of_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times priced with n ~ Bin(L, 1 − m), as if an open position could be among the known ones."""
    inner = mask_fractions.masked_curves

    def of_all(curves: Tensor) -> Tensor:
        return inner(torch.cat([curves, curves[:, -1:]], -1))

    monkeypatch.setattr(mask_fractions, "masked_curves", of_all)
    with pytest.raises(AssertionError):
        profiles.test_cost_of_times("log_linear", 2)
