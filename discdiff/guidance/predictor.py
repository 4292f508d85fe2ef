"""A classifier of noised sequences, and its training."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discdiff.errors import CheckpointError, DiscdiffError, IncompatibleError
from discdiff.guidance.classifier import LogLikelihood
from discdiff.model import Model
from discdiff.networks.base import Context
from discdiff.randomness import uniform
from discdiff.sequences import Sequences


class Predictor(nn.Module):
    """log p(class | xt) from one-hot states: gated convolutions that see ever farther, told the noise, then a mean.

    Args:
        num_states: S of the process.
        num_classes: what it tells apart.
        dim: width.
        depth: layers; layer k sees 2^k positions to either side.
        seed: of the initialisation; the global random state is neither read nor advanced.

    Raises:
        IncompatibleError: a size below 1, or fewer than two classes.
    """

    def __init__(self, num_states: int, num_classes: int, *, dim: int = 64, depth: int = 5, seed: int = 0) -> None:
        super().__init__()
        if min(num_states, dim, depth) < 1 or num_classes < 2:
            raise IncompatibleError(
                "Predictor",
                got=f"num_states={num_states}, num_classes={num_classes}, dim={dim}, depth={depth}",
                expected="positive sizes and at least two classes",
                remedy="The defaults suit sequences of a hundred tokens.",
            )
        self.num_states, self.num_classes = num_states, num_classes
        self._sizes = {"num_states": num_states, "num_classes": num_classes, "dim": dim, "depth": depth, "seed": seed}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embedding = nn.Linear(num_states, dim, bias=False)
            self.noise = nn.Linear(2, dim)
            self.layers = nn.ModuleList(nn.Conv1d(dim, 2 * dim, 3, dilation=2**k, padding=2**k) for k in range(depth))
            self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(depth + 1))
            self.head = nn.Linear(2 * dim, num_classes)

    def forward(self, states: Tensor, sigma: Tensor, padding: Tensor | None = None) -> Tensor:
        """log p(class | xt), `[B, C]`.

        Args:
            states: one-hot, float `[B, L, S]`.
            sigma: total noise, `[B, 1]` or `[B, L]`.
            padding: bool `[B, L]`, positions that do not count.
        """
        asked, states = states.dtype, states.to(self.head.weight.dtype)
        kept = torch.ones_like(states[..., :1]) if padding is None else (~padding)[..., None].to(states.dtype)
        level = torch.stack([torch.exp(-sigma), torch.log1p(sigma)], -1).to(states.dtype)
        h = (self.embedding(states) + self.noise(level)) * kept
        for layer, norm in zip(self.layers, self.norms[:-1], strict=True):
            value, gate = layer((norm(h) * kept).transpose(1, 2)).transpose(1, 2).chunk(2, -1)
            h = (h + value * torch.sigmoid(gate)) * kept
        h = self.norms[-1](h) * kept
        mean = h.sum(1) / kept.sum(1)
        most = h.masked_fill(kept == 0, -torch.inf).amax(1)
        found: Tensor = self.head(torch.cat([mean, most], -1))
        return found.log_softmax(-1).to(asked)

    def of(self, label: int | Tensor) -> LogLikelihood:
        """log p(label | xt) for guidance.

        Args:
                label: one class for all rows, or −1 for each row's own label (`Context.labels`).
        """
        if isinstance(label, int) and not -1 <= label < self.num_classes:
            raise IncompatibleError(
                "Predictor label", got=label, expected=f"0 to {self.num_classes - 1}", remedy="-1 takes each row's own."
            )

        def log_likelihood(states: Tensor, sigma: Tensor, context: Context) -> Tensor:
            wanted = torch.as_tensor(label, device=states.device).expand(len(states))
            if context.labels is not None:
                wanted = torch.where(wanted < 0, context.labels, wanted)
            if bool((wanted < 0).any()):
                raise IncompatibleError(
                    "Predictor", got="rows without a label", expected="a class", remedy="Name one: predictor.of(2)."
                )
            log_p: Tensor = self(states, sigma, context.padding)
            return log_p.gather(1, wanted[:, None])[:, 0]

        return log_likelihood

    def save(self, path: str | Path) -> None:
        """Write weights and sizes to one file; what was there before is replaced once all is written."""
        from safetensors.torch import save_file

        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        sizes = {"predictor": json.dumps(self._sizes)}
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".saving-") as folder:
            fresh = Path(folder) / path.name
            save_file({k: v.detach().cpu().contiguous() for k, v in self.state_dict().items()}, fresh, metadata=sizes)
            fresh.replace(path)

    @classmethod
    def load(cls, path: str | Path) -> Predictor:
        """Read what `save` wrote; no code is run.

        Raises:
            CheckpointError: no such file, or not one of a predictor.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as stream:
                made = cls(**json.loads((stream.metadata() or {})["predictor"]))
                made.load_state_dict({name: stream.get_tensor(name) for name in stream.keys()})  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError, DiscdiffError) as error:
            raise CheckpointError(f"{path}: cannot be read as a predictor ({error})") from error
        return made.eval()


def fit_predictor(
    predictor: Predictor,
    model: Model,
    sequences: Sequences,
    *,
    generator: torch.Generator,
    steps: int = 2000,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    on_step: Callable[[int, int, float], None] | None = None,
) -> list[float]:
    """Train on noised sequences: cross-entropy of each one's label at a noise drawn uniformly over the model's time.

    Args:
        predictor: trained in place, and left in evaluation mode.
        model: whose process and schedule are taken; its network is not used.
        sequences: clean, with labels; rows labelled −1 are left out.
        generator: of batches and noise.
        steps: updates.
        batch_size: rows of each.
        learning_rate: of AdamW, falling to 0 along a cosine.
        on_step: called with (step from 1, steps, loss).

    Returns:
        The loss of each step, in nats.

    Raises:
        IncompatibleError: no labels, labels out of range, or a predictor of another process.
    """
    labels = sequences.labels
    if labels is None or not bool((labels >= 0).any()) or int(labels.max()) >= predictor.num_classes:
        raise IncompatibleError(
            "fit_predictor",
            got="no labels" if labels is None else f"labels up to {int(labels.max())}",
            expected=f"labels 0 to {predictor.num_classes - 1}",
            remedy="Name the column of classes when the data set is read.",
        )
    if predictor.num_states != model.process.num_states:
        raise IncompatibleError(
            "fit_predictor",
            got=f"num_states={predictor.num_states}",
            expected=model.process.num_states,
            remedy="Build it as Predictor(model.process.num_states, ...).",
        )
    known = sequences[(labels >= 0).nonzero()[:, 0]]
    optimizer = torch.optim.AdamW(predictor.parameters(), lr=learning_rate)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    predictor.train()
    losses = []
    for step in range(1, steps + 1):
        loss = _loss(predictor, model, known, batch_size, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
        losses.append(float(loss.detach()))
        if on_step is not None:
            on_step(step, steps, losses[-1])
    predictor.eval()
    return losses


def _loss(predictor: Predictor, model: Model, known: Sequences, batch_size: int, generator: torch.Generator) -> Tensor:
    u = uniform((batch_size, 2), generator=generator, purpose="batch", dtype=torch.float64)
    rows = (u[:, 0] * len(known)).long()
    batch, t = known[rows.to(known.device)], u[:, 1:].to(known.device)
    sigma = model.schedule.total_noise(t).to(torch.float32)
    width = batch.tokens.shape[1]
    padding = torch.arange(width, device=t.device) >= batch.lengths[:, None]
    noised = model.process.corrupt(batch.tokens, sigma.expand(-1, width), generator=generator)
    states = F.one_hot(noised, predictor.num_states).float()
    assert batch.labels is not None
    return F.nll_loss(predictor(states, sigma, padding), batch.labels)


__all__ = ["Predictor", "fit_predictor"]
