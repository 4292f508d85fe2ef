"""A step's batch cut into micro-batches, or made ahead by other threads, trains as the whole batch does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import discdiff as dd
from discdiff.data import BatchLoader, SequenceDataset
from discdiff.data.prefetch import in_order
from discdiff.errors import ConfigError, DataError, TrainingError
from discdiff.training import FitResult
from tests.letters import Letters
from tests.training.conftest import make_model, words
from tests.training.test_fit import assert_same_weights
from tests.training.test_resume import At, ctrl_c
from tests.training.test_safety import Poisoned

Fit = Callable[..., FitResult]
STEPS = 30  # two epochs and a bit of 200 sequences in batches of 15 or 16


def our_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("discdiff-batches")]


# ---- the loader ----------------------------------------------------------------------------------
def parts(train: SequenceDataset, step: int, *, accumulate: int, processes: int) -> list[Any]:
    return [
        BatchLoader(train, 16, steps=STEPS, accumulate=accumulate, rank=rank, processes=processes).batch(step, micro)
        for micro in range(accumulate)
        for rank in range(processes)
    ]


@pytest.mark.parametrize(("accumulate", "processes"), [(2, 1), (5, 1), (1, 2), (3, 2), (1, 7)])
def test_every_row_is_in_one_part_and_keeps_its_slot(train: SequenceDataset, accumulate: int, processes: int) -> None:
    for step in (0, 12, 13):
        whole: Any = BatchLoader(train, 16, steps=STEPS).batch(step)
        shared = parts(train, step, accumulate=accumulate, processes=processes)
        ids = torch.cat([part.sequences.ids for part in shared if part.sequences.ids is not None])
        assert whole.sequences.ids is not None
        assert torch.equal(ids, whole.sequences.ids)
        assert torch.equal(torch.cat([part.strata for part in shared]), whole.strata)
        assert {part.mean_rows for part in shared} == {200 / 13}
        assert [part.part for part in shared] == list(range(accumulate * processes))
        sizes = [len(part.sequences) for part in shared]
        assert max(sizes) - min(sizes) <= 1
        assert sum(part.tokens for part in shared) == whole.tokens


def test_too_many_parts_are_refused(train: SequenceDataset) -> None:
    with pytest.raises(ConfigError, match=r"15 sequences .* cannot be shared by 8 processes and 2 micro-batches"):
        BatchLoader(train, 16, steps=1, accumulate=2, processes=8)
    BatchLoader(train, 16, steps=1, accumulate=15)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_prefetched_batches_are_the_same(train: SequenceDataset, accumulate: int) -> None:
    def loader(workers: int) -> BatchLoader:
        return BatchLoader(train, 16, steps=STEPS, accumulate=accumulate, workers=workers)

    ahead = loader(3)
    for number, (batch, expected) in enumerate(zip(ahead, loader(0), strict=True), 1):
        assert torch.equal(batch.sequences.tokens, expected.sequences.tokens)
        assert torch.equal(batch.strata, expected.strata)
        assert (batch.step, batch.part) == (expected.step, expected.part)
        assert ahead.state_dict()["position"] == number // accumulate, "what is made ahead is not yet passed"
    assert not our_threads()


def test_an_iteration_given_up_ends_its_threads(train: SequenceDataset) -> None:
    batches = iter(BatchLoader(train, 16, steps=STEPS, workers=2))
    next(batches)
    assert our_threads()
    batches.close()  # type: ignore[attr-defined]
    assert not our_threads()


def test_work_is_done_ahead_and_bounded() -> None:
    done: list[int] = []
    gate = threading.Event()

    def items() -> Iterator[int]:
        for i in range(100):
            done.append(i)
            yield i

    results = in_order(lambda i: (gate.wait(), i)[1], items(), 2)
    gate.set()
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert len(done) == 7, "three taken, four ahead"
    results.close()  # type: ignore[attr-defined]


# ---- training ------------------------------------------------------------------------------------
class Tokens(dd.losses.Loss):
    """One nat a token."""

    def __call__(self, model: Any, sequences: dd.Sequences, *, generator: Any) -> torch.Tensor:
        return sequences.lengths.double()


@pytest.mark.parametrize(("n", "batch_size"), [(65, 64), (100, 8), (3, 2)])
def test_an_epoch_weighs_all_tokens_alike(n: int, batch_size: int) -> None:
    """Batches differ by a row, and what is sorted by length fills the smaller ones with the longest."""
    from discdiff.training.module import TrainingModule

    data = SequenceDataset.from_sequences(Letters(), ["abcd"[i % 4] * (1 + i) for i in range(n)])
    module = TrainingModule(
        make_model(), Tokens(), mean_length=float(data.model_lengths.double().mean()), seed=0,
        make_optimizer=lambda *_, **__: None, rate_factor=lambda _: 1.0,  # type: ignore[arg-type]
    )  # fmt: skip
    steps = -(-n // batch_size)
    loader = BatchLoader(data, batch_size, steps=steps)
    objective = sum(float(module.training_step(batch, 0)) for batch in loader) / steps
    assert objective == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_micro_batches_add_up(quick_fit: Fit, train: SequenceDataset, optimizer: str) -> None:
    """Unequal lengths, batches of 15 and 16 in 2 and 4 parts: the weights, the average and the logged loss."""
    options: dict[str, Any] = {"max_steps": 20, "precision": "float64", "optimizer": optimizer, "seed": 3}
    whole = make_model()
    expected = quick_fit(whole, train, **options)
    for accumulate in (2, 3, 4):
        model = make_model()
        result = quick_fit(model, train, accumulate=accumulate, **options)
        assert result.steps == 20
        assert result.loss == pytest.approx(expected.loss, rel=1e-12)
        for ours, theirs in zip(model.parameters(), whole.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_logs_and_bounds_count_steps(quick_fit: Fit, train: SequenceDataset, tmp_path: Path) -> None:
    logs = []
    for accumulate in (1, 3):
        folder = tmp_path / str(accumulate)
        quick_fit(
            make_model(), train, valid=train, validate_sequences=4, validate_every=4, max_steps=9, log_every=2,
            precision="float64", accumulate=accumulate, folder=folder,
        )  # fmt: skip
        lines = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
        columns = [lines[0].index(name) for name in ("step", "epoch", "loss", "learning_rate", "gradient_norm")]
        logs.append([[line[i] for i in (*columns, -3)] for line in lines])
    for one, three in zip(*logs, strict=True):
        assert one[:2] == three[:2]
        if one[0] != "step":
            values = [[float(v) if v else -1.0 for v in line[2:]] for line in (one, three)]
            assert values[0] == pytest.approx(values[1], rel=1e-8)
    assert [line[0] for line in logs[0]] == ["step", "2", "4", "6", "8", "9"]


@pytest.fixture(scope="module")
def uninterrupted(quick_fit: Fit, train: SequenceDataset) -> torch.nn.Module:
    model = make_model(dropout=0.1)
    quick_fit(model, train, max_steps=STEPS, seed=5, accumulate=2)
    return model


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_before_backward"])
@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_among_micro_batches(
    quick_fit: Fit, train: SequenceDataset, tmp_path: Path, uninterrupted: torch.nn.Module, hook: str, workers: int
) -> None:
    """Stopped in the second micro-batch of a step, or right after it, and gone on with: bit for bit."""
    seen = [0]

    def stop() -> None:
        seen[0] += 1
        if hook == "on_train_batch_end" or seen[0] == 2:
            ctrl_c()

    options: dict[str, Any] = {"max_steps": STEPS, "seed": 5, "folder": tmp_path, "accumulate": 2, "workers": workers}
    with pytest.raises(KeyboardInterrupt):
        quick_fit(make_model(dropout=0.1), train, callbacks=[At(14, hook, stop)], **options)
    assert not our_threads()
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 14
    resumed = make_model(dropout=0.1)
    assert quick_fit(resumed, train, resume=True, **options).steps == STEPS
    assert_same_weights(resumed, uninterrupted)
    assert not our_threads()


def test_resumed_with_other_micro_batches(quick_fit: Fit, train: SequenceDataset, tmp_path: Path) -> None:
    """Out of memory after all: the run goes on in smaller pieces."""
    options: dict[str, Any] = {
        "schedule": "constant", "warmup_steps": 0, "precision": "float64", "folder": tmp_path / "run",
    }  # fmt: skip
    whole, cut = make_model(), make_model()
    quick_fit(whole, train, max_steps=17, **options | {"folder": None})
    for steps, accumulate in ((5, 1), (10, 3), (17, 2)):
        cut = make_model()
        result = quick_fit(cut, train, max_steps=steps, accumulate=accumulate, resume=accumulate > 1, **options)
        assert result.steps == steps
    for ours, theirs in zip(cut.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_a_workers_error_reaches_the_user(
    quick_fit: Fit, train: SequenceDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(SequenceDataset):
        def batch(self, indices: Any, *, epoch: int = 0) -> dd.Sequences:
            raise DataError("cannot be read", path="reads.fasta")

    failing = Failing(Letters(), SequenceDataset.from_sequences(Letters(), words(200, 0))._encoded)
    with pytest.raises(DataError, match=r"reads\.fasta: cannot be read"):
        quick_fit(make_model(), failing, max_steps=3, workers=2)
    assert not our_threads()


def test_a_loss_that_is_no_number_in_the_second_micro_batch(quick_fit: Fit, train: SequenceDataset) -> None:
    model = make_model()
    with pytest.raises(TrainingError, match=r"the loss is nan; sequences: record 18\."):
        quick_fit(model, train, loss=Poisoned(17), max_steps=60, accumulate=2, workers=1, ema_decay=None)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_bad_numbers_are_refused(quick_fit: Fit, train: SequenceDataset) -> None:
    with pytest.raises(ConfigError, match="accumulate: got 0"):
        quick_fit(make_model(), train, max_steps=1, accumulate=0)
    with pytest.raises(ConfigError, match="workers: got -1"):
        quick_fit(make_model(), train, max_steps=1, workers=-1)
    with pytest.raises(ConfigError, match="cannot be shared by 16 micro-batches"):
        quick_fit(make_model(), train, max_steps=1, accumulate=16)
