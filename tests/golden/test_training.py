"""The first training steps of SEDD, RADD and MDLM: our losses, their batches, times, masks and recipe.

A loss after k steps, and the weights at the end, follow from the gradients of all steps before.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from discdiff.losses import Loss, MaskFractionCrossEntropy, ScoreEntropy, TimeCrossEntropy
from discdiff.model import Diffusion
from discdiff.parameterizations import Conditional, Denoiser, Parameterization, Score
from discdiff.processes.absorbing import Absorbing
from discdiff.schedules import LogLinear
from discdiff.sequences import Sequences
from discdiff.training.schedule import rate_factor
from tests.conftest import GoldenCase
from tests.golden.replay import Golden, Untimed, close, masks_at, points_of
from tests.golden.test_networks import network, ours

SCHEDULE = LogLinear(1e-3)


RUNS: dict[str, tuple[Loss, Parameterization]] = {
    "sedd_train_absorb": (ScoreEntropy(), Score()),
    "radd_train_lambda_DCE": (MaskFractionCrossEntropy(), Conditional()),
    "mdlm_train_subs": (TimeCrossEntropy(), Denoiser()),
}


def batch_loss(name: str, case: GoldenCase, model: Diffusion, process: Absorbing, step: int) -> Tensor:
    """Theirs over t leave out the factor 1 − t_min; all average over rows, MDLM's over tokens too."""
    x0, xt = case.tensor("x0")[step], case.tensor("xt")[step]
    timed = "t" in case.data
    time = points_of(case.tensor("t")[step], SCHEDULE) if timed else 1 - case.tensor("lam")[step].double()
    values = RUNS[name][0](model, Sequences.full(x0), generator=masks_at(xt, process, time=time))
    scale = (1 - SCHEDULE.t_min if timed else 1.0) * (x0.shape[1] if name == "mdlm_train_subs" else 1)
    return values.mean() / scale


@pytest.mark.parametrize("name", RUNS)
def test_training_steps(golden: Golden, name: str) -> None:
    """AdamW's first steps are sign-like: weights are held to 2e-7, the reference's own error, in steps of 3e-4.

    SEDD and RADD start at lr/warm-up, MDLM at 0. The average's decay is min(0.9999, (1 + k)/(10 + k)), k from 1.
    """
    case = golden(name)
    meta, parameterization = case.case["meta"], RUNS[name][1]
    process = Absorbing(meta["tokens"])
    net = network(case, process, parameterization, torch.float64)
    shown = Untimed(net) if name == "mdlm_train_subs" else net
    model = Diffusion(shown, process, SCHEDULE, parameterization)
    weights = {key: value for key, value in net.named_parameters() if value.requires_grad}
    average = {key: value.detach().clone() for key, value in weights.items()}
    optimizer = torch.optim.AdamW(weights.values(), lr=meta["lr"], betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    for step in range(len(case.data["x0"])):
        value = batch_loss(name, case, model, process, step)
        close(value.detach().float(), case.tensor("loss")[step].float(), rtol=1e-6)
        optimizer.zero_grad()
        value.backward()
        norm = torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        if "grad_norm" in case.data:
            close(norm.float(), case.tensor("grad_norm")[step], rtol=2e-6)
        warm = step - 1 if name == "mdlm_train_subs" else step
        rate = meta["lr"] * rate_factor(warm, 0.0, warmup_steps=meta["warmup"], decay="constant")
        if "lr" in case.data:
            close(torch.tensor(rate), case.tensor("lr")[step].float())
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        decay = min(meta["ema"], (2 + step) / (11 + step))
        for key, weight in weights.items():
            average[key].lerp_(weight.detach(), 1 - decay)
    for kind, final in (("param", weights), ("ema", average)):
        for their_name in (key.removeprefix(kind + "/") for key in case.data if key.startswith(kind + "/")):
            expected, found = case.tensor(f"{kind}/{their_name}"), final[ours(their_name)].detach()
            close(found.float(), expected[: len(found)], rtol=0, atol=2e-7)
        norms = dict(zip(meta["param_names"], case.tensor(f"{kind}_norm"), strict=True))
        for their_name, norm in norms.items():
            if not their_name.startswith("output_layer.linear"):  # theirs has a column for the mask
                close(final[ours(their_name)].detach().norm().float(), norm, rtol=1e-6, atol=1e-6)
