"""Models of nucleotide substitution; states in the order A, C, G, T."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from discdiff.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

UNIFORM = (0.25, 0.25, 0.25, 0.25)


def jc69() -> Tensor:
    """All substitutions alike. Jukes and Cantor 1969."""
    return gtr()


def k80(kappa: float = 2.0) -> Tensor:
    """Transitions (A↔G, C↔T) κ times as fast as transversions, equal frequencies. Kimura 1980."""
    return hky85(kappa)


def hky85(kappa: float = 2.0, frequencies: Sequence[float] = UNIFORM) -> Tensor:
    """K80 with frequencies. Hasegawa, Kishino and Yano 1985."""
    return gtr((1.0, kappa, 1.0, 1.0, kappa, 1.0), frequencies)


def gtr(exchangeabilities: Sequence[float] = (1.0,) * 6, frequencies: Sequence[float] = UNIFORM) -> Tensor:
    """The general time-reversible model, Q[y, x] = r_xy π_y. Tavaré 1986.

    Args:
        exchangeabilities: of AC, AG, AT, CG, CT, GT.
        frequencies: of A, C, G, T.
    """
    import torch

    from discdiff.processes.constructions import reversible

    if len(exchangeabilities) != 6 or len(frequencies) != 4:
        raise ConfigError(
            f"got {len(exchangeabilities)} exchangeabilities and {len(frequencies)} frequencies, "
            "expected 6 (AC, AG, AT, CG, CT, GT) and 4 (A, C, G, T)"
        )
    rates = torch.zeros(4, 4, dtype=torch.float64)
    above = torch.triu_indices(4, 4, offset=1)
    rates[above[0], above[1]] = torch.tensor(list(exchangeabilities), dtype=torch.float64)
    return reversible(rates + rates.T, torch.tensor(list(frequencies), dtype=torch.float64))


MODELS: dict[str, Callable[..., Tensor]] = {"JC69": jc69, "K80": k80, "HKY85": hky85, "GTR": gtr}
