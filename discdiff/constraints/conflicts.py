"""Saying why nothing satisfies what is asked: which language, at which length, against what stands at positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from discdiff.constraints.trellis import Trellis
from discdiff.errors import IncompatibleError
from discdiff.languages import Language
from discdiff.languages.unrolled import Unrolled, unroll


def why_empty(parts: Mapping[str, Language], factors: Sequence[Language], lengths: Tensor, allowed: Tensor) -> str:
    """Why nothing satisfies rows, as simply as it can be said.

    Args:
        parts: the languages, by name.
        factors: languages with the same intersection.
        lengths: int64 `[B]`, tokens in each row.
        allowed: bool `[1 or B, L, V]`, what may stand at the positions.
    """
    for length in lengths.unique().tolist():
        for name, part in parts.items():
            possible = np.nonzero(part.lengths(length + 64))[0]
            if length not in possible:
                hint = f"{_ranges(possible)} tokens" if len(possible) else f"more than {length + 64} tokens"
                return f"{name}: no sequence of {length} tokens satisfies it (it takes {hint})"
    alone = []
    for name, part in parts.items():
        language = unroll([part], set(lengths.tolist()), allowed.any(0).numpy())
        counts = class_counts(language, allowed, len(lengths))
        if not bool(Trellis(language, lengths).possible(counts.permute(1, 2, 0) > 0)[0].any(0).all()):
            alone.append(name)
    positions = "what is given or allowed at the positions"
    if alone:
        return f"{' and '.join(alone)} cannot hold with {positions}"
    for length in lengths.unique().tolist():
        try:
            possible = unroll(factors, {length}).lengths[length]
        except IncompatibleError:  # too many states to see without the sets
            break
        if not possible:
            return f"no sequence of {length} tokens satisfies {' and '.join(parts)} together"
    return f"{', '.join(parts)} together cannot hold with {positions}"


def class_counts(language: Unrolled, allowed: Tensor, rows: int) -> Tensor:
    """How many tokens of each class positions' own sets leave: `[rows, L, C]` of bool `[1 or B, L, V]`."""
    members = torch.nn.functional.one_hot(torch.as_tensor(language.classes).long(), language.num_classes)
    return (allowed.float() @ members.float()).expand(rows, -1, -1)


def _ranges(lengths: np.ndarray) -> str:
    """Numbers in words: 3, 5 to 8."""
    runs = np.split(lengths, np.nonzero(np.diff(lengths) != 1)[0] + 1)
    words = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs[:5]]
    return ", ".join(words) + (", ..." if len(runs) > 5 else "")


__all__ = ["class_counts", "why_empty"]
