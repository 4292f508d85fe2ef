"""Memory of a training step of `discdiff.Transformer`, from its shape alone."""

from __future__ import annotations

from benchmarks.costs import SIZES, Work, parameters


def memory(work: Work) -> dict[str, float]:
    """Bytes of a training step: weights and what belongs to them, saved activations, logits.

    Logits are those of a loss that keeps them all with their gradient; a chunked one keeps a chunk.
    """
    count = parameters(work)
    total = sum(count.values())
    muon = count["matrices"] if work.optimizer == "muon" else 0
    return {
        "weights": 4 * total,
        "gradients": 4 * total,
        "optimiser": 8 * (total - muon) + 4 * muon,
        "moving average": 4 * total if work.ema else 0,
        "activations": saved(work),
        "logits": 8 * work.head_share * work.evaluated * work.columns,
    }


def saved(work: Work) -> float:
    """Bytes kept for the backward pass by the body: what autograd keeps of the network as written.

    A block keeps its two norms' inputs and outputs, qkv (whole, for v's sake), the rotated q and k, what attention
    gives, and the MLP's hidden layer before and after its non-linearity; adaLN and local mixing keep one more of each
    norm's outputs, adaLN the branches too. With checkpoints a block keeps its input, and one block all.
    """
    shape, T, D = work.shape, work.evaluated, work.shape.dim
    half, wide = SIZES[shape.dtype], 4
    attended = sum(b for _, b in work.block[:1]) + 2 * D
    per = 2 * D * wide + (3 * D + attended + 2 * work.inner) * half
    if work.timed:
        per += 2 * D * (wide + half)
    if shape.kernel:
        per += 2 * D * wide
    per += (4 + shape.heads) * 4  # mean and deviation of the norms, log-sum-exp of attention
    last = T * (2 * D + 2) * 4
    again = work.checkpoint * shape.depth
    return last + T * ((shape.depth - again) * per + again * D * wide + (per if again else 0))
