"""`Asked`: the arguments of `Pipeline.sample`, as one value that a job can write down."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import Any

from discdiff.constraints import Constraint
from discdiff.description import build, describe
from discdiff.errors import ConfigError, DiscdiffError, check_type
from discdiff.languages import Language
from discdiff.pipeline.drawing import StringCheck, StringReward
from discdiff.pipeline.inputs import Labels
from discdiff.pipeline.planning import GridChoice
from discdiff.pipeline.results import Guidance, Method
from discdiff.rules import Rules
from discdiff.samplers import Sampler

_PRECISIONS = {None: "float32", "bf16": "bfloat16"}
"""Names of one precision are one argument."""


_NUMBERS: dict[type, tuple[str, ...]] = {
    Integral: ("length", "steps", "seed", "top_k", "particles", "batch_size"),
    Real: ("error", "temperature", "top_p", "reward_strength"),
}


@dataclass(frozen=True)
class Asked:
    """What is asked of samples: `Pipeline.sample` explains each argument; `template` is that of `infill`."""

    template: str | None = None
    length: int | None = None
    rules: Rules | None = None
    constraint: Constraint | Language | None = None
    check: StringCheck | None = None
    valid: bool = False
    sampler: Sampler | None = None
    steps: int | None = None
    grid: GridChoice | None = None
    error: float | None = None
    seed: int = 0
    labels: Labels = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    guidance: Guidance = 1.0
    particles: int = 1
    reward: StringReward | None = None
    reward_strength: float = 1.0
    precision: str | None = None
    compiled: bool = False
    batch_size: int = 64

    def __post_init__(self) -> None:
        """Refuse what is no number; those of NumPy become Python's.

        Raises:
            IncompatibleError: names the argument.
        """
        for kind, names in _NUMBERS.items():
            for name in names:
                value = getattr(self, name)
                if value is not None:
                    check_type(f"sample: {name}", value, kind, "See the help of `Pipeline.sample`.")
                    if not isinstance(value, int | float):
                        object.__setattr__(self, name, int(value) if kind is Integral else float(value))

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Asked:
        """From arguments by name.

        Raises:
            ConfigError: one that sampling does not take.
        """
        known = [each.name for each in fields(cls)]
        for name in arguments:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ConfigError(f"sample: no argument {name!r}; known: {', '.join(known)}.{hint}")
        return cls(**arguments)

    def steer(self, method: Method) -> Method:
        """A method with what is asked beside the model and the sampler."""
        return replace(
            method,
            particles=self.particles,
            reward=self.reward,
            reward_strength=self.reward_strength,
            precision=self.precision,
            compiled=self.compiled,
            check=self.check,
            valid=self.valid,
        )

    @property
    def unwritten(self) -> list[str]:
        """Arguments that are given and have no form in a file: functions and languages."""
        given = {name: getattr(self, name) is not None for name in ("constraint", "check", "reward")}
        return [name for name, here in (given | {"guidance": callable(self.guidance)}).items() if here]

    def to_json(self) -> dict[str, Any]:
        """JSON values that `from_json` reads; what is `unwritten` stands as null.

        Raises:
            DiscdiffError: an argument that no file can hold, by its name.
        """
        if self.labels is not None and not isinstance(self.labels, str | int):
            raise DiscdiffError(
                "labels: got one a string; a job takes one class for all, or none for all classes in turn"
            )
        if not -(2**63) <= self.seed < 2**63:
            raise DiscdiffError(f"seed: got {self.seed}, expected an integer of 64 bits")
        saved = {each.name: getattr(self, each.name) for each in fields(self)}
        saved |= dict.fromkeys(self.unwritten)
        saved["sampler"] = None if self.sampler is None else describe(self.sampler)
        saved["precision"] = _PRECISIONS.get(self.precision, self.precision)
        saved["rules"] = {name: _words(value) for name, value in dict(self.rules or {}).items()}
        try:
            return json.loads(json.dumps(saved, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise DiscdiffError(f"sample: an argument cannot be written down ({error})") from error

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Asked:
        """Read what `to_json` gave.

        Raises:
            ConfigError: an argument that sampling does not take, or a sampler that cannot be built.
        """
        made = dict(saved)
        if made.get("sampler") is not None:
            made["sampler"] = build(made["sampler"], Sampler)
        if made.get("guidance", 1.0) is None:
            del made["guidance"]
        return cls.of(made)


def _words(value: object) -> list[str]:
    """A rule's values: one, or several, are the same demand however they are given."""
    each = [value] if isinstance(value, str | int) else list(value)  # type: ignore[call-overload]
    return [str(one) for one in each]


__all__ = ["Asked"]
