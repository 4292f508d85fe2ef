"""Speed and memory of a training step, beside the textbook step in the same process.

    python -m benchmarks.train --config S1 --baseline            # also S2, S3; G1 and G2 on a GPU
    python -m benchmarks.train --config S2 --baseline --dtype bfloat16 --compile
    python -m benchmarks.train --config S3 --baseline --data ../shared/data/smiles/zinc250k.csv.xz

The contenders take turns, and each turn measures the rate of a large matrix product beside them, so that what else the
machine does falls on all. Both train a time-conditioned score network of the same weights on the same noised tokens;
`--time-free` adds ours as it is by default, shown no noise. Prints one JSON line a contender: tokens and real tokens a
second, the step's FLOPs (counted, not estimated) a second and as a fraction of the product's, the peak of memory above
the weights (in a process of its own), the ratio to the textbook step turn by turn, and how far the losses are apart.
Everywhere median, least and greatest.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

import discdiff as dd
from benchmarks.arguments import check_data, file, positive
from benchmarks.automata import spread
from benchmarks.memory import peak_above, resident
from benchmarks.real_data import hardware
from benchmarks.shapes import SHAPES, Shape
from benchmarks.textbook import Textbook, TextbookStep
from discdiff.data.batches import BatchLoader
from discdiff.losses.times import Noised, UniformTimes, noised
from discdiff.training.optimizers import make_optimizer
from discdiff.training.surroundings import keep_memory

DECAY, RATE = 0.999, 1e-3
UNSEEN = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda out, q, k, v, *_, **__: sdpa_backward_flop_count(out, q, k, v)
    ),
}
"""The fused attention of CPUs, which torch's counter passes over."""
Draw = tuple[dd.Sequences, dd.Keys]
Step = Callable[[Draw], float]


def draws(shape: Shape, data: Path | None, device: str) -> Iterator[Draw]:
    """Batches with their randomness, as training sees them: random tokens, or the molecules of a file in buckets."""
    if shape.mean_length is None:
        for step in range(sys.maxsize):
            tokens = torch.randint(shape.vocab - 1, (shape.batch, shape.length), generator=generator(step))
            ids = torch.arange(shape.batch)
            yield dd.Sequences.full(tokens, ids=ids).to(device), keys(step, shape.batch)
    dataset = molecules(shape, data)
    for batch in BatchLoader(dataset, shape.batch, steps=sys.maxsize):
        yield batch.sequences.to(device), batch.keys(0)


def molecules(shape: Shape, data: Path | None) -> dd.data.SequenceDataset:
    """The file's, or random tokens of about ZINC's lengths."""
    if data is not None:
        return dd.domain("smiles").dataset(data)
    lengths = torch.randn(20_000, generator=generator(0)) * 7.3 + (shape.mean_length or shape.length)
    rows = [
        torch.randint(shape.vocab - 1, (int(n),), generator=generator(i))
        for i, n in enumerate(lengths.clamp(8, shape.length).round().tolist())
    ]
    return dd.data.SequenceDataset.from_tokens(dd.Sequences.from_lists(rows))


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def keys(step: int, rows: int) -> dd.Keys:
    strata = (torch.arange(rows, dtype=torch.float64) + step * 0.618 % 1.0) / rows
    return dd.Keys(0, torch.arange(rows), step=step, strata=strata)


def timed_model(shape: Shape, device: str, vocab: int) -> dd.Diffusion:
    """A score network with weights that are not at their start, where the head says nothing."""
    process = dd.Absorbing(vocab)
    network = dd.Transformer(process.num_states, shape.dim, shape.depth, shape.heads, kernel=shape.kernel)
    model = dd.Diffusion(network, process, dd.LogLinear(), dd.Score())
    stir(model)
    return model.to(device)


def free_model(shape: Shape, device: str, vocab: int) -> dd.Diffusion:
    """A time-free denoiser, as by default."""
    process = dd.Absorbing(vocab)
    network = dd.Transformer(process.num_states, shape.dim, shape.depth, shape.heads, kernel=shape.kernel)
    return dd.Diffusion(network, process, dd.LogLinear(), dd.Conditional()).to(device)


@torch.no_grad()
def stir(model: dd.Diffusion) -> None:
    for index, weight in enumerate(model.parameters()):
        if not weight.any():
            weight.add_(0.02 * torch.randn(weight.shape, generator=generator(index)))


class OurStep:
    """What `fit` does in a step: loss, gradient, clipping, fused AdamW, the average of all weights at once."""

    def __init__(
        self, model: dd.Diffusion, loss: dd.losses.Loss, *, half: bool, compiled: bool, checkpoint: bool = False
    ) -> None:
        model.network.checkpoint_gradients(checkpoint)
        self.model, self.loss, self.half = model.train(), loss, half
        self.kind = model.device.type
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        self.optimizer = make_optimizer(
            "adamw", model, learning_rate=RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True
        )
        self.average = [weight.detach().clone() for weight in self.weights]
        if compiled:
            model.network.hidden = torch.compile(model.network.hidden, dynamic=None)  # type: ignore[method-assign]

    def values(self, draw: Draw) -> Tensor:
        """Nats a token, forward only."""
        sequences, noise = draw
        with torch.autocast(self.kind, torch.bfloat16, enabled=self.half):
            return self.loss(self.model, sequences, generator=noise).sum() / sequences.tokens.numel()

    def __call__(self, draw: Draw) -> float:
        loss = self.values(draw)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        torch._foreach_lerp_(self.average, [weight.detach() for weight in self.weights], 1 - DECAY)
        self.optimizer.zero_grad()
        return float(loss.detach())


class Plain:
    """The textbook step on the same rows: padded to the longest of the data, every position computed."""

    def __init__(self, shape: Shape, model: dd.Diffusion, dropout: float) -> None:
        network = Textbook(shape.vocab, shape.dim, shape.depth, shape.heads, dropout=dropout)
        assert isinstance(model.network, dd.Transformer)
        network.copy(model.network)
        self.length, self.model = shape.length, model
        self.step = TextbookStep(network.to(model.device), learning_rate=RATE, decay=DECAY)

    def arguments(self, draw: Draw) -> tuple[Tensor, ...]:
        sequences, noise = draw
        made: Noised = noised(self.model, sequences, UniformTimes(), generator=noise)
        more = self.length - sequences.tokens.shape[1]
        x0, xt = (torch.nn.functional.pad(tokens, (0, more)) for tokens in (sequences.tokens, made.tokens))
        real = torch.nn.functional.pad(~sequences.padding, (0, more))
        return x0, xt, made.sigma[:, 0], made.dsigma.to(made.sigma.dtype), real

    def __call__(self, draw: Draw) -> float:
        return self.step(*self.arguments(draw))


def gap(ours: OurStep, plain: Plain, draw: Draw) -> float:
    """How far the losses are apart, relative, on one batch without padding or dropout."""
    sequences, noise = draw
    length = int(sequences.lengths.min())
    sequences = replace(sequences, tokens=sequences.tokens[:, :length], lengths=sequences.lengths.clamp(max=length))
    plain.step.network.eval()
    ours.model.eval()
    before, plain.length = plain.length, length
    with torch.no_grad():
        theirs = float(plain.step.loss(*plain.arguments((sequences, noise))))
        mine = float(ours.values((sequences, noise)))
    plain.length = before
    plain.step.network.train()
    ours.model.train()
    return abs(mine / theirs - 1)


def product_rate(shape: Shape, device: str, half: bool) -> float:
    """FLOP/s of the MLP's product, of this shape and dtype, here and now."""
    dtype = torch.bfloat16 if half else torch.float32
    left = torch.randn(shape.tokens, shape.dim, dtype=dtype, device=device)
    right = torch.randn(shape.dim, 4 * shape.dim, dtype=dtype, device=device)
    out = torch.empty(len(left), right.shape[1], dtype=dtype, device=device)
    flops, best = 2 * len(left) * right.numel(), 0.0
    for _ in range(3):
        start = now(device)
        times = max(1, round(1e10 / flops))
        for _ in range(times):
            torch.mm(left, right, out=out)
        best = max(best, times * flops / (now(device) - start))
    return best


def now(device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


def contenders(arguments: argparse.Namespace, shape: Shape) -> dict[str, tuple[Step, Any]]:
    """The steps, by name."""
    how = {
        "half": arguments.dtype == "bfloat16",
        "compiled": arguments.compile,
        "checkpoint": arguments.checkpoint,
    }
    made: dict[str, tuple[Step, Any]] = {}
    wanted = [
        "discdiff",
        *(["time-free"] if arguments.time_free else []),
        *(["textbook"] if arguments.baseline else []),
    ]
    for name in wanted if arguments.only is None else [arguments.only]:
        if name == "time-free":
            model = free_model(shape, arguments.device, shape.vocab - 1)
            step: Any = OurStep(model, dd.losses.AnyOrder(), **how)
        else:
            model = timed_model(shape, arguments.device, shape.vocab - 1)
            step = (
                OurStep(model, dd.losses.ScoreEntropy(), **how)
                if name == "discdiff"
                else Plain(shape, model, arguments.dropout)
            )
        made[name] = step, model
    return made


def measure(arguments: argparse.Namespace, shape: Shape) -> list[dict[str, Any]]:
    """A record of each contender."""
    steps = contenders(arguments, shape)
    half = arguments.dtype == "bfloat16"
    source = draws(shape, arguments.data, arguments.device)
    first = next(source)
    apart = gap(steps["discdiff"][0], steps["textbook"][0], first) if arguments.baseline else math.nan  # type: ignore[arg-type]
    flops = {}
    for name, (step, _) in steps.items():  # the warm-up too; compiled code is counted before it is compiled
        with FlopCounterMode(display=False, custom_mapping=UNSEEN) as counter:
            step(first)
        flops[name] = counter.get_total_flops() / (shape.tokens if name == "textbook" else first[0].tokens.numel())
        step(next(source))
    turns: dict[str, list[tuple[float, int, int, float]]] = {name: [] for name in steps}
    peak = []
    for _ in range(arguments.turns):
        batches = [next(source) for _ in range(arguments.steps)]
        shown = sum(draw[0].tokens.numel() for draw in batches)
        real = sum(int(draw[0].lengths.sum()) for draw in batches)
        peak.append(product_rate(shape, arguments.device, half))
        for name, (step, _) in steps.items():
            with allocator(name, arguments.device):
                step(batches[0])  # settles what is kept
                start = now(arguments.device)
                for draw in batches:
                    step(draw)
                seconds = now(arguments.device) - start
            wide = len(batches) * shape.tokens if name == "textbook" else shown
            turns[name].append((seconds, wide, real, flops[name] * wide))
    memory = {name: memory_of(arguments, name) for name in steps} if arguments.memory else {}
    records = []
    for name in steps:
        against = [theirs[0] / ours[0] for ours, theirs in zip(turns[name], turns.get("textbook", []), strict=False)]
        achieved = [work / seconds for seconds, _, _, work in turns[name]]
        records.append(
            {
                "benchmark": "train",
                "config": shape.name,
                "contender": name,
                "command": " ".join(["python -m benchmarks.train", *sys.argv[1:]]),
                "shape": vars(shape),
                "dtype": arguments.dtype if name != "textbook" else "float32",
                "compiled": arguments.compile and name != "textbook",
                "checkpoint": arguments.checkpoint and name != "textbook",
                "turns": arguments.turns,
                "steps_a_turn": arguments.steps,
                "seconds_a_step": spread([each[0] / arguments.steps for each in turns[name]]),
                "tokens_per_second": spread([each[1] / each[0] for each in turns[name]]),
                "real_tokens_per_second": spread([each[2] / each[0] for each in turns[name]]),
                "padding": 1 - sum(each[2] for each in turns[name]) / sum(each[1] for each in turns[name]),
                "flops_per_second": spread(achieved),
                "gemm_flops_per_second": spread(peak),
                "fraction_of_gemm": spread([a / b for a, b in zip(achieved, peak, strict=True)]),
                **({"faster_than_textbook": spread(against), "loss_apart": apart} if against else {}),
                **({"peak_bytes_above_weights": memory[name]} if memory else {}),
                **hardware(),
            }
        )
    if memory and "textbook" in memory:
        for record in records:
            record["memory_of_textbook"] = record["peak_bytes_above_weights"] / memory["textbook"]
    return records


def allocator(name: str, device: str) -> AbstractContextManager[None]:
    """`fit` lets a process keep its memory; the textbook step has the allocator as it comes."""
    return nullcontext() if name == "textbook" else keep_memory(torch.device(device))


def memory_of(arguments: argparse.Namespace, name: str) -> int:
    """The peak of a contender's memory above its weights, measured in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.train", "--config", arguments.config, "--only", name, "--peak"]
    command += ["--dtype", arguments.dtype, "--threads", str(arguments.threads), "--device", arguments.device]
    command += [] if arguments.data is None else ["--data", str(arguments.data)]
    command += ["--compile"] * arguments.compile + ["--checkpoint"] * arguments.checkpoint
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1])


def peak_of_one(arguments: argparse.Namespace, shape: Shape) -> int:
    """Bytes above the weights, in three steps of the contender that was named."""
    source = draws(shape, arguments.data, arguments.device)
    batches = [next(source) for _ in range(3)]
    small = replace(shape, dim=16, depth=1, heads=2, length=8, batch=2, mean_length=None)
    ((first, _),) = contenders(arguments, small).values()
    run(first, [next(draws(small, None, arguments.device))])  # what libraries import and keep is not the step's
    del first
    before = resident(arguments.device)
    ((step, model),) = contenders(arguments, shape).values()
    # The averaged weights are there already, and count; the textbook's weights are a copy of ours, which does not.
    networks = [model, *([step.step.network] if isinstance(step, Plain) else [])]
    weights = sum(weight.numel() * weight.element_size() for each in networks for weight in each.parameters())
    more = resident(arguments.device) - before - weights
    with allocator(arguments.only, arguments.device):
        return more + peak_above(resident(arguments.device), partial(run, step, batches), arguments.device)


def run(step: Step, batches: list[Draw]) -> None:
    for draw in batches:
        step(draw)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", choices=list(SHAPES), default="S2")
    parser.add_argument("--baseline", action="store_true", help="the textbook step too")
    parser.add_argument("--time-free", action="store_true", help="our default model too")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="of our products; the shape's own by default")
    parser.add_argument("--compile", action="store_true", help="torch.compile our network")
    parser.add_argument("--checkpoint", action="store_true", help="gradient checkpointing in our network")
    parser.add_argument("--dropout", type=float, default=0.1, help="of the textbook network, 0.1 as published")
    parser.add_argument("--turns", type=positive, default=7)
    parser.add_argument("--steps", type=positive, default=2, help="steps in a turn")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--data", type=file, help="SMILES for S3; random tokens of such lengths by default")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="leave the peak of memory out")
    parser.add_argument("--batch", type=positive, help="rows, instead of the shape's")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    check_data(parser, arguments)
    torch.set_num_threads(arguments.threads)
    shape = SHAPES[arguments.config]
    arguments.dtype = arguments.dtype or shape.dtype
    shape = replace(shape, batch=arguments.batch or shape.batch)
    if arguments.data is not None:
        lengths = molecules(shape, arguments.data).model_lengths
        mean, longest = float(lengths.double().mean()), int(lengths.max())
        shape = replace(shape, vocab=dd.domain("smiles").vocab_size + 1, mean_length=mean, length=longest)
    if arguments.peak:
        print(peak_of_one(arguments, shape))
        return
    for record in measure(arguments, shape):
        print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
