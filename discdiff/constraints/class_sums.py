"""Sums over the classes of a vocabulary, as few passes over it as there can be."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from discdiff.languages.unrolled import Unrolled

_LONG = 64
"""A class of more tokens is summed by torch, in pairs: one after the other would lose digits."""


class Classes:
    """The tokens that a language can use at all, those of one class side by side.

    Attributes:
        tokens: int64 `[U]`: ids, by class and then by id; tokens that nothing accepted holds are left out.
        of_token: int64 `[V]`: the class of each token, used or not.
        begins: int64 `[C]`: where the tokens of a class begin in `tokens`.
        sizes: int64 `[C]`: how many there are, 0 of a class that is not used.
        filled: bool `[C]`: whether there is any.
    """

    def __init__(self, language: Unrolled, device: torch.device) -> None:
        of_token = torch.as_tensor(language.classes).long()
        used = torch.as_tensor(language.used)
        kept = used[of_token].nonzero()[:, 0]
        self.tokens = kept[of_token[kept].argsort(stable=True)].to(device)
        self.of_token = of_token.to(device)
        self.count = language.num_classes
        self.sizes = torch.bincount(of_token[kept], minlength=self.count).to(device)
        self.filled = self.sizes > 0
        self.begins = self.sizes.cumsum(0) - self.sizes
        self._filled: Sequence[int] = self.sizes.nonzero()[:, 0].tolist()
        self._starts = self.begins[self._filled].cpu().numpy()
        starts, sizes = self.begins.tolist(), self.sizes.tolist()
        self._long = [(c, starts[c], starts[c] + sizes[c]) for c in self._filled if sizes[c] > _LONG]

    def side_by_side(self, values: Tensor, out: Tensor | None = None) -> Tensor:
        """`[N, V]` as `[N, U]`, written to `out` if it is given."""
        return torch.index_select(values, 1, self.tokens, out=out)

    def sums(self, values: Tensor) -> Tensor:
        """Of values `[N, U]` the sum over each class: `[N, C]`."""
        return self._sums_in_place(values) if values.device.type == "cpu" else self._sums_by_product(values)

    def _sums_by_product(self, values: Tensor) -> Tensor:
        """Quick on a GPU, and the same in every run."""
        members = torch.nn.functional.one_hot(self.of_token[self.tokens], self.count)
        return values @ members.to(values.dtype)

    def _sums_in_place(self, values: Tensor) -> Tensor:
        found = values.new_zeros(len(values), self.count)
        if not len(self._filled):
            return found
        found[:, self._filled] = torch.from_numpy(np.add.reduceat(values.detach().numpy(), self._starts, axis=1))
        for c, begin, end in self._long:
            found[:, c] = values[:, begin:end].sum(1)
        return found

    def log_sums(self, values: Tensor) -> Tensor:
        """log Σ exp over each class of `[N, U]`: `[N, C]`, −∞ where a class has no mass."""
        index = self.of_token[self.tokens].expand(values.shape)
        most = values.new_full((len(values), self.count), -torch.inf).scatter_reduce(1, index, values, "amax")
        base = torch.where(torch.isfinite(most), most, 0.0)
        return self.sums((values - base.gather(1, index)).exp()).log() + base


@lru_cache(maxsize=16)
def classes_of(language: Unrolled, device: torch.device) -> Classes:
    """The classes of a language on a device, made once."""
    return Classes(language, device)


__all__ = ["Classes", "classes_of"]
