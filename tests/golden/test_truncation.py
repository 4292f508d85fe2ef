"""RADD's top-p and top-k filters. Both definitions of the nucleus keep the token that crosses p, and agree."""

from __future__ import annotations

import numpy as np
import pytest

from discdiff.constraints.truncated import truncate
from tests.golden.replay import Golden, close

# Their filter is applied to all states, the mask among them, which it may then draw; ours sees content tokens alone.


@pytest.mark.parametrize("top_p", [0.3, 0.8, 0.9, 0.99])
def test_nucleus(golden: Golden, top_p: float) -> None:
    """The same tokens kept, and the same probabilities to float32."""
    case = golden("radd_topp_topk")
    ours = truncate(case.tensor("logits").double().log_softmax(-1), top_p=top_p).exp()
    theirs = case.tensor(f"top_p_{top_p}")
    np.testing.assert_array_equal(ours > 0, theirs > 0)
    close(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("top_k", [1, 3, 8])
def test_most_likely(golden: Golden, top_k: int) -> None:
    case = golden("radd_topp_topk")
    ours = truncate(case.tensor("logits").double().log_softmax(-1), top_k=top_k).exp()
    close(ours, case.tensor(f"top_k_{top_k}"), rtol=1e-6, atol=1e-7)
