"""`SampleRows`: sampling as a function of batches of numbers, for Ray Data and its like."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from discdiff.pipeline.asking import Asked

if TYPE_CHECKING:
    from discdiff.pipeline.draws import Draws


class SampleRows:
    """Samples by their numbers, a batch at a time: `ray.data.range(n).map_batches(SampleRows, …)`.

    It holds a path and arguments, so that it goes to any worker, and reads the run there, once. Sample i is that of
    `Pipeline.sample`, and of a job, with the same seed; in batches of other rows up to rounding.

    Args:
        run: the run folder, where every worker can read it.
        column: of the numbers in a batch; Ray's `range` calls it "id".
        device: where to compute; by default a GPU if the worker has one.
        template: what is known of each sample, as in `Pipeline.infill`.
        **arguments: those of `Pipeline.sample`.

    Raises:
        ConfigError: an argument that sampling does not take.
    """

    def __init__(
        self,
        run: str | Path,
        *,
        column: str = "id",
        device: str | None = None,
        template: str | None = None,
        **arguments: Any,
    ) -> None:
        self.run, self.column, self.device = str(run), column, device
        self.asked = Asked.of({"template": template, **arguments})
        self._draws: Draws | None = None

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Numbers `[B]` to a batch of arrays `[B]`: the numbers, sequence, label (where there are), calls."""
        rows = torch.as_tensor(np.asarray(batch[self.column]).astype(np.int64))
        draws = self._ready()
        samples, labels = draws.rows(rows, lambda share: None), draws.names(rows)
        made: dict[str, Any] = {
            self.column: rows.numpy(),
            "sequence": np.array(samples, dtype=object),
            "calls": np.array(samples.calls),
        }
        return made if labels is None else made | {"label": np.array(labels, dtype=object)}

    def _ready(self) -> Draws:
        if self._draws is None:
            from discdiff.pipeline.pipeline import Pipeline

            self._draws = Pipeline.load(self.run, device=self.device).draws(self.asked)
        return self._draws

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_draws": None}


__all__ = ["SampleRows"]
