"""O19: losses that are equal on paper are equal on one and the same wrong network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from discdiff.schedules import Cosine, LogLinear, Schedule
from tests.cases import LOSSES, PARAMETERIZATIONS, PROCESSES, build
from tests.expectations import call, expected_losses
from tests.scripted import corruption
from tests.toy_networks import Wrong
from tests.toys import DENSE, Array, every_sequence, legendre

X0 = torch.from_numpy(DENSE.sequences[::4])


def quintic(points: int) -> tuple[Array, Array]:
    """Nodes that crowd at 0, by u = v⁵: the losses there are log-singular in the time."""
    v, w = legendre(points)
    return v**5, 5 * v**4 * w


def expectation(name: str, parameterization: str, schedule: Schedule) -> Array:
    case, process = LOSSES[name], PROCESSES["absorbing"]
    model = build("absorbing", parameterization, schedule=schedule, network=Wrong)
    # λ-DCE counts its uniform number from the other end.
    grid = legendre if name == "k_dce" else quintic
    return expected_losses(case.make(), case, process, model, X0, points=60, grid=grid)


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_all_four_agree(parameterization: str) -> None:
    """1e-6 nats a sequence (0.002 a token is asked for), the schedule covering λ from 1e-9 to 1 − 1e-9.

    Networks that are shown the noise, and unnormalised scores, included.
    """
    schedule = LogLinear(eps=1e-9, t_min=1e-9)
    equals = ["t_dce", "lambda_dce", "k_dce", "elbo"]
    if parameterization != "score":  # of a normalised denoiser only
        equals.append("generalized_kl")
    values = {name: expectation(name, parameterization, schedule) for name in ("dse", *equals)}
    for name in equals:
        np.testing.assert_allclose(values[name], values["dse"], atol=1e-6, err_msg=name)
    assert values["dse"].min() > 0


@pytest.mark.parametrize("parameterization", ["conditional", "denoiser"])
def test_schedule_does_not_matter(parameterization: str) -> None:
    """The integral over λ is the same along another schedule, network shown the noise or not."""
    log_linear = expectation("dse", parameterization, LogLinear(eps=1e-9, t_min=1e-9))
    cosine = expectation("dse", parameterization, Cosine(eps=1e-9, t_min=1e-5))
    np.testing.assert_allclose(cosine, log_linear, atol=1e-6)


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_missing_ends_of_the_time_losses(parameterization: str) -> None:
    """At the default ends t-DCE and DSE miss λ < 1e-6 and λ > 0.999: less than λ-DCE by 1e-4 to 0.02 nats a token."""
    short = expectation("t_dce", parameterization, LogLinear())
    whole = expectation("lambda_dce", parameterization, LogLinear())
    missing = (whole - short) / DENSE.length
    assert (missing > 1e-4).all()
    assert (missing < 0.02).all()


@pytest.mark.parametrize("schedule", [LogLinear(), Cosine()], ids=repr)
@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_t_dce_is_dse_sample_by_sample(parameterization: str, schedule: Schedule) -> None:
    """For every xt and time, not only on average: 1e-10 relative."""
    model = build("absorbing", parameterization, schedule=schedule, network=Wrong)
    mask = DENSE.vocab_size
    hidden = torch.from_numpy(every_sequence(2, DENSE.length)).bool()
    x0 = X0[3].expand(len(hidden), -1)
    script = corruption(torch.where(hidden, mask, x0), x0, mask, masked=True)
    for t in (1e-6, 0.1, 0.5, 0.999):
        time = torch.full((len(hidden),), t, dtype=torch.float64)
        values = [call(LOSSES[name].make(), model, x0, time=time, **script) for name in ("dse", "t_dce")]
        np.testing.assert_allclose(values[0], values[1], rtol=1e-10, atol=1e-12)
