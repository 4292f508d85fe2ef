"""Buffers that keep float64 whatever the precision of the model around them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from discdiff.errors import IncompatibleError


class Kept(nn.Module):
    """A module with one float64 buffer, `table`: saved with the weights, moved between devices, never rounded.

    It may be empty (NaN) between construction and the moment when a run folder, a training set or a domain fills it.
    """

    table: Tensor

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        exact = self.table
        super()._apply(fn, recurse)
        self.table = exact.to(device=self.table.device)
        return self

    @property
    def known(self) -> bool:
        """Whether the table has been filled."""
        return not bool(self.table.isnan().any())

    def filled(self, remedy: str) -> Tensor:
        """The table, or an error if nothing has filled it yet."""
        if not self.known:
            raise IncompatibleError(
                type(self).__name__, got="a process without its numbers", expected="numbers", remedy=remedy
            )
        return self.table
