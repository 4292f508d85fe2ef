"""The losses of 50 training steps, to the last digit: what changes a single operation of training shows here.

    python -m tests.golden.trace --write     # anew, after a change that is meant to move them; say why in the commit

Data, weights and settings are formulas, so that no random generator of another version has a say.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback

import discdiff as dd
from discdiff.losses import Loss
from discdiff.training import fit

FOLDER = Path(__file__).parent / "traces"
STEPS, VOCAB = 50, 6


@dataclass(frozen=True)
class Case:
    """What is trained.

    Attributes:
        loss, process, parameterization: of the model.
        settings: of `fit`.
        tolerance: largest relative difference on another machine; on the same one there is none. Between instruction
            sets (SSE 4.2, AVX2, AVX-512) rounding makes 5e-15 in double precision, 5e-8 in single, and 1e-5 with Muon,
            whose iterations are in bf16.
    """

    loss: Callable[[], Loss]
    process: Callable[[int], dd.Process] = dd.Absorbing
    parameterization: Callable[[], dd.Parameterization] = dd.Conditional
    settings: tuple[tuple[str, Any], ...] = (("optimizer", "adamw"), ("precision", "float64"))
    tolerance: float = 1e-12


CASES = {
    "any_order": Case(dd.losses.AnyOrder),
    "score_entropy": Case(dd.losses.ScoreEntropy, dd.Uniform, dd.Score),
    "continuous_elbo": Case(dd.losses.ContinuousELBO, dd.Uniform, dd.Denoiser),
    "any_order_float32": Case(
        dd.losses.AnyOrder, settings=(("optimizer", "adamw"), ("precision", "float32")), tolerance=1e-6
    ),
    "any_order_muon": Case(
        dd.losses.AnyOrder, settings=(("optimizer", "muon"), ("precision", "float32")), tolerance=1e-3
    ),
}


def sequences() -> dd.Sequences:
    """60 rows of 3 to 12 tokens."""
    rows, state = [], 1
    for _ in range(60):
        row: list[int] = []
        for _ in range(3 + state % 10):
            state = (1103515245 * state + 12345) % 2**31
            row.append(row[-1] if row and state % 3 else (state >> 16) % VOCAB)
        rows.append(row)
    return dd.Sequences.from_lists(rows)


class Losses(Callback):
    """Nats a token, of each step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.values.append(float(pl_module.row_nats.double().sum()) / batch.tokens)


def trace(case: Case, **changes: Any) -> list[float]:
    """The losses of a case, with some settings of `fit` changed."""
    process = case.process(VOCAB)
    network = dd.Transformer(process.num_states, dim=16, depth=2, heads=2)
    model = dd.Diffusion(network, process, dd.LogLinear(), case.parameterization()).double()
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            places = torch.arange(parameter.numel(), dtype=torch.float64)
            parameter.copy_((0.3 * torch.sin((1 + i) * (1 + places))).reshape(parameter.shape))
    losses = Losses()
    settings = {"learning_rate": 1e-3} | dict(case.settings) | changes
    if settings["precision"] == "float32":
        model.float()
    fit(
        model, sequences(), loss=case.loss(), max_steps=STEPS, batch_size=8, samples=0, seed=7, device="cpu",
        progress=False, loggers=(), callbacks=[losses], **settings,
    )  # fmt: skip
    return losses.values


def main() -> None:
    """Show how far the losses are from those that are kept, or keep them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace the files")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name, case in CASES.items():
        path, found = FOLDER / f"{name}.json", trace(case)
        if arguments.write:
            path.write_text(json.dumps({"case": name, "losses": found}, indent=1) + "\n", encoding="utf-8")
        kept = json.loads(path.read_text(encoding="utf-8"))["losses"]
        worst = max(abs(a / b - 1) for a, b in zip(found, kept, strict=True))
        print(f"{name}: {found[0]:.4f} to {found[-1]:.4f}, off by {worst:.1e} at most, {case.tolerance:.0e} allowed")


if __name__ == "__main__":
    main()
