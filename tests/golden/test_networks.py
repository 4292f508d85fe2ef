"""Published transformers with their own weights: SEDD, RADD, MDLM and UDLM, output for output."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from discdiff.model import Diffusion
from discdiff.networks.base import Context
from discdiff.networks.transformer import Transformer
from discdiff.parameterizations import Conditional, Denoiser, Parameterization, Score
from discdiff.prediction import positions_of, sum_rows
from discdiff.processes.absorbing import Absorbing
from discdiff.processes.base import Process
from discdiff.processes.uniform import Uniform
from discdiff.schedules import LogLinear
from tests.conftest import GoldenCase

Golden = Callable[[str], GoldenCase]

# Their names, and ours.
NAMES = {
    r"vocab_embed\.embedding": "tokens.weight",
    r"sigma_map\.mlp\.0": "noise.up",
    r"sigma_map\.mlp\.2": "noise.down",
    r"\.attn_qkv\.": ".qkv.",
    r"\.attn_out\.": ".out.",
    r"\.mlp\.0\.": ".up.",
    r"\.mlp\.2\.": ".down.",
    r"adaLN_modulation": "modulation",
    r"output_layer\.norm_final": "norm",
    r"output_layer\.linear": "output",
    r"output_layer\.": "",
}


def ours(name: str) -> str:
    for pattern, replacement in NAMES.items():
        name = re.sub(pattern, replacement, name)
    return name


def network(case: GoldenCase, process: Process, parameterization: Parameterization, dtype: torch.dtype) -> Transformer:
    """Our network with the case's weights. Denoisers of published codes have a column for the mask; ours do not."""
    meta = case.case["meta"]
    sizes = (process.num_states, meta["hidden"], meta["blocks"], meta["heads"])
    built = Transformer(*sizes, cond_dim=meta.get("cond_dim", 128), kernel=0, gelu="tanh")
    built.configure(process, parameterization)
    weights = {ours(name): value for name, value in case.state_dict().items() if "rotary" not in name}
    for name in ("output.weight", "output.bias"):
        weights[name] = weights[name][: built.num_outputs]
    missing, unexpected = built.load_state_dict(weights, strict=False)
    assert (missing, unexpected) == (["frozen"], [])
    return built.to(dtype).eval()


def logits(net: Transformer, tokens: Tensor, sigma: Tensor | None) -> Tensor:
    return net.head(net.hidden(tokens, None if sigma is None else sigma[:, None], Context()))


def same_gradients(net: Transformer, loss: Tensor, case: GoldenCase, suffix: str, named: dict[str, str]) -> None:
    """Norms of all gradients, and some of them in full, against the reference's float32."""
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in net.named_parameters() if parameter.grad is not None}
    norms = torch.stack([gradients[ours(name)].norm() for name in case.case["meta"]["param_names"]])
    torch.testing.assert_close(norms.float(), case.tensor("grad_norm" + suffix), atol=1e-4, rtol=1e-4)
    for theirs, name in named.items():
        expected = case.tensor(theirs)
        if theirs == "grad_output_bias":  # their column for the mask takes no part in a denoiser's loss
            assert not expected[len(gradients[name]) :].any()
            expected = expected[: len(gradients[name])]
        torch.testing.assert_close(gradients[name].float(), expected, atol=1e-4, rtol=1e-4)


SEDD = [("sedd_transformer_absorb", Absorbing), ("sedd_transformer_uniform", Uniform)]
BIASES = {"grad_output_bias": "output.bias", "grad_adaLN0_bias": "blocks.0.modulation.bias"}
EMBEDDING = {"grad_embedding": "tokens.weight"}


@pytest.mark.parametrize(("name", "kind"), SEDD)
@pytest.mark.parametrize(
    ("dtype", "target", "tol"), [(torch.float32, "log_score", 3e-5), (torch.float64, "log_score_f64", 1e-12)]
)
def test_sedd_log_score(golden: Golden, name: str, kind: type, dtype: torch.dtype, target: str, tol: float) -> None:
    case = golden(name)
    process = kind(case.case["meta"]["tokens"])
    net = network(case, process, Score(), dtype)
    tokens, sigma = case.tensor("indices"), case.tensor("sigma", dtype)[:, None]
    out = net.head(net.hidden(tokens, sigma, Context())) + process.log_score_scale(tokens, sigma.expand(tokens.shape))
    out = out.scatter(-1, tokens[..., None], 0.0)
    torch.testing.assert_close(out, case.tensor(target), atol=tol, rtol=tol)


@pytest.mark.parametrize(("name", "kind"), SEDD)
def test_sedd_loss_and_gradients(golden: Golden, name: str, kind: type) -> None:
    case = golden(name)
    process = kind(case.case["meta"]["tokens"])
    net = network(case, process, Score(), torch.float64)
    t, xt = case.tensor("t", torch.float64)[:, None], case.tensor("indices")
    schedule = LogLinear(1e-3)
    prediction = Diffusion(net, process, schedule, Score()).predict(xt, schedule.total_noise(t))
    where = positions_of(process.active(xt))
    entropy = prediction.score_entropy(case.tensor("x0"), where)
    loss = schedule.noise_rate(t)[:, 0] * sum_rows(entropy, where[0], len(xt))
    torch.testing.assert_close(loss, case.tensor("loss_f64"), atol=1e-10, rtol=1e-12)
    torch.testing.assert_close(loss.float(), case.tensor("loss"), atol=0, rtol=1e-5)
    same_gradients(net, loss.mean(), case, "", BIASES | EMBEDDING)


def test_radd(golden: Golden) -> None:
    case = golden("radd_transformer_losses")
    process, xt = Absorbing(case.case["meta"]["tokens"]), case.tensor("xt")
    for dtype in (torch.float32, torch.float64):
        out = logits(network(case, process, Conditional(), dtype), xt, None)
        torch.testing.assert_close(out.float(), case.tensor("logits")[..., :-1], atol=3e-5, rtol=0)
        torch.testing.assert_close(
            out.log_softmax(-1).float(), case.tensor("log_condition")[..., :-1], atol=3e-5, rtol=0
        )
    torch.testing.assert_close(out.log_softmax(-1), case.tensor("log_condition_f64"), atol=1e-12, rtol=1e-12)


def test_radd_lambda_dce_gradients(golden: Golden) -> None:
    case = golden("radd_transformer_losses")
    process, xt = Absorbing(case.case["meta"]["tokens"]), case.tensor("xt")
    net = network(case, process, Conditional(), torch.float64)
    nll = -logits(net, xt, None).log_softmax(-1).gather(-1, case.tensor("x0")[..., None])[..., 0]
    loss = (nll * (xt == process.mask_id)).sum(-1) / case.tensor("lam")
    torch.testing.assert_close(loss, case.tensor("loss_lambda_DCE_f64"), atol=1e-10, rtol=1e-12)
    named = {"grad_output_bias": "output.bias", "grad_norm1_bias": "blocks.0.norm1.bias"}
    same_gradients(net, loss.mean(), case, "_lambda_DCE", named | EMBEDDING)


def test_mdlm(golden: Golden) -> None:
    case = golden("mdlm_transformer_subs")
    process, xt = Absorbing(case.case["meta"]["tokens"]), case.tensor("xt")
    sigma = case.tensor("sigma")
    torch.testing.assert_close(LogLinear(1e-3).total_noise(case.tensor("t")), sigma, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(LogLinear(1e-3).noise_rate(case.tensor("t")), case.tensor("dsigma"), atol=0, rtol=1e-6)
    for dtype in (torch.float32, torch.float64):
        net = network(case, process, Denoiser(), dtype)
        for shown, target in ((sigma, "logits_sigma"), (0 * sigma, "logits_sigma0")):
            out = logits(net, xt, shown)
            torch.testing.assert_close(out.float(), case.tensor(target)[..., :-1], atol=3e-5, rtol=0)
    masked = xt == process.mask_id
    ours_f64, theirs = out.log_softmax(-1)[masked], case.tensor("subs_f64")[..., :-1][masked]
    torch.testing.assert_close(ours_f64, theirs, atol=1e-12, rtol=1e-12)


def test_mdlm_loss_gradients(golden: Golden) -> None:
    case = golden("mdlm_transformer_subs")
    process, xt = Absorbing(case.case["meta"]["tokens"]), case.tensor("xt")
    net = network(case, process, Denoiser(), torch.float64)
    out = logits(net, xt, torch.zeros(len(xt)))  # "no time conditioning" there is to show σ = 0 always
    nll = -out.log_softmax(-1).gather(-1, case.tensor("x0")[..., None])[..., 0]
    nll = nll * (xt == process.mask_id) / case.tensor("t", torch.float64)[:, None]
    torch.testing.assert_close(nll, case.tensor("nll_f64"), atol=1e-10, rtol=1e-12)
    torch.testing.assert_close(nll.float(), case.tensor("nll"), atol=1e-5, rtol=1e-5)
    content = case.tensor("attention_mask")
    reduced = ((nll * content).sum() / content.sum()).float()
    torch.testing.assert_close(reduced, case.tensor("loss"), atol=0, rtol=1e-5)
    same_gradients(net, (nll * content).sum() / content.sum(), case, "", BIASES)


def test_udlm(golden: Golden) -> None:
    case = golden("udlm_transformer")
    process, xt = Uniform(case.case["meta"]["V"]), case.tensor("xt")
    sigma = LogLinear(1e-3).total_noise(case.tensor("t", torch.float64))
    for dtype in (torch.float32, torch.float64):
        out = logits(network(case, process, Denoiser(), dtype), xt, sigma)
        torch.testing.assert_close(out.log_softmax(-1).float(), case.tensor("log_p"), atol=3e-5, rtol=0)
