"""Named rate matrices: looking one up, and saying what there is."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from discdiff.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor


def named_rates(domain: str, makers: Mapping[str, Callable[..., Tensor]], name: str, options: dict[str, Any]) -> Tensor:
    """The matrix called `name`.

    Raises:
        ConfigError: no such matrix, or an option that it does not take or that is out of range.
    """
    if name not in makers:
        raise unknown_rates(domain, makers, name)
    try:
        return makers[name](**options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"rate matrix {name!r}: {error}") from error


def unknown_rates(domain: str, known: Iterable[str], name: str) -> ConfigError:
    """The error that lists a domain's matrices."""
    names = sorted(known)
    near = difflib.get_close_matches(name.upper(), names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ConfigError(f"the domain {domain!r} has no rate matrix {name!r}; it has {', '.join(names)}.{hint}")
