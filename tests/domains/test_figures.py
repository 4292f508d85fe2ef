"""Bins of histograms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domains.figures import bin_edges


@given(st.integers(2, 300), st.integers(0, 40), st.sampled_from([1.0, 1 / 50, 1 / 37, 0.1]))
def test_bins_hold_as_many_multiples_of_a_step(count: int, first: int, step: float) -> None:
    """Sequences of one length have fractions of it: every bin but the last has as many of them as the first."""
    values = np.arange(first, first + count, dtype=np.float64) * step
    edges = bin_edges(values, 40)
    counts = np.histogram(values, edges)[0]
    assert counts.sum() == count
    assert len(set(counts[:-1].tolist())) <= 1
    assert 0 < counts[-1] <= counts[0]
    assert len(counts) <= 40


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_all_values_are_in_some_bin(values: list[float]) -> None:
    edges = bin_edges(np.array(values), 40)
    assert np.histogram(values, edges)[0].sum() == len(values)
    assert len(edges) <= 41


@pytest.mark.parametrize("values", [[0.3], [2.0, 2.0]])
def test_one_value_has_one_bin(values: list[float]) -> None:
    assert np.histogram(values, bin_edges(np.array(values), 40))[0].tolist() == [len(values)]
