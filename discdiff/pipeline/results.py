"""What pipelines give back for strings, and their defaults of sampling."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from discdiff.constraints.truncated import check_truncation
from discdiff.description import build, describe
from discdiff.errors import IncompatibleError
from discdiff.guidance import Labels as LabelGuidance
from discdiff.guidance import Temperature
from discdiff.likelihood import Bound
from discdiff.model import Diffusion, Model
from discdiff.pipeline.planning import Plan, Planned, plain
from discdiff.samplers import Certificate, Sampler
from discdiff.samplers.blockwise import default_sampler

Guidance = float | Callable[[Model], Model]
"""γ of label guidance, or what wraps a model, such as `lambda model: Classifier(model, predictor.of(2), 2.0)`."""


@dataclass(frozen=True)
class SequenceScore:
    """The bound on −log p of one string.

    Attributes:
        sequence: the string.
        nats: −log p(sequence | its length), or of a span given the rest: by default an upper bound, an estimate.
        standard_error: Monte Carlo standard error of `nats`.
        units: bases, residues, characters, … in it.
        tokens: tokens that were scored.
        per_token: nats of each of them, or None; a learned end token is in `nats` only.
        symbols: how each of them is shown.
        unit: what `units` counts.
        claim: what `nats` is: "upper bound", "exact in order" or "mixture upper bound".
        method: how it was computed, in one sentence.
    """

    sequence: str
    nats: float
    standard_error: float
    units: int
    tokens: int
    per_token: tuple[float, ...] | None = None
    symbols: tuple[str, ...] = ()
    unit: str = "token"
    claim: str = ""
    method: str = ""

    @property
    def bits_per_unit(self) -> float:
        """`nats` in bits, over `units`."""
        return self.nats / math.log(2) / self.units


@dataclass(frozen=True)
class StringsBound:
    """The bound on −log p of a set of strings, per unit of the domain.

    Attributes:
        bound: per sequence (or per block of a stream), in nats.
        units: bases, residues, characters, … in all.
        unit: what one is called.
    """

    bound: Bound
    units: int
    unit: str

    @property
    def nats_per_unit(self) -> float:
        """Sum of nats over sum of units."""
        return float(self.bound.total.sum()) / self.units

    @property
    def bits_per_unit(self) -> float:
        """`nats_per_unit` / ln 2."""
        return self.nats_per_unit / math.log(2)

    @property
    def standard_error(self) -> float:
        """Monte Carlo standard error of `nats_per_unit`, these strings given."""
        return float(self.bound.standard_errors.square().sum().sqrt()) / self.units


class Samples(list[str]):
    """Strings that were drawn: a list, and what is known of the draws.

    Attributes:
        calls: network evaluations of each.
        certificates: what the schedule of each loses, or empty where that is not known (no profile was used, or the
            model's law was changed).
    """

    def __init__(self, texts: Iterable[str], calls: list[int], certificates: list[Certificate]) -> None:
        super().__init__(texts)
        self.calls, self.certificates = calls, certificates

    @property
    def certificate(self) -> Certificate | None:
        """What they lose on average, given their lengths, or None."""
        return Certificate.mean(self.certificates) if self.certificates else None


@dataclass(frozen=True)
class Method:
    """How to sample: a model, tempered or not, and arguments of `discdiff.sample`."""

    model: Model
    planned: Planned
    top_k: int | None
    top_p: float | None
    particles: int = 1
    reward: Callable[[list[str]], Sequence[float]] | None = None
    reward_strength: float = 1.0
    check: Callable[[str], bool] | None = None
    valid: bool = False
    precision: str | None = None
    compiled: bool = False

    @property
    def sampler(self) -> Sampler:
        """How to get from noise to data."""
        return self.planned.sampler

    @property
    def steps(self) -> int | None:
        """Network calls, or None where the sampler chooses them."""
        return self.planned.steps

    @property
    def changes(self) -> list[str]:
        """What makes the law another than the model's own, which a profile is of."""
        guided, tau = (self.model.model, self.model.tau) if isinstance(self.model, Temperature) else (self.model, 1.0)
        found = {
            "guidance": not isinstance(guided, Diffusion),
            f"temperature {tau:g}": tau != 1.0,
            "top-k": self.top_k is not None,
            "top-p": self.top_p is not None and self.top_p < 1,
            "particles": self.particles > 1,
            "a check": self.check is not None or self.valid,
        }
        return [name for name, here in found.items() if here]


@dataclass
class SamplingDefaults:
    """What `sample` and `infill` do when nothing else is asked for.

    Attributes:
        sampler: how to get from noise to data; None is that of `discdiff.sample`.
        steps: network calls of samplers that take them; None is 128 on a time grid, else one a token.
        temperature: below 1 sharpens the model's choices.
        top_k: draw from the k most likely tokens; None draws from all.
        top_p: draw from the most likely tokens that hold this much of the mass; None draws from all.

    Raises:
        IncompatibleError: `top_k` or `top_p` is out of range.
    """

    sampler: Sampler | None = None
    steps: int | None = None
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        check_truncation(self.top_k, self.top_p)

    def method(
        self,
        model: Model,
        sampler: Sampler | None,
        steps: int | None,
        temperature: float | None,
        top_k: int | None,
        top_p: float | None,
        guidance: Guidance = 1.0,
        *,
        plan: Plan = plain,
    ) -> Method:
        """What is asked for, and these defaults where nothing is; `plan` makes the sampler follow a grid."""
        made: object = sampler or self.sampler or default_sampler(model)
        if not isinstance(made, Sampler):
            raise IncompatibleError(
                "sampler", got=f"{made!r}", expected="a sampler", remedy="Such as dd.samplers.FirstHitting(), made."
            )
        planned = plan(sampler, made, steps, self.steps)
        if callable(guidance):
            model = guidance(model)
        elif guidance != 1.0:
            model = LabelGuidance(model, guidance)
        tau = self.temperature if temperature is None else temperature
        return Method(
            model if tau == 1.0 else Temperature(model, tau),
            planned,
            self.top_k if top_k is None else top_k,
            self.top_p if top_p is None else top_p,
        )

    def to_json(self) -> dict[str, Any]:
        """JSON values that `from_json` reads."""
        sampler = None if self.sampler is None else describe(self.sampler)
        numbers = {name: getattr(self, name) for name in ("steps", "temperature", "top_k", "top_p")}
        return {"sampler": sampler, **numbers}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> SamplingDefaults:
        """Read what `to_json` gave; keys may be missing."""
        sampler = saved.get("sampler")
        numbers = {name: saved[name] for name in ("steps", "temperature", "top_k", "top_p") if name in saved}
        return cls(None if sampler is None else build(sampler, Sampler), **numbers)


__all__ = ["Samples", "SamplingDefaults", "SequenceScore", "StringsBound"]
