"""Nothing in a training step reads a number off the device.

On the meta device there is nothing to read: what asks for a number, or for how many places a mask has, fails.
"""

from __future__ import annotations

import pytest
import torch

import discdiff as dd
from discdiff.data import SequenceDataset
from discdiff.data.batches import BatchLoader
from discdiff.losses import AnyOrder
from discdiff.losses.masked import masked_cross_entropy
from discdiff.prediction import positions_of
from discdiff.training.module import TrainingModule
from discdiff.training.optimizers import OptimizerName, make_optimizer
from tests.training.conftest import make_model

ROWS = [[0, 1, 2, 3] * 3, [1] * 5, [2, 3], [3] * 9]


def batch_of_four() -> object:
    dataset = SequenceDataset.from_tokens(dd.Sequences.from_lists(ROWS))
    return next(iter(BatchLoader(dataset, 4, steps=1)))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_step_on_the_meta_device(optimizer: OptimizerName) -> None:
    """Corruption, loss, gradient, clipping, update."""
    model = make_model().to("meta")
    module = TrainingModule(
        model,
        AnyOrder(),
        mean_length=7.0,
        seed=0,
        make_optimizer=lambda *_, **__: None,  # type: ignore[arg-type]
        rate_factor=lambda _: 1.0,
    )
    batch = module.transfer_batch_to_device(batch_of_four(), torch.device("meta"), 0)  # type: ignore[arg-type]
    assert batch.sequences.tokens.device.type == "meta"
    loss = module.training_step(batch, 0)
    loss.backward()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    torch.nn.utils.clip_grad_norm_(weights, 1.0)
    made = make_optimizer(optimizer, model, learning_rate=1e-3, betas=(0.9, 0.98), weight_decay=0.01, fused=False)
    made.step()
    assert all(weight.grad is not None for weight in weights)


def test_reading_fails_there() -> None:
    """The test above can fail."""
    mask = torch.zeros(2, 3, dtype=torch.bool, device="meta")
    with pytest.raises((RuntimeError, NotImplementedError)):
        positions_of(mask)
    with pytest.raises((RuntimeError, NotImplementedError)):
        bool(mask.any())


def test_counted_places_are_those_of_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way that does not wait finds the same places in the same order."""
    mask = torch.rand(5, 7, generator=torch.Generator().manual_seed(0)) < 0.4
    rows, positions = positions_of(mask)

    class Away:
        type = "cuda"

    class Mask(torch.Tensor):
        device = Away()  # type: ignore[assignment]

    there = mask.as_subclass(Mask)
    counted = positions_of(there, int(mask.sum()))
    assert counted[0].tolist() == rows.tolist()
    assert counted[1].tolist() == positions.tolist()


def test_the_count_of_masks_is_right() -> None:
    """What the host counts is what is masked, whatever the lengths, an empty row among them."""
    sequences = dd.Sequences(torch.zeros(5, 12, dtype=torch.int64), torch.tensor([12, 5, 0, 1, 7]))
    seen: list[tuple[int | None, int]] = []
    model = make_model()
    predict = model.predict

    def spy(tokens: torch.Tensor, sigma: torch.Tensor, context: dd.Context | None = None) -> object:
        masked = (tokens == model.process.mask_id) & ~sequences.padding
        seen.append((counts[-1], int(masked.sum())))
        return predict(tokens, sigma, context)

    counts: list[int | None] = []

    real = masked_cross_entropy

    def counted(*args: object, count: int | None = None) -> torch.Tensor:
        counts.append(count)
        return real(*args, count=count)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("discdiff.losses.any_order.masked_cross_entropy", counted)
        patch.setattr(model, "predict", spy)
        for step in range(30):
            AnyOrder()(model, sequences, generator=dd.Keys(step, torch.arange(5)))
    assert len(seen) == 30
    assert all(count == masked for count, masked in seen)
    assert len({masked for _, masked in seen}) > 3
