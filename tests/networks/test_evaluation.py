"""Readings: rows and positions are worked out once; a memory knows rows token for token, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

import discdiff as dd
from discdiff.errors import IncompatibleError
from discdiff.networks import Context
from discdiff.networks import evaluation as module
from discdiff.networks.evaluation import Evaluation, Memory, Readings, precision_of
from discdiff.prediction import positions_of
from discdiff.samplers import Ancestral, Confidence, Euler, PredictorCorrector, Remasking, Sampler
from tests.cases import build
from tests.test_prediction import Watched
from tests.toy_networks import Wrong

L = 12


@pytest.fixture(autouse=True)
def _sampling() -> Iterator[None]:
    with torch.no_grad():
        yield


def watched() -> tuple[dd.Diffusion, Watched]:
    process = dd.Absorbing(9)
    network = Watched(dd.Transformer(process.num_states, dim=16, depth=2, heads=2))
    model = dd.Diffusion(network, process, dd.LogLinear(), dd.Conditional()).double().eval()
    draw = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
    return model, network


def rows_asked(network: Watched) -> list[int]:
    return [len(tokens) for tokens, _, _ in network.asked]


def states(rows: int, seed: int = 1) -> Tensor:
    return torch.randint(10, (rows, L), generator=torch.Generator().manual_seed(seed))


EVERYWHERE = positions_of(torch.ones(6, L, dtype=torch.bool))


def read(network: Watched, tokens: Tensor, memory: Memory | None, context: Context | None = None) -> Tensor:
    every = positions_of(torch.ones(tokens.shape, dtype=torch.bool))
    return Readings(network, tokens, None, context or Context(), Evaluation(memory=memory))(every)


def test_rows_seen_before_are_not_evaluated_again() -> None:
    """Unchanged rows, and no others, wherever they stand; what they are told is what they would have been."""
    _, network = watched()
    memory, tokens = Memory(torch.zeros(6, dtype=torch.int64), 12), states(6)
    first = read(network, tokens, memory)
    changed = tokens.clone()
    changed[2, 5] = (changed[2, 5] + 1) % 10
    order = torch.tensor([3, 2, 0, 5, 4, 1])
    again = read(network, changed[order], memory)
    assert rows_asked(network) == [6, 1]
    torch.testing.assert_close(again, read(network, changed[order], None), rtol=1e-12, atol=1e-12)
    assert torch.equal(again.view(6, L, -1)[0], first.view(6, L, -1)[3])


def test_other_owners_and_contexts_are_others() -> None:
    """Equal tokens: of another row, with padding or labels, or of another network, they are evaluated."""
    _, network = watched()
    tokens = states(1).expand(6, L)
    memory = Memory(torch.arange(6), 12)
    read(network, tokens, memory)
    read(network, tokens[:3], memory.index(torch.tensor([5, 0, 2])))
    assert rows_asked(network) == [6]
    read(network, tokens[:1], Memory(torch.tensor([7]), 12))
    assert rows_asked(network) == [6, 1]
    padding = torch.zeros(6, L, dtype=torch.bool)
    padding[:, -1] = True
    read(network, tokens, memory, Context(padding=padding))
    assert rows_asked(network) == [6, 1, 6]
    padding[:2, -2] = True
    read(network, tokens, memory, Context(padding=padding))
    assert rows_asked(network) == [6, 1, 6, 2]
    other = watched()[1]
    read(other, tokens, memory)
    assert rows_asked(other) == [6]


def test_marks_are_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all rows have one mark, different tokens are still different."""
    monkeypatch.setattr(module, "_marks", lambda keys: torch.zeros(len(keys), dtype=torch.int64))
    _, network = watched()
    memory, tokens = Memory(torch.zeros(6, dtype=torch.int64), 12), states(6)
    read(network, tokens, memory)
    found = read(network, states(6, seed=2), memory)
    torch.testing.assert_close(found, read(network, states(6, seed=2), None), rtol=1e-12, atol=1e-12)


def test_what_was_seen_longest_ago_is_forgotten() -> None:
    _, network = watched()
    memory = Memory(torch.zeros(6, dtype=torch.int64), 12)
    for seed in (1, 2, 3, 2):
        read(network, states(6, seed), memory)
    assert rows_asked(network) == [6, 6, 6]
    read(network, states(6, 1), memory)
    assert rows_asked(network) == [6, 6, 6, 6]


def test_a_busy_row_does_not_make_another_forget() -> None:
    """One row is shown new states again and again, another comes back to its own: known, as it would be alone."""
    _, network = watched()
    memory, quiet = Memory(torch.arange(2), 2), states(2)[:1]
    read(network, quiet, memory.index(torch.tensor([0])))
    for seed in range(1, 9):
        read(network, states(2, seed)[1:], memory.index(torch.tensor([1])))
    read(network, quiet, memory.index(torch.tensor([0])))
    assert rows_asked(network) == [1] * 9
    read(network, states(2, 8)[1:], memory.index(torch.tensor([1])))
    assert rows_asked(network) == [1] * 9
    read(network, states(2, 6)[1:], memory.index(torch.tensor([1])))
    assert rows_asked(network) == [1] * 10


def test_a_memory_does_not_grow() -> None:
    _, network = watched()
    memory = Memory(torch.arange(6), 2)
    for seed in range(50):
        read(network, states(6, seed), memory)
    assert sum(len(rows.keys) for _, rows in memory._kept) <= 2 * 2 * 6 + 6


def test_positions_are_finished_once() -> None:
    """A second reading of overlapping positions, of more rows, works out what is new."""
    _, network = watched()
    finished: list[int] = []
    inner = network.finish

    def finish(trunk: Tensor, sigma: Tensor | None, context: Context, where: tuple[Tensor, Tensor]) -> Tensor:
        finished.append(len(where[0]))
        return inner(trunk, sigma, context, where)

    network.finish = finish  # type: ignore[method-assign]
    reads = Readings(network, states(6), None, Context(), Evaluation())
    some = torch.zeros(6, L, dtype=torch.bool)
    some[1, 3] = some[4, 0] = True
    reads(positions_of(some))
    some[4, 1] = some[2, 2] = True
    found = reads(positions_of(some))
    assert finished == [2, 2]
    assert rows_asked(network) == [2, 1]
    assert reads.evaluated.tolist() == [False, True, True, False, True, False]
    whole = network.hidden(states(6), None, Context())
    torch.testing.assert_close(found, whole[some], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(reads(None), whole, rtol=1e-12, atol=1e-12)


LOOKING: dict[str, tuple[Sampler, int | None]] = {
    "corrector": (PredictorCorrector(final_sweeps=3), None),
    "remasking": (Remasking("rescale"), 30),
    "confidence": (Confidence(), 4),
    "euler": (Euler(), 30),
}


@pytest.mark.parametrize("name", LOOKING)
def test_memory_changes_no_token(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64: the same tokens with memory and without; calls are what the network was shown, and fewer."""
    sampler, steps = LOOKING[name]
    model, asked = build("absorbing", "conditional", network=lambda toy, states: Watched(Wrong(toy, states))), []
    network = model.network
    assert isinstance(network, Watched)

    def run() -> tuple[Tensor, int]:
        network.asked.clear()
        keys = dd.Keys(1, torch.arange(40))
        drawn = dd.sample(model, 40, length=3, sampler=sampler, steps=steps, generator=keys)
        assert drawn.calls is not None
        assert int(drawn.calls.sum()) == sum(rows_asked(network))
        return drawn.tokens, int(drawn.calls.sum())

    asked.append(run())
    monkeypatch.setattr(Memory, "find", lambda _, network, keys: (torch.zeros(len(keys), dtype=torch.bool), []))
    asked.append(run())
    assert torch.equal(asked[0][0], asked[1][0])
    assert asked[0][1] < asked[1][1] if name in ("corrector", "remasking") else asked[0][1] <= asked[1][1]


def test_unknown_precision_is_refused() -> None:
    assert precision_of(None) is precision_of("float32") is None
    assert precision_of("bfloat16") == precision_of("bf16") == torch.bfloat16
    with pytest.raises(IncompatibleError, match="'float32', 'bfloat16'"):
        precision_of("half")


def test_bfloat16_rounds_the_layers_and_not_the_head() -> None:
    """Answers move by some hundredths, not by more; logits are float32."""
    model, _ = watched()
    model.float()
    plain = dd.sample(model, 64, length=L, steps=4, generator=dd.Keys(0, torch.arange(64)))
    rough = dd.sample(model, 64, length=L, steps=4, precision="bfloat16", generator=dd.Keys(0, torch.arange(64)))
    share = float((plain.tokens == rough.tokens).float().mean())
    assert share > 0.95
    context = Context(evaluation=Evaluation(torch.bfloat16))
    logits = model.predict(states(6), torch.ones(6, 1), context).log_denoiser(EVERYWHERE)
    exact = model.predict(states(6), torch.ones(6, 1)).log_denoiser(EVERYWHERE)
    assert logits.dtype == torch.float32
    masked = states(6)[EVERYWHERE] == 9
    assert 1e-5 < float((logits - exact)[masked].abs().max()) < 0.3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_compiled_rows_on_a_gpu() -> None:
    """Rows filled up to a power of two, so that shapes are few; samples follow the plain ones but for rounding."""
    model, _ = watched()
    model = model.float().cuda()
    rows = torch.arange(48, device="cuda")
    plain, quick = (
        dd.sample(model, 48, length=L, steps=8, compiled=compiled, generator=dd.Keys(0, rows)).tokens
        for compiled in (False, True)
    )
    assert float((plain == quick).float().mean()) > 0.99


def test_compiling_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch asks CXX first, and goes no further where that fails."""
    model, _ = watched()

    def compiled() -> None:
        dd.sample(model, 2, length=L, steps=2, compiled=True, generator=dd.Keys(0, torch.arange(2)))

    for name in ("/nonexistent/gcc", "false"):
        monkeypatch.setenv("CXX", name)
        with pytest.raises(IncompatibleError, match=f"compiled: got CXX={name}, which does not run.*or leave compiled"):
            compiled()
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(IncompatibleError, match=r"compiled: got no \S+, expected a C\+\+ compiler.*Install"):
        compiled()


def test_compiled_trunks_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once compiled, for all steps; nothing else changes."""
    made: list[dict[str, object]] = []

    def compiler(function: Callable[..., Tensor], **how: object) -> Callable[..., Tensor]:
        made.append(how)
        return function

    monkeypatch.setattr(torch, "compile", compiler)
    model, _ = watched()
    plain, quick = (
        dd.sample(model, 8, length=L, steps=8, compiled=compiled, generator=dd.Keys(0, torch.arange(8))).tokens
        for compiled in (False, True)
    )
    assert torch.equal(plain, quick)
    assert made == [{"dynamic": True}]


def test_samplers_that_never_look_twice_remember_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No look-up at all; nor where the network is shown the noise, which is another at every step."""
    asked: list[int] = []

    def find(_: Memory, network: object, keys: Tensor) -> tuple[Tensor, list[object]]:
        asked.append(len(keys))
        return torch.zeros(len(keys), dtype=torch.bool), []

    monkeypatch.setattr(Memory, "find", find)
    for kind, sampler, looks in (
        ("conditional", Ancestral(), False),
        ("conditional", Confidence(), False),
        ("denoiser", PredictorCorrector(), False),
        ("conditional", PredictorCorrector(), True),
    ):
        asked.clear()
        dd.sample(build("absorbing", kind), 5, length=3, sampler=sampler, generator=torch.Generator().manual_seed(0))
        assert bool(asked) == looks
