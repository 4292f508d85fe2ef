"""O11, learned: trained with given positions, clamps are right off the absorbing process; the naive way is not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import discdiff as dd
from discdiff import losses
from discdiff.errors import IncompatibleError
from discdiff.losses.base import Loss
from discdiff.model import Model
from discdiff.networks import Context, Network
from discdiff.parameterizations import Parameterization
from discdiff.processes import Process
from discdiff.samplers import Ancestral
from discdiff.sequences import Sequences
from tests.cases import build
from tests.laws import clean_part, grid_law
from tests.oracles.test_o11_constraints import Untold
from tests.toys import DENSE, total_variation

GIVEN = {2: 2}


class Small(Network):
    """All positions' tokens, marks and noise through one hidden layer: enough for a toy, and fast."""

    def __init__(self, num_states: int, length: int) -> None:
        super().__init__()
        self.num_states, self.length = num_states, length

    def configure(self, process: Process, parameterization: Parameterization) -> None:
        self.num_outputs = parameterization.num_outputs(process)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.Sequential(
                nn.Linear(self.length * (self.num_states + 1) + 3, 192),
                nn.GELU(),
                nn.Linear(192, 192),
                nn.GELU(),
                nn.Linear(192, self.length * self.num_outputs),
            )

    def hidden(self, tokens: Tensor, sigma: Tensor | None, context: Context) -> Tensor:
        assert sigma is not None
        marks = torch.zeros_like(tokens) if context.frozen is None else context.frozen
        noise = sigma[:, :1].float()
        seen = [
            nn.functional.one_hot(tokens, self.num_states).flatten(1),
            marks,
            torch.cat([noise.clamp(max=4) / 2, torch.exp(-noise), noise.log() / 4], -1),
        ]
        out: Tensor = self.layers(torch.cat([part.float() for part in seen], -1))
        return out.view(*tokens.shape, self.num_outputs)

    def head(self, hidden: Tensor) -> Tensor:
        return hidden


def trained(loss: Loss, steps: int = 1500) -> dd.Diffusion:
    """A small network on the uniform process, trained on the toy."""
    process = dd.Uniform(DENSE.vocab_size)
    network = Small(process.num_states, DENSE.length)
    model = dd.Diffusion(network, process, dd.LogLinear(), dd.LeaveOneOut())
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
    table, generator = torch.from_numpy(DENSE.sequences), torch.Generator().manual_seed(0)
    law = torch.from_numpy(DENSE.probabilities)
    for _ in range(steps):
        rows = torch.multinomial(law, 512, replacement=True, generator=generator)
        values = loss(model, Sequences.full(table[rows]), generator=generator)
        optimizer.zero_grad()
        values.mean().backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@pytest.mark.parametrize("loss", [losses.Given(losses.ScoreEntropy()), losses.ScoreEntropy()], ids=repr)
def test_a_transformer_learns_the_mark(loss: Loss) -> None:
    """A few steps: the mark of given positions leaves zero, and the model says that clamps are exact."""
    process = dd.Uniform(3)
    model = dd.Diffusion(dd.Transformer(3, dim=16, depth=1, heads=2, kernel=3), process, dd.LogLinear(), dd.Denoiser())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        optimizer.zero_grad()
        loss(model, Sequences.full(torch.tensor([[0, 1, 2]] * 16)), generator=generator).mean().backward()
        optimizer.step()
    assert model.exact_clamps == isinstance(loss, losses.Given)


@torch.no_grad()
def clamped_error(model: Model) -> float:
    """TV of the enumerated law of 64 ancestral steps under a clamp from p0(· | x_C)."""
    law = clean_part(grid_law(model, Ancestral(), 64, 3, given=GIVEN), DENSE, model.process.num_states)
    return total_variation(law, DENSE.given(GIVEN))


def test_clamps_are_learned() -> None:
    """Told what is given, the trained network is clamped right up to its own error; the same one not told is not."""
    model = trained(losses.Given(losses.CrossEntropy()))
    told, untold = clamped_error(model), clamped_error(Untold(model))
    assert told < 0.08
    assert untold > told + 0.08


def test_only_what_is_left_is_scored() -> None:
    """Given everything but one token, the loss is that token's own, and no gradient comes from the others."""
    model = build("uniform", "denoiser")
    rows = Sequences.full(torch.tensor([[0, 1, 2], [2, 1, 0]]))
    known = torch.tensor([[True, False, True], [True, True, True]])
    given = Sequences(rows.tokens, rows.lengths, given=known)
    keys = dd.Keys(3, torch.arange(2))
    values = losses.ScoreEntropy()(model, given, generator=keys)
    assert float(values[0].detach()) > 0
    assert float(values[1].detach()) == 0


def test_how_many_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """A share of rows; in those every number from none to all alike: 40,000 rows see 1 %."""
    seen: list[torch.Tensor] = []

    class Watch(losses.ScoreEntropy):
        def __call__(self, model: object, sequences: Sequences, *, generator: object) -> torch.Tensor:
            assert sequences.given is not None
            seen.append(sequences.given)
            return torch.zeros(len(sequences))

    rows = Sequences(torch.zeros(40_000, 5, dtype=torch.int64), torch.full((40_000,), 4))
    losses.Given(Watch(), share=0.6)(build("uniform", "denoiser"), rows, generator=torch.Generator().manual_seed(0))
    counts = torch.bincount(seen[0].sum(-1), minlength=6) / 40_000
    # f uniform: the number of given ones of 4 is uniform on 0 .. 4
    torch.testing.assert_close(counts, torch.tensor([0.4 + 0.12, 0.12, 0.12, 0.12, 0.12, 0.0]), atol=0.01, rtol=0)
    assert not seen[0][:, 4].any()  # padding is never given


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_refusals(share: float) -> None:
    with pytest.raises(IncompatibleError, match="share"):
        losses.Given(losses.ScoreEntropy(), share)
    with pytest.raises(IncompatibleError, match="clamps are exact on this process"):
        losses.Given(losses.AnyOrder()).check(build("absorbing", "conditional"))
