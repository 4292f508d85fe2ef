"""Arithmetic and memory traffic of `discdiff.Transformer`, counted from its shape alone.

An operation is a kernel or a chain of kernels that a compiler joins into one. Matrix products are counted exactly;
element-wise work by the bytes that it reads and writes, each once. What is left out: indices, reductions of a few
numbers, launches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from benchmarks.shapes import Shape

GROUPS = ("body", "attention", "head", "element-wise", "embedding", "optimiser")
COND_DIM, FREQUENCIES = 128, 256
"""Widths of the embedding of the noise, as `discdiff.Transformer` has them."""
NEWTON_SCHULZ = 5
"""Iterations of torch's Muon."""
SIZES = {"float32": 4, "tf32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Work:
    """What is to be done, and how.

    Attributes:
        shape: network and batch.
        tokens: positions that the network evaluates; the batch's real ones by default (packed, no padding).
        context: keys of a query on average; the mean length by default, half as many where attention is causal.
        head_share: share of the positions that meet the head: half of them are masked on average.
        outputs: columns of the head; by default the states without the mask.
        timed: whether noise conditions the network (adaLN).
        matrices: inputs and outputs of a block's matrices, where it is not discdiff's own block.
        tied: whether head and embedding share their weights.
        fused: whether a compiler joins element-wise chains into one kernel; else one kernel an operation, as written.
        flash: attention that keeps no scores and computes them again in the backward pass.
        checkpoint: share of the blocks that are computed again in the backward pass.
        head_dtype: operands of the head's product; by default those of the body.
        optimizer: "adamw" or "muon" (for the blocks' matrices).
        clip, ema: whether gradients are clipped by their norm, whether there is a moving average.
    """

    shape: Shape
    tokens: float | None = None
    context: float | None = None
    head_share: float = 0.5
    outputs: int | None = None
    timed: bool = False
    matrices: tuple[tuple[int, int], ...] | None = None
    tied: bool = False
    fused: bool = True
    flash: bool = True
    checkpoint: float = 0.0
    head_dtype: str | None = None
    optimizer: str = "adamw"
    clip: bool = True
    ema: bool = True

    @property
    def evaluated(self) -> float:
        """Positions that go through the body."""
        return self.shape.real_tokens if self.tokens is None else self.tokens

    @property
    def keys(self) -> float:
        """Keys of a query."""
        return self.shape.real_tokens / self.shape.batch if self.context is None else self.context

    @property
    def columns(self) -> int:
        """Outputs of the head."""
        return self.shape.vocab - 1 if self.outputs is None else self.outputs

    @property
    def block(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of a block's matrices: qkv, out, up, down."""
        D = self.shape.dim
        return ((D, 3 * D), (D, D), (D, 4 * D), (4 * D, D)) if self.matrices is None else self.matrices

    @property
    def inner(self) -> int:
        """Hidden width of the MLP."""
        return self.block[-1][0]


@dataclass(frozen=True)
class Operation:
    """One operation, `count` times.

    Attributes:
        name, group: what it is, and the part of the step that it belongs to.
        flops: useful ones.
        size: bytes read and written.
        dtype: operands of a product.
        again: FLOPs that are done a second time, to save memory.
        count: how often.
    """

    name: str
    group: str
    flops: float = 0.0
    size: float = 0.0
    dtype: str = "float32"
    again: float = 0.0
    count: float = 1.0


def parameters(work: Work) -> dict[str, int]:
    """Numbers of parameters: of the embedding, the blocks' matrices, the head, and the rest."""
    shape, D = work.shape, work.shape.dim
    matrices = shape.depth * sum(a * b for a, b in work.block)
    own = work.matrices is None
    norms = (2 * shape.depth + 1) * D * (1 if work.timed or not own else 2)
    biases = shape.depth * (work.inner + D) if own else 0
    mixing = shape.depth * 2 * shape.kernel * D
    mark = D if own else 0  # what is added at given positions
    condition = 0
    if work.timed:
        noise = FREQUENCIES * COND_DIM + COND_DIM + COND_DIM**2 + COND_DIM
        condition = noise + (COND_DIM + 1) * (6 * shape.depth + 2) * D
    head = 0 if work.tied else work.columns * (D + 1 if own else D)
    return {
        "embedding": shape.vocab * D,
        "matrices": matrices,
        "head": head,
        "rest": norms + biases + mixing + mark + condition,
    }


def forward(work: Work) -> Iterator[Operation]:
    """One pass of the network, with the head at its share of the positions."""
    shape, T, D = work.shape, work.evaluated, work.shape.dim
    half, wide = SIZES[shape.dtype], 4  # operands of products; the stream between blocks, and norms
    deep = shape.depth
    yield Operation("look-up", "embedding", size=2 * T * D * wide)
    for a, b in work.block:
        yield _product(f"{a} -> {b}", "body", T, a, b, shape.dtype, count=deep)
    yield Operation(
        "attention", "attention", 4 * T * work.keys * D, _attention_size(work, 4, 4), shape.dtype, count=deep
    )
    if work.timed:
        yield _product("noise", "body", shape.batch, FREQUENCIES, COND_DIM, "float32")
        yield _product("noise", "body", shape.batch, COND_DIM, COND_DIM, "float32")
        yield _product("modulation", "body", shape.batch, COND_DIM, 6 * D, shape.dtype, count=deep)
        yield _product("modulation", "body", shape.batch, COND_DIM, 2 * D, shape.dtype)
    if shape.kernel:
        passes = 2 if work.fused else 5
        yield Operation("local mixing", "element-wise", 2 * shape.kernel * T * D, passes * T * D * wide, count=2 * deep)
    modulated = 2 * wide if work.timed and not work.fused else 0
    norm = 2 * wide + 2 * half if work.fused else 5 * wide + _cast(half) + modulated
    yield Operation("residual and norm", "element-wise", size=T * D * norm, count=2 * deep)
    yield Operation("rotary", "element-wise", size=T * D * half * (4 if work.fused else 16), count=deep)
    yield Operation("gelu", "element-wise", size=2 * T * work.inner * half, count=deep)
    yield Operation("last norm", "element-wise", size=2 * T * D * wide)
    yield from _head(work, work.head_share * T)


def _head(work: Work, rows: float) -> Iterator[Operation]:
    D, V = work.shape.dim, work.columns
    dtype = work.head_dtype or work.shape.dtype
    yield Operation("rows", "head", size=2 * rows * D * 4)
    yield _product("logits", "head", rows, D, V, dtype, result=4)
    yield Operation("log-sum-exp", "head", size=rows * V * 4 * (1 if work.fused else 3))


def backward(work: Work) -> Iterator[Operation]:
    """The gradients: each product twice, of its inputs and of its weights."""
    shape, T, D = work.shape, work.evaluated, work.shape.dim
    half, wide, deep, fused = SIZES[work.shape.dtype], 4, work.shape.depth, work.fused
    for step in forward(work):
        if step.group in ("body", "head") and step.flops:
            # The first matrix of the noise has an input that needs no gradient.
            first = step.name == "noise" and step.flops == 2 * shape.batch * FREQUENCIES * COND_DIM
            yield replace(step, count=step.count * (1 if first else 2))
    flops = 4 * T * work.keys * D
    yield Operation(
        "attention", "attention", 2 * flops, _attention_size(work, 8, 8), shape.dtype,
        again=flops / 2 if work.flash else 0.0, count=deep,
    )  # fmt: skip
    if work.checkpoint:
        for step in forward(work):
            if step.group in ("body", "attention", "element-wise"):
                yield replace(step, flops=0.0, again=step.flops + step.again, count=step.count * work.checkpoint)
    if shape.kernel:
        passes = 4 if fused else 7
        flops = 4 * shape.kernel * T * D
        yield Operation("local mixing", "element-wise", flops, passes * T * D * wide, count=2 * deep)
    modulated = (half if fused else 11 * wide) if work.timed else 0
    norm = 3 * wide + 2 * half if fused else 6 * wide + _cast(half)
    yield Operation("residual and norm", "element-wise", size=T * D * (norm + modulated), count=2 * deep)
    yield Operation("rotary", "element-wise", size=T * D * half * (4 if fused else 24), count=deep)
    yield Operation("gelu", "element-wise", size=3 * T * work.inner * half, count=deep)
    yield Operation("last norm", "element-wise", size=3 * T * D * wide)
    yield Operation("softmax", "head", size=work.head_share * T * work.columns * 4 * 2)
    yield Operation("gradient of the table", "embedding", size=4 * (shape.vocab * D + 3 * T * D))


def update(work: Work) -> Iterator[Operation]:
    """Clipping, optimiser and moving average."""
    count = parameters(work)
    total = sum(count.values())
    muon = count["matrices"] if work.optimizer == "muon" else 0
    if work.clip:
        yield Operation("norm and scale", "optimiser", size=12 * total)
    yield Operation("AdamW", "optimiser", size=28 * (total - muon))
    if muon:
        yield Operation("momentum and step", "optimiser", size=24 * muon)
        for a, b in work.block:
            short, long = min(a, b), max(a, b)
            flops = NEWTON_SCHULZ * (4 * short**2 * long + 2 * short**3)
            size = NEWTON_SCHULZ * 2 * (4 * short * long + 4 * short**2)
            yield Operation("Newton-Schulz", "optimiser", flops, size, "bfloat16", count=work.shape.depth)
    if work.ema:
        yield Operation("moving average", "optimiser", size=12 * total)
    if work.shape.dtype == "bfloat16":
        yield Operation("weights to bf16", "optimiser", size=6 * (total - count["embedding"]))


def training(work: Work) -> list[Operation]:
    """One step."""
    return [*forward(work), *backward(work), *update(work)]


def calls(steps: int, length: float) -> float:
    """Network calls of a row that is not evaluated again while it stands still: N (1 − (1 − 1/N)^L).

    On a grid of N steps that are equal in the mask fraction each of the L positions moves in one of them, uniformly
    chosen, and a time-free network is called only in steps in which one does.
    """
    return steps * (1 - (1 - 1 / steps) ** length)


def sampling(work: Work, steps: int, *, textbook: bool = False) -> list[Operation]:
    """A batch, drawn in so many steps.

    Args:
        work: network and batch.
        steps: N.
        textbook: every row in every step, and logits of every position; else rows that moved, and positions that move.
    """
    T = work.shape.real_tokens
    length = T / work.shape.batch
    # A network that is shown the time has something new to see in every step.
    tokens = T if textbook or work.timed else T * calls(steps, length) / steps
    heads = T if textbook else T / steps
    step = replace(work, tokens=tokens, head_share=heads / tokens)
    draw = Operation("draw", "head", size=heads * work.columns * 4 * (1 if work.fused else 3))
    return [replace(each, count=each.count * steps) for each in (*forward(step), draw)]


def _product(
    name: str, group: str, rows: float, inputs: int, outputs: int, dtype: str, *, result: int = 0, count: float = 1
) -> Operation:
    """`[rows, inputs] @ [inputs, outputs]`, the result in the type of the operands or of so many bytes."""
    half = SIZES[dtype]
    size = rows * inputs * half + inputs * outputs * half + rows * outputs * (result or half)
    return Operation(name, group, 2 * rows * inputs * outputs, size, dtype, count=count)


def _attention_size(work: Work, queries: int, total: int) -> float:
    """Bytes of so many arrays of queries, keys and values each read or written once; and of scores, where kept."""
    T, half = work.evaluated, SIZES[work.shape.dtype]
    scores = 0.0 if work.flash else 4 * T * work.keys * work.shape.heads * queries
    return total * T * work.shape.dim * half + scores


def _cast(half: int) -> int:
    """Reading float32 and writing bfloat16, where autocast does."""
    return 6 if half == 2 else 0
