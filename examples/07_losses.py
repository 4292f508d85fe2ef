"""Each loss on a toy whose truth is known: does it recover the true ratios?

    python examples/07_losses.py

Two positions over three tokens, nine sequences. A small network is trained from samples with one loss after the other,
on one process after the other, and what it says is compared with the true concrete score s_y = p_t(y) / p_t(x), which
is enumerated. The error is the share of the reverse process's jumps that goes wrong,

    E_x Σ_y Q[x,y] |ŝ_y − s_y| / E_x Σ_y Q[x,y] s_y,    x ~ p_t,

over a few times: noised sequences weigh as much as they occur, ratios as much as they are used. 0 is perfect. Knowing
nothing costs 0.2 to 0.3 here, and more than 1 where a posterior must learn first that most tokens are clean (`Denoiser`
off the absorbing process). What is left after training is the noise of batches and of a small network.
"""

import torch
from torch import Tensor, nn

import discdiff as dd
from discdiff.networks.exact import Exact
from discdiff.processes.constructions import banded

TIMES = (0.2, 0.5, 0.8)


class Small(dd.Network):
    """A perceptron over both positions at once, shown e^(−σ)."""

    def __init__(self, num_states: int, length: int, width: int = 64) -> None:
        super().__init__()
        self.num_states, self.length, self.width = num_states, length, width
        self.body = nn.Sequential(
            nn.Linear(num_states * length + 1, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )

    def configure(self, process: dd.Process, parameterization: dd.Parameterization) -> None:
        self.num_outputs = parameterization.num_outputs(process)
        self.out = nn.Linear(self.width, self.num_outputs * self.length)

    def hidden(self, tokens: Tensor, sigma: Tensor | None, context: dd.Context) -> Tensor:
        seen = nn.functional.one_hot(tokens, self.num_states).flatten(1).float()
        level = seen.new_zeros(len(seen), 1) if sigma is None else torch.exp(-sigma[:, :1]).float()
        return self.out(self.body(torch.cat([seen, level], 1))).view(len(tokens), self.length, -1)

    def head(self, hidden: Tensor) -> Tensor:
        return hidden


def error(model: dd.Diffusion, truth: dd.Diffusion, joint: Tensor) -> float:
    """The share of the reverse jump rate that is wrong, over `TIMES`."""
    process, length = model.process, joint.ndim
    states = torch.cartesian_prod(*[torch.arange(process.num_states)] * length)
    rates = process.rates_into(states, dtype=torch.float64).clamp(min=0)
    wrong = total = 0.0
    for t in TIMES:
        sigma = model.schedule.total_noise(torch.full((len(states), 1), t, dtype=torch.float64))
        column = process.transition(torch.arange(process.vocab_size), sigma[:1, 0].expand(process.vocab_size))
        law = torch.einsum("ax,by,ab->xy", column, column, joint).flatten()[:, None, None]  # of noised sequences
        said, true = (m.predict(states, sigma).log_score().double().exp() for m in (model, truth))
        used = law * rates > 0  # elsewhere a score may be undefined
        wrong += float((law * rates * (said - true).abs())[used].sum())
        total += float((law * rates * true)[used].sum())
    return wrong / total


def recover(
    process: dd.Process, parameterization: dd.Parameterization, loss: dd.losses.Loss, steps: int
) -> list[float]:
    """The error before and after training."""
    generator = torch.Generator().manual_seed(0)
    joint = torch.rand(3, 3, generator=generator, dtype=torch.float64) + 0.05
    joint /= joint.sum()
    model = dd.Diffusion(Small(process.num_states, 2), process, dd.LogLinear(), parameterization)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.0, generator=generator)
    truth = dd.Diffusion(Exact(joint, process.num_states), process, dd.LogLinear(), dd.Denoiser())
    with torch.no_grad():
        before = error(model, truth, joint)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        index = torch.multinomial(joint.flatten(), 256, replacement=True, generator=generator)
        batch = dd.Sequences.full(torch.stack([index // 3, index % 3], 1))
        optimizer.zero_grad()
        loss(model, batch, generator=generator).mean().backward()
        optimizer.step()
        decay.step()
    with torch.no_grad():
        return [before, error(model, truth, joint)]


def cases() -> list[tuple[dd.Process, dd.Parameterization, dd.losses.Loss]]:
    """Every loss, every process and every parameterisation."""
    masked, uniform, marginal, hybrid = dd.Absorbing(3), dd.Uniform(3), dd.Marginal(3, counts=[5, 2, 1]), dd.Hybrid(3)
    ordinal = dd.RateMatrix(3, banded(3))  # from a token to its neighbours only
    conditional, denoiser, left_out, score = dd.Conditional(), dd.Denoiser(), dd.LeaveOneOut(), dd.Score()
    return [
        (masked, conditional, dd.losses.AnyOrder()),
        (masked, conditional, dd.losses.MaskFractionCrossEntropy()),
        (masked, conditional, dd.losses.TimeCrossEntropy()),
        (masked, score, dd.losses.ScoreEntropy()),
        (masked, score, dd.losses.ImplicitScoreEntropy()),
        (masked, score, dd.losses.ConcreteScoreMatching()),
        (masked, denoiser, dd.losses.CrossEntropy()),
        (masked, denoiser, dd.losses.GeneralizedKL()),
        (masked, denoiser, dd.losses.D3PM(steps=64)),
        (uniform, score, dd.losses.ScoreEntropy()),
        (uniform, score, dd.losses.ImplicitScoreEntropy()),
        (uniform, score, dd.losses.ConcreteScoreMatching()),
        (uniform, denoiser, dd.losses.CrossEntropy()),
        (uniform, left_out, dd.losses.GeneralizedKL()),
        (uniform, left_out, dd.losses.ContinuousELBO()),
        (uniform, left_out, dd.losses.D3PM(steps=64, auxiliary=0.01)),
        (marginal, left_out, dd.losses.ContinuousELBO()),
        (hybrid, left_out, dd.losses.ContinuousELBO()),
        (ordinal, score, dd.losses.ScoreEntropy()),
        (ordinal, denoiser, dd.losses.CrossEntropy()),
    ]


def main(steps: int = 900) -> dict[str, list[float]]:
    """Prints a line a loss; returns the errors before and after."""
    print(f"{'process':10} {'network says':12} {'loss':44} untrained  trained")
    found = {}
    for process, parameterization, loss in cases():
        name = f"{type(process).__name__:10} {type(parameterization).__name__:12} {loss!r:44}"
        found[name] = recover(process, parameterization, loss, steps)
        print(f"{name} {found[name][0]:9.3f} {found[name][1]:8.3f}")
    return found


if __name__ == "__main__":
    main()
