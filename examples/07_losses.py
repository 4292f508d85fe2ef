"""Each loss on a toy whose truth is known: does it recover the true ratios?

    python examples/07_losses.py

Two positions over three tokens, nine sequences. A small network is trained from samples with one loss after the other,
and what it says is compared with the true concrete score p_t(y) / p_t(x), enumerated: the mean of |log ŝ − log s| over
noised sequences as they occur, before and after training; 0 is perfect.
"""

import torch
from torch import Tensor, nn

import discdiff as dd
from discdiff.networks.exact import Exact

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
    """Mean of |log ŝ − log s| over noised sequences and the ratios that the reverse process uses."""
    process, length = model.process, joint.ndim
    states = torch.cartesian_prod(*[torch.arange(process.num_states)] * length)
    total = weight = 0.0
    for t in TIMES:
        sigma = model.schedule.total_noise(torch.full((len(states), 1), t, dtype=torch.float64))
        column = process.transition(torch.arange(process.vocab_size), sigma[:1, 0].expand(process.vocab_size))
        law = torch.einsum("ax,by,ab->xy", column, column, joint).flatten()  # of noised sequences
        said, true = (m.predict(states, sigma).log_score() for m in (model, truth))
        used = (process.rates_into(states, dtype=torch.float64) > 0) & true.isfinite() & (law > 0)[:, None, None]
        gap = (said.double() - true).abs().where(used, 0.0).sum((1, 2))
        total += float((law * gap).sum())
        weight += float((law * used.sum((1, 2))).sum())
    return total / weight


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


def main(steps: int = 1500) -> dict[str, list[float]]:
    """Prints a line a loss; returns the errors before and after."""
    absorbing, uniform = dd.Absorbing(3), dd.Uniform(3)
    cases = [
        (absorbing, dd.Conditional(), dd.losses.AnyOrder()),
        (absorbing, dd.Conditional(), dd.losses.MaskFractionCrossEntropy()),
        (absorbing, dd.Conditional(), dd.losses.TimeCrossEntropy()),
        (absorbing, dd.Score(), dd.losses.ScoreEntropy()),
        (uniform, dd.Score(), dd.losses.ScoreEntropy()),
        (uniform, dd.Denoiser(), dd.losses.ScoreEntropy()),
    ]
    found = {}
    for process, parameterization, loss in cases:
        name = f"{type(process).__name__:10} {type(parameterization).__name__:12} {type(loss).__name__}"
        found[name] = recover(process, parameterization, loss, steps)
        print(f"{name:52} untrained {found[name][0]:.3f}   trained {found[name][1]:.3f}")
    return found


if __name__ == "__main__":
    main()
