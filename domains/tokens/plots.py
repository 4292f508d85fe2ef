"""Pictures of integer samples: lengths, and how often each token occurs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from discdiff.metrics import encoded
from domains.figures import histogram, scatter

if TYPE_CHECKING:
    from domains.tokens.domain import Tokens


def plot_tokens(
    tokens: Tokens, folder: Path, samples: Sequence[str], reference: Sequence[str] | None
) -> dict[str, Path]:
    """Draw into `folder`; maps captions to PNG files."""
    sets = {"samples": samples} | ({} if reference is None else {"reference": reference})
    rows = {name: encoded(tokens, sequences)[0] for name, sequences in sets.items()}
    lengths = {name: [len(row) for row in found] for name, found in rows.items()}
    pictures = {"Lengths": histogram(folder / "lengths.png", lengths, "length (tokens)")}
    if "reference" in rows:
        size = tokens.vocab_size
        counts = [np.bincount(np.concatenate([*rows[name], np.empty(0, np.int64)]), minlength=size) for name in rows]
        y, x = (count / max(int(count.sum()), 1) for count in counts)
        path = scatter(folder / "tokens.png", x, y, "frequency in the reference", "frequency in the samples")
        pictures["Frequencies of tokens"] = path
    return pictures
