"""RADD's four losses and its ordered one, and EvoDiff's order-agnostic one: value and gradient on their own masks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from discdiff.losses import AnyOrder, Loss, MaskFractionCrossEntropy, ScoreEntropy, TimeCrossEntropy
from discdiff.model import Diffusion
from discdiff.networks.transformer import Transformer
from discdiff.parameterizations import Conditional, Denoiser
from discdiff.prediction import positions_of
from discdiff.processes.absorbing import Absorbing
from discdiff.schedules import LogLinear
from discdiff.sequences import Sequences
from tests.conftest import GoldenCase
from tests.golden.replay import Given, Golden, Said, close, given, masks_at
from tests.golden.test_networks import network, same_gradients

SCHEDULE = LogLinear(1e-3)
LOSSES: dict[str, Loss] = {
    "t_DSE": ScoreEntropy(),
    "t_DCE": TimeCrossEntropy(),
    "lambda_DCE": MaskFractionCrossEntropy(),
    "k_DCE": AnyOrder(),
}


def radd(case: GoldenCase, dtype: torch.dtype) -> tuple[Diffusion, Transformer, Sequences]:
    process = Absorbing(case.case["meta"]["tokens"])
    net = network(case, process, Conditional(), dtype)
    return Diffusion(net, process, SCHEDULE, Conditional()), net, Sequences.full(case.tensor("x0"))


def draws_of(case: GoldenCase, name: str, process: Absorbing) -> Given:
    masks = (case.tensor("xt") == process.mask_id).sum(-1)
    times = {
        "t_DSE": case.tensor("u"),  # t = t_min + (1 - t_min) u, as theirs
        "t_DCE": case.tensor("u"),
        "lambda_DCE": 1 - case.tensor("lam", torch.float64),
        "k_DCE": (masks - 0.5) / case.data["x0"].shape[1],
    }
    return masks_at(case.tensor("xt"), process, time=times[name])


def as_published(case: GoldenCase, name: str, values: Tensor) -> Tensor:
    """Our losses in their scale.

    An estimator over t in [t_min, 1] multiplies by 1 − t_min; theirs leave that out. Their weight L/k is on the masks
    of the other losses, whose number is not k: ours is then L/(number of masks).
    """
    if name.startswith("t_"):
        return values / (1 - SCHEDULE.t_min)
    return values * (case.tensor("xt") == 20).sum(-1) / case.tensor("k") if name == "k_DCE" else values


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-11), (torch.float32, 1e-6)])
def test_radd_loss(golden: Golden, name: str, dtype: torch.dtype, rtol: float) -> None:
    """t-DCE is compared without the published code's offset Σ_masked log(e^σ − 1), which its paper does not have."""
    case = golden("radd_transformer_losses")
    model, _, sequences = radd(case, dtype)
    with torch.no_grad():
        values = LOSSES[name](model, sequences, generator=draws_of(case, name, Absorbing(20)))
    exact = "loss_t_DCE_without_offset_f64" if name == "t_DCE" else f"loss_{name}_f64"
    close(as_published(case, name, values).double(), case.tensor(exact), rtol=rtol)
    if name != "t_DCE":
        close(as_published(case, name, values).float(), case.tensor(f"loss_{name}").float(), rtol=2e-6)


def test_radd_t_dce_offset(golden: Golden) -> None:
    """The published t-DCE is the paper's plus σ'/(e^σ − 1) log(e^σ − 1) for each mask: equal with that added."""
    case = golden("radd_transformer_losses")
    model, _, sequences = radd(case, torch.float64)
    with torch.no_grad():
        values = LOSSES["t_DCE"](model, sequences, generator=draws_of(case, "t_DCE", Absorbing(20)))
    t, masks = SCHEDULE.t_min + (1 - SCHEDULE.t_min) * case.tensor("u").double(), (case.tensor("xt") == 20).sum(-1)
    odds = torch.expm1(SCHEDULE.total_noise(t))
    offset = SCHEDULE.noise_rate(t) / odds * odds.log() * masks
    theirs = as_published(case, "t_DCE", values) + offset
    close(theirs, case.tensor("loss_t_DCE_f64"), rtol=1e-11)
    close(theirs.float(), case.tensor("loss_t_DCE"), rtol=2e-6)
    assert (offset.abs() / values > 0.01).any()


@pytest.mark.parametrize("name", LOSSES)
def test_radd_gradients(golden: Golden, name: str) -> None:
    """Norms for every parameter; t-DCE's offset is a constant, so its gradient is the published one."""
    case = golden("radd_transformer_losses")
    model, net, sequences = radd(case, torch.float64)
    values = LOSSES[name](model, sequences, generator=draws_of(case, name, Absorbing(20)))
    named = {"grad_output_bias": "output.bias", "grad_norm1_bias": "blocks.0.norm1.bias"}
    same_gradients(
        net, as_published(case, name, values).mean(), case, "_" + name, named if name == "lambda_DCE" else {}
    )


def test_radd_ordered(golden: Golden) -> None:
    """−Σ_i log p(x_{o(i)} | x_{o(<i)}): the conditionals that any-order sampling draws from."""
    case = golden("radd_transformer_losses")
    model, net, sequences = radd(case, torch.float64)
    rank = case.tensor("order").argsort()
    total = torch.zeros(len(sequences), dtype=torch.float64)
    for step in range(len(rank)):
        xt = torch.where(rank >= step, 20, sequences.tokens)
        prediction = model.predict(xt, torch.ones(len(xt), 1, dtype=torch.float64))
        total = total + prediction.nll(sequences.tokens, positions_of((rank == step).expand(xt.shape)))
    close(total, case.tensor("loss_ar_random_f64"), rtol=1e-11)
    close(total.float(), case.tensor("loss_ar_random"), rtol=2e-6)
    same_gradients(net, total.mean(), case, "_ar_random", {})


def evodiff(case: GoldenCase) -> tuple[Diffusion, Sequences, Tensor]:
    """Their alphabet holds the mask amid other signs: here all 31 are content, and the mask comes after."""
    meta = case.case["meta"]
    process = Absorbing(len(meta["alphabet"]))
    xt = torch.where(case.tensor("src") == meta["mask_id"], process.mask_id, case.tensor("src"))
    said = Said(xt, case.tensor("pred", torch.float64), process)
    return (
        Diffusion(said, process, SCHEDULE, Denoiser()),
        Sequences(case.tensor("tgt"), torch.tensor(meta["lens"])),
        xt,
    )


def test_evodiff_order_agnostic_loss(golden: Golden) -> None:
    """k-DCE with padding: weight length / number of masks, a row's own length; they sum over the batch."""
    case = golden("evodiff_oadm_loss")
    model, sequences, xt = evodiff(case)
    masked = model.process.active(xt)
    k = case.tensor("timesteps")
    draws = given(time=(k - 0.5) / sequences.lengths, mask=torch.where(masked, 0.25, 0.75))
    values = AnyOrder()(model, sequences, generator=draws)
    close(values.sum().float(), case.tensor("ce_reweightTrue").squeeze(), rtol=1e-6)
    nll = model.predict(xt, torch.ones(len(xt), 1).double()).nll(sequences.tokens, positions_of(masked))
    close(nll.sum(), case.tensor("nll_reweightTrue"), rtol=1e-7)
    plain = (values * k / sequences.lengths).sum()  # their "reweight=False": without the weight, a bound no longer
    close(plain.float(), case.tensor("ce_reweightFalse").squeeze(), rtol=1e-6)
    close(nll.sum(), case.tensor("nll_reweightFalse"), rtol=1e-7)
