"""How fast does each sampler near the true law? Total variation against network calls, on a toy whose law is known.

    python examples/08_convergence.py [convergence.png]

Four positions over two tokens, nearly independent, with the exact network: whatever is wrong comes from the sampler.
Samplers that move each position by a kernel of its own have their law enumerated, state by state. The others are drawn
from, and the dashed line is what as many draws from the true law would show: below it nothing can be told.

A step is counted as its network calls, those included that `sample` skips because nothing is revealed.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import discdiff as dd
from discdiff import samplers
from discdiff.errors import require
from discdiff.networks.exact import Exact
from discdiff.prediction import positions_of
from discdiff.samplers.trapezoidal import TwoLeaps

VOCAB, LENGTH = 2, 4
GRID = (1, 2, 4, 8, 16, 32, 64, 128)
Drawn = tuple[str, samplers.Sampler, Sequence[int | None], int]


@dataclass
class Curve:
    """Total variation from the truth by network calls; `slope` is −d log TV / d log calls where it can be told."""

    calls: list[float]
    tv: list[float]
    enumerated: bool
    slope: float = math.nan


def toy() -> Tensor:
    """p0, `[V] * L`: independent tokens, each sequence then up to 20% more or less likely."""
    generator = torch.Generator().manual_seed(3)
    p = torch.rand(LENGTH, VOCAB, generator=generator, dtype=torch.float64) + 0.5
    joint = torch.einsum("a,b,c,d->abcd", *p)
    joint = joint * (0.8 + 0.4 * torch.rand(joint.shape, generator=generator, dtype=torch.float64))
    return joint / joint.sum()


def every_state(model: dd.Diffusion) -> Tensor:
    """int64 `[S^L, L]`."""
    return torch.cartesian_prod(*[torch.arange(model.process.num_states)] * LENGTH)


# ---- laws, enumerated ------------------------------------------------------------------------------------------------
def joint_of(kernel: Tensor) -> Tensor:
    """The law of positions that move independently, `[N, S^L]`, from `[N, L, S]`."""
    joint = kernel[:, 0]
    for i in range(1, LENGTH):
        joint = (joint[:, :, None] * kernel[:, None, i]).flatten(1)
    return joint


def transition(model: dd.Diffusion, sampler: samplers.GridSampler, level: samplers.Level) -> Tensor:
    """p(next state | state) of one step, `[S^L, S^L]`."""
    states = every_state(model)
    if isinstance(level, TwoLeaps):
        return two_leaps(model, sampler, level)
    sigma, sigma_next = (torch.full((len(states), 1), v, dtype=torch.float64) for v in (level.sigma, level.sigma_next))
    return joint_of(sampler.kernel(model.predict(states, sigma), level, sigma_next, None))


def two_leaps(model: dd.Diffusion, sampler: samplers.GridSampler, level: TwoLeaps) -> Tensor:
    """The same for a step of two network calls: the sum over every state in the middle."""
    first, states = transition(model, sampler, level.first), every_state(model)
    start, middle = first.nonzero(as_tuple=True)
    now, then = (
        model.predict(states[index], torch.full((len(index), 1), at.sigma, dtype=torch.float64))
        for index, at in ((start, level.first), (middle, level.second))
    )
    if isinstance(sampler, samplers.Trapezoidal):
        kernel = sampler.combine(now, then).posterior(torch.tensor(level.sigma_next, dtype=torch.float64))
    else:
        assert isinstance(sampler, samplers.RungeKutta2)
        everywhere = positions_of(torch.ones_like(now.tokens, dtype=torch.bool))
        kernel = sampler.second_kernel(now, then, level, everywhere).view(len(start), LENGTH, -1)
    return torch.zeros_like(first).index_add(0, start, first[start, middle][:, None] * joint_of(kernel))


def law_of(model: dd.Diffusion, sampler: samplers.GridSampler, steps: int, joint: Tensor) -> Tensor:
    """The law of what `sampler` returns in so many calls, `[V^L]`; it starts from p_1, so that only its steps err."""
    process, states = model.process, every_state(model)
    high = torch.full((VOCAB,), model.schedule.ends()[1], dtype=torch.float64)
    column = process.transition(torch.arange(VOCAB), high)
    law = torch.einsum("abcd,aw,bx,cy,dz->wxyz", joint, *[column] * LENGTH).flatten()
    for level in sampler.levels(model.schedule, steps):
        law = law @ transition(model, sampler, level)
    return law[(states < VOCAB).all(-1)]


# ---- laws, drawn from ------------------------------------------------------------------------------------------------
def drawn(model: dd.Diffusion, sampler: samplers.Sampler, steps: int | None, draws: int) -> tuple[Tensor, float]:
    """Frequencies of all sequences `[V^L]` among so many draws, and the mean number of network calls."""
    generator = torch.Generator().manual_seed(0)
    done = dd.sample(model, draws, length=LENGTH, sampler=sampler, steps=steps, generator=generator)
    index = (done.tokens * VOCAB ** torch.arange(LENGTH - 1, -1, -1)).sum(-1)
    assert done.calls is not None
    return torch.bincount(index, minlength=VOCAB**LENGTH) / draws, float(done.calls.double().mean())


def floor(joint: Tensor, draws: int) -> float:
    """The mean total variation of so many draws from the law itself."""
    return float((joint * (1 - joint) * 2 / (math.pi * draws)).sqrt().sum() / 2)


# ---- all samplers ----------------------------------------------------------------------------------------------------
def enumerated_samplers(process: dd.Process) -> list[samplers.GridSampler]:
    """Those with a kernel for each position."""
    every = [samplers.Ancestral(), samplers.Euler(), samplers.TauLeaping(), samplers.RungeKutta2()]
    return [*every, samplers.Trapezoidal(), *([samplers.Remasking()] if process.reveals_noise else [])]


def drawn_samplers(process: dd.Process, grid: Sequence[int]) -> list[Drawn]:
    """The others: (name, sampler, steps to ask for, calls of a step; 0 where calls are counted)."""
    gibbs, forward_backward = (
        samplers.PredictorCorrector(samplers.Ancestral(), corrector, sweeps=1, final_sweeps=0)
        for corrector in (samplers.Gibbs(), samplers.ForwardBackward())
    )
    few = [n for n in grid if n <= 16]
    every: list[Drawn] = [
        ("Ancestral + Gibbs", gibbs, few, 1 + LENGTH),
        ("Ancestral + ForwardBackward", forward_backward, few, 2),
        ("Uniformization", samplers.Uniformization(), [None], 0),
    ]
    if not process.reveals_noise:
        return every
    by_call = range(1, LENGTH + 1)
    bounded: list[Drawn] = [("EntropyBounded", samplers.EntropyBounded(g), [None], 0) for g in (3.0, 1.5, 0.0)]
    return [
        *every,
        ("FirstHitting", samplers.FirstHitting(), [None], 0),
        ("Ordered", samplers.Ordered(), [None], 0),
        ("AnyOrder", samplers.AnyOrder(), by_call, 0),
        ("Confidence", samplers.Confidence(), by_call, 0),
        ("Bisection", samplers.Bisection(), [None], 0),
        *bounded,
        ("Argmax", samplers.Argmax(), by_call, 0),
    ]


def curves(process: dd.Process, joint: Tensor, draws: int, grid: Sequence[int]) -> dict[str, Curve]:
    """A curve for each sampler of a process."""
    model = dd.Diffusion(Exact(joint, process.num_states), process, dd.LogLinear(), dd.Denoiser())
    truth, found = joint.flatten(), dict[str, Curve]()

    def add(name: str, calls: float, law: Tensor, *, enumerated: bool) -> None:
        curve = found.setdefault(name, Curve([], [], enumerated))
        curve.calls.append(calls)
        curve.tv.append(float((law - truth).abs().sum() / 2))

    for kernel in enumerated_samplers(process):
        for n in grid:
            calls = sum(2 if isinstance(level, TwoLeaps) else 1 for level in kernel.levels(model.schedule, n))
            add(type(kernel).__name__, calls, law_of(model, kernel, n, joint), enumerated=True)
    for name, sampler, steps, cost in drawn_samplers(process, grid):
        for count in steps:
            law, calls_made = drawn(model, sampler, count, draws)
            add(name, cost * count if cost and count else calls_made, law, enumerated=False)
    for curve in found.values():
        curve.slope = slope(curve, 0.0 if curve.enumerated else 3 * floor(truth, draws))
    return found


def slope(curve: Curve, visible: float) -> float:
    """By least squares over the last three points of 7 calls or more that stand above `visible`; NaN if fewer do."""
    points = [(c, d) for c, d in zip(curve.calls, curve.tv, strict=True) if c >= 7 and d > visible][-3:]
    if len(points) < 3:
        return math.nan
    calls, tv = np.log(np.array(points)).T
    return float(-np.polyfit(calls, tv, 1)[0])


def picture(path: Path, found: dict[str, dict[str, Curve]], noise: float) -> None:
    """One log-log panel a process: lines are enumerated laws, dots drawn ones."""
    drawing = require("matplotlib.figure").Figure(figsize=(11, 4.6), layout="constrained")
    names = list(dict.fromkeys(name for panel in found.values() for name in panel))
    colors = require("matplotlib").colormaps["tab20"].colors  # pairs: dark, light
    handles = {}
    for axes, (title, panel) in zip(drawing.subplots(1, len(found), sharey=True), found.items(), strict=True):
        axes.spines[["top", "right"]].set_visible(False)
        for name, curve in panel.items():
            number = names.index(name)
            dots = {"marker": "osv^D*PX<>"[number % 10], "ms": 5, "lw": 0.6}
            style = {"ls": ("-", "--")[number % 2], "lw": 1.8} if curve.enumerated else dots
            handles[name] = axes.loglog(curve.calls, curve.tv, color=colors[number % len(colors)], **style)[0]
        axes.axhline(noise, color="gray", ls="--", lw=1)
        axes.text(0.01, noise * 0.9, "Monte Carlo noise", ha="left", va="top", color="gray",
                  fontsize=8, transform=axes.get_yaxis_transform())  # fmt: skip
        axes.set(title=title, xlabel="network calls")
    drawing.axes[0].set_ylabel("total variation from p0")
    drawing.legend(handles.values(), handles, loc="outside right center", frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing.savefig(path, dpi=100)


def main(path: Path | None = None, draws: int = 100_000, grid: Sequence[int] = GRID) -> dict[str, dict[str, Curve]]:
    """Prints every curve and its slope, draws them to `path` if there is one; returns them by process and sampler."""
    joint = toy()
    noise = floor(joint, draws)
    found = {type(p).__name__: curves(p, joint, draws, grid) for p in (dd.Absorbing(VOCAB), dd.Uniform(VOCAB))}
    for process, panel in found.items():
        print(f"\n{process}: total variation from p0 by network calls (* drawn from; noise {noise:.4f})")
        for name, curve in panel.items():
            points = "  ".join(f"{c:.3g}:{d:.1e}" for c, d in zip(curve.calls, curve.tv, strict=True))
            order = "" if math.isnan(curve.slope) else f"slope {curve.slope:.2f}"
            print(f"{name + ('' if curve.enumerated else '*'):30} {order:11} {points}")
    if path is not None:
        picture(path, found, noise)
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "convergence.png"))
