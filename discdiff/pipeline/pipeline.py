"""`Pipeline`: strings in, strings out."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from discdiff.constraints import Constraint
from discdiff.data.base import Dataset
from discdiff.data.dataset import SequenceDataset
from discdiff.data.encoding import OnLong
from discdiff.data.faults import OnError
from discdiff.data.lengths import LengthModel
from discdiff.domain import Domain
from discdiff.errors import ConfigError, DiscdiffWarning, IncompatibleError, check_type
from discdiff.languages import Language
from discdiff.likelihood import nelbo
from discdiff.model import Diffusion
from discdiff.pipeline.asking import Asked
from discdiff.pipeline.drawing import Drawing, StringCheck, StringReward
from discdiff.pipeline.draws import Draws
from discdiff.pipeline.inputs import Classes, Labels, Rows, constraint_of, pick_device, rows_of
from discdiff.pipeline.likelihoods import How, check_span, likelihood_of, scores_of
from discdiff.pipeline.opening import opened
from discdiff.pipeline.part_formats import FormatName
from discdiff.pipeline.planning import GridChoice, Plan, planned
from discdiff.pipeline.results import Guidance, Method, Samples, SamplingDefaults, SequenceScore, StringsBound
from discdiff.progress import progress as show_progress
from discdiff.randomness import Keys
from discdiff.release.export import push
from discdiff.rules import Rules
from discdiff.run_folder import Run, save_run
from discdiff.samplers import Profile, Sampler, measure_profile

if TYPE_CHECKING:
    from discdiff.pipeline.generating import JobReport


@dataclass
class Pipeline:
    """A trained model together with its domain.

    Attributes:
        model: in evaluation mode.
        domain: strings to tokens and back.
        lengths: how long samples are.
        max_length: content tokens in the longest sequence that the model was trained for.
        label_names: the classes in the order of their numbers, or None.
        defaults: of sampling.
        profile: what revealing several positions at once loses, or None where it has not been measured.
        training: what is known of the training, or None.
        source: the model of the Hugging Face Hub that this was loaded from, with its revision, or None.

    Example:
        >>> pipe = Pipeline.load("runs/promoters")          # doctest: +SKIP
        >>> pipe.infill("N{20}TATAWAW N{30} ATG", 16)       # doctest: +SKIP
    """

    model: Diffusion = field(repr=False)
    domain: Domain
    lengths: LengthModel = field(repr=False)
    max_length: int
    label_names: list[str] | None = None
    defaults: SamplingDefaults = field(default_factory=SamplingDefaults)
    profile: Profile | None = field(default=None, repr=False)
    training: dict[str, Any] | None = field(default=None, repr=False)
    source: str | None = None

    @classmethod
    def of(cls, model: Diffusion, dataset: Dataset) -> Pipeline:
        """A pipeline of a model and the data set that it was trained on."""
        if dataset.domain is None:
            raise ConfigError("a pipeline speaks strings: make the data set of a domain")
        return cls(model.eval(), dataset.domain, dataset.length_model, dataset.length, dataset.label_names)

    @classmethod
    def load(
        cls, folder: str | Path, *, revision: str | None = None, device: str | torch.device | None = None
    ) -> Pipeline:
        """Read a run folder, or a model of the Hugging Face Hub.

        Args:
            folder: what `discdiff train`, `discdiff export` or `save` wrote; or `hf://OWNER/NAME`, or
                `hf://OWNER/NAME@REVISION`. Any other name is a local folder, and not looked for on the Hub.
            revision: of the Hub's: a branch, a tag or a commit. Which commit it was stands in `source`.
            device: where to compute; by default a GPU if there is one.

        Raises:
            CheckpointError: the folder is missing, damaged or of another version; or the Hub has no such model.
        """
        run, defaults = opened(folder, revision)
        model = run.model.to(pick_device(device))
        known = run.profile, run.training, run.source
        return cls(model, run.domain, run.lengths, run.max_length, run.label_names, defaults, *known)

    def save(self, folder: str | Path) -> None:
        """Write a run folder that `load` reads."""
        save_run(self._run(), folder)

    def push_to_hub(self, name: str, *, private: bool = False, message: str | None = None) -> str:
        """Put the model on the Hugging Face Hub, as `OWNER/NAME`, with a model card; gives the name that pins it.

        Log in first, with `hf auth login`. The card says what the pipeline knows; of a run folder `discdiff push` says
        more: the training's command, data and bound. Arguments and errors are those of `discdiff.release.export.push`.
        """
        return push(self._run(), name, private=private, message=message)

    def _run(self) -> Run:
        known = self.profile, self.training, self.source
        sampling = self.defaults.to_json()
        return Run(self.model, self.domain, self.lengths, self.max_length, self.label_names, sampling, *known)

    def sample(
        self,
        n: int,
        *,
        length: int | None = None,
        rules: Rules | None = None,
        constraint: Constraint | Language | None = None,
        check: StringCheck | None = None,
        valid: bool = False,
        sampler: Sampler | None = None,
        steps: int | None = None,
        grid: GridChoice | None = None,
        error: float | None = None,
        seed: int = 0,
        labels: Labels = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        guidance: Guidance = 1.0,
        particles: int = 1,
        reward: StringReward | None = None,
        reward_strength: float = 1.0,
        precision: str | None = None,
        compiled: bool = False,
        batch_size: int = 64,
        progress: bool = False,
    ) -> Samples:
        """New strings. String i depends on the seed and on i alone, not on `n` or `batch_size`.

        Args:
            n: how many.
            length: tokens in each; by default drawn from the training set's lengths, those that can satisfy what is
                asked.
            rules: what is asked of each string, by the domain's names, such as `{"forbid": ["EcoRI"], "gc": "40-60%"}`;
                see `domain.rules`. It holds in every string.
            constraint: a constraint, or language over the domain's tokens, that holds as well.
            check: whether a string will do, for what no rule says: any function; see `constraints.Checked`.
            valid: every string is valid, as `domain.invalid` has it; the domain's own rules help.
            sampler: how to get from noise to data; by default the run's.
            steps: network calls, for samplers that take them; by default the run's.
            grid: where these calls are. "optimised": the blocks that lose least by the run's profile, or, with the
                sampler `Ancestral`, the times; "uniform" and "cosine" blocks (`AnyOrder`); "bisection" (`Bisection`;
                exact on Markov data, else without a certificate); "time", "noise" or "mask_fraction" for samplers on a
                time grid.
            error: nats that a sequence may lose against one position a call, instead of steps: the run's profile
                chooses the number of calls, and the samples carry the certificate. For the model's own law: free
                samples, or a template of given positions, where the figure is an estimate.
            seed: any integer.
            labels: a class, by name or number, or one a string; by default all classes in turn.
            temperature: below 1 sharpens the model's choices; by default the run's.
            top_k: draw each token from the k most likely ones; by default the run's.
            top_p: draw each token from the most likely ones that hold this much of the mass; by default the run's, and
                1 draws from all.
            guidance: γ, how much the label is stressed: 1 is the conditional model; see `guidance.Labels`. Or what
                wraps the model: `lambda model: guidance.Classifier(model, predictor.of(2), 2.0)`.
            particles: runs for each string, weighed and resampled, for the law itself instead of a proposal for it, and
                for rewards; see `discdiff.sample`.
            reward: a number for each of some strings; the law is tilted by e^(reward_strength · reward).
            reward_strength: how much.
            precision: "bfloat16" is quicker on recent processors, and rounds; see `discdiff.sample`.
            compiled: run the network through torch's compiler, for many samples.
            batch_size: runs at once.
            progress: show progress on standard error.

        Raises:
            IncompatibleError: the length, labels, sampler or steps do not fit the model.
        """
        asked = Asked(
            length=length, rules=rules, constraint=constraint, check=check, valid=valid, sampler=sampler,
            steps=steps, grid=grid, error=error, seed=seed, labels=labels, temperature=temperature, top_k=top_k,
            top_p=top_p, guidance=guidance, particles=particles, reward=reward, reward_strength=reward_strength,
            precision=precision, compiled=compiled, batch_size=batch_size,
        )  # fmt: skip
        return self.draws(asked)(n, progress=progress)

    def infill(
        self,
        template: str,
        n: int = 1,
        *,
        rules: Rules | None = None,
        constraint: Constraint | Language | None = None,
        check: StringCheck | None = None,
        valid: bool = False,
        sampler: Sampler | None = None,
        steps: int | None = None,
        grid: GridChoice | None = None,
        error: float | None = None,
        seed: int = 0,
        labels: Labels = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        guidance: Guidance = 1.0,
        particles: int = 1,
        reward: StringReward | None = None,
        reward_strength: float = 1.0,
        precision: str | None = None,
        compiled: bool = False,
        batch_size: int = 64,
        progress: bool = False,
    ) -> Samples:
        """Strings that a template leaves open, in the domain's template language; what it states holds in each.

        A gap of variable length has its length drawn first, from the training set's lengths that fit.

        Arguments are those of `sample`.

        Raises:
            TemplateError: the template cannot be read, or is longer than what the model was trained on.
        """
        check_type("infill: template", template, str, "Ask for several in turn.")
        asked = Asked(
            template=template, rules=rules, constraint=constraint, check=check, valid=valid, sampler=sampler,
            steps=steps, grid=grid, error=error, seed=seed, labels=labels, temperature=temperature, top_k=top_k,
            top_p=top_p, guidance=guidance, particles=particles, reward=reward, reward_strength=reward_strength,
            precision=precision, compiled=compiled, batch_size=batch_size,
        )  # fmt: skip
        return self.draws(asked)(n, progress=progress)

    def sample_to(
        self,
        folder: str | Path,
        n: int,
        *,
        template: str | None = None,
        format: FormatName = "parquet",  # noqa: A002 - as for files that are read
        part_size: int | None = None,
        shard: tuple[int, int] | None = None,
        devices: int = 1,
        tag: str | None = None,
        progress: bool = False,
        **arguments: Any,
    ) -> JobReport:
        """New strings by the million, in part files: made by any number of processes, which may be killed at will.

        The job is cut into parts of fixed ranges. Each appears whole or not at all, and follows from `job.json` and its
        number alone: the same call goes on with a job that was interrupted, and several processes that make it share
        the work. `read_parts` reads the strings back.

        Args:
            folder: a new or empty one, or that of the same job; `n` may have grown.
            n: how many strings.
            template: what is known of each, as in `infill`.
            format: "parquet", "jsonl", or "own", the domain's (sequences and names alone).
            part_size: strings in a part, which is what a kill loses; by default 32 batches.
            shard: (i, n) makes every n-th part, from the i-th on, where the file system has no locks.
            devices: processes on this machine, a GPU each where there are GPUs. Processes of torchrun and srun need
                none of this: they find their place.
            tag: a name for `constraint`, `check`, `reward` or a function as `guidance`, which `job.json` cannot hold.
            progress: show progress on standard error.
            **arguments: those of `sample`; `labels` is one class, or none.

        Raises:
            IncompatibleError: the folder holds another job (names what differs), or see `sample`.
            DiscdiffError: the folder holds something else, or the disk is full; the finished parts stand.
            KeyboardInterrupt: after Ctrl-C; the part at hand is lost, all others stand.
        """
        from discdiff.pipeline.generating import Division, generate

        asked = Asked.of({"template": template, **arguments})
        asked.to_json()  # refused before the constraint is built
        division = Division(format, part_size, shard, devices, tag)
        return generate(self, Path(folder), n, asked, self.draws(asked), division, progress=progress)

    def draws(self, asked: Asked) -> Draws:
        """What `sample`, `infill` and jobs draw from: strings by their numbers.

        Raises:
            IncompatibleError: see `sample`.
        """
        length = asked.length
        if length is not None and not 1 <= length <= self.max_length:
            raise IncompatibleError(
                "length", got=length, expected=f"1 to {self.max_length}, what the model was trained on",
                remedy="Ask for a length in this range, or train on longer sequences.",
            )  # fmt: skip
        if asked.valid and self.domain.every_valid and self.lengths.end is None:
            warnings.warn(
                f"valid asks for nothing here: every string of the domain {self.domain.name!r} is valid",
                DiscdiffWarning,
                stacklevel=3,
            )
        constraint = constraint_of(
            self.domain,
            asked.template,
            asked.rules,
            asked.constraint,
            longest=self.max_length,
            length=length,
            valid=asked.valid,
        )
        if asked.template is not None:
            length = constraint.length
        method = asked.steer(self._method(asked, self._plan(asked.grid, asked.error, length)))
        how = {"seed": asked.seed, "labels": asked.labels, "batch_size": asked.batch_size}
        return self._drawing.prepare(constraint, length, method, **how)  # type: ignore[arg-type]

    def _method(self, asked: Asked, plan: Plan) -> Method:
        guidance = asked.guidance
        if not callable(guidance) and guidance != 1.0 and self._num_labels is None:
            raise IncompatibleError(
                "guidance",
                got=f"{guidance:g}",
                expected="none: the model has no labels",
                remedy="Train one with labels, `discdiff train ... --data.label_column COLUMN --loss LabelDropout`, "
                "or guide by a classifier.",
            )
        how = asked.sampler, asked.steps, asked.temperature, asked.top_k, asked.top_p, guidance
        return self.defaults.method(self.model, *how, plan=plan)

    def _plan(self, grid: GridChoice | None, error: float | None, length: int | None) -> Plan:
        law = dict(zip(self.lengths.lengths, self.lengths.counts, strict=True))
        lengths = law if length is None or self.lengths.end is not None else {length: 1}
        return functools.partial(
            planned, grid=grid, error=error, profile=self.profile, model=self.model, lengths=lengths
        )

    def measure_profile(
        self,
        strings: Sequence[str] | SequenceDataset | None = None,
        *,
        n: int = 256,
        seed: int = 0,
        labels: Labels = None,
        batch_size: int = 64,
        progress: bool = False,
    ) -> Profile:
        """Measure what revealing several positions at once loses, for `grid="optimised"` and `error`, and keep it.

        Args:
            strings: held-out ones to measure on; by default the model's own draws, at one network call a token.
            n: how many draws, or strings at most.
            seed: any integer.
            labels: a class, by name or number, or one a string; by default all in turn, or those of a data set.
            batch_size: sequences evaluated at once.
            progress: show progress on standard error.

        Raises:
            IncompatibleError: another process than absorbing, or too few sequences.
        """
        how: dict[str, Any]
        if strings is None:
            lengths = self.lengths.sample(n, Keys(seed, torch.arange(n)))
            classes = Classes(self._num_labels, self.label_names)
            how = {"lengths": lengths, "labels": classes.numbers(labels, n, in_turn=True)}
        else:
            sequences = self.lengths.fill(self._rows(strings, labels).sequences)
            chosen = Keys(seed, torch.arange(len(sequences))).uniform((len(sequences),), "profile", torch.float64)
            how = {"sequences": sequences[chosen.argsort()[:n].sort().values]}
        rows = torch.arange(len(how.get("sequences", range(n))), device=self.model.device)
        with show_progress("measuring", enabled=progress) as report:
            self.profile = measure_profile(
                self.model,
                generator=Keys(seed, rows),
                batch_size=batch_size,
                on_batch=lambda done, total: report(done / total),
                **how,
            )
        return self.profile

    @property
    def _drawing(self) -> Drawing:
        classes = Classes(self._num_labels, self.label_names)
        return Drawing(self.domain, self.lengths, self.max_length, classes, self.model.device)

    @property
    def _num_labels(self) -> int | None:
        count: int | None = getattr(self.model.network, "num_labels", None)
        return count

    def read(
        self, path: str | Path, *, on_long: OnLong = "error", on_error: OnError = "raise", **options: Any
    ) -> SequenceDataset:
        """The sequences of a file, encoded for this model.

        Args:
            path: a file that the domain reads.
            on_long: what to do with sequences longer than what the model was trained on.
            on_error: what to do with records that cannot be used; see `SequenceDataset.read`.
            options: what `domain.read` takes, such as `where` and `label_column`.

        Raises:
            DataError: what is wrong with the file, and where.
        """
        names = self.label_names if "label_column" in options else None
        return SequenceDataset.read(
            self.domain, path, length=self.max_length, on_long=on_long, on_error=on_error, label_names=names, **options
        )

    def score(
        self,
        strings: Sequence[str] | SequenceDataset,
        *,
        samples: int = 8,
        tolerance: float | None = None,
        order: Literal["left_to_right", "random"] | None = None,
        orders: int | None = None,
        span: tuple[int, int] | None = None,
        per_token: bool = False,
        unit: str | None = None,
        seed: int = 0,
        labels: Labels = None,
        batch_size: int = 64,
        progress: bool = False,
    ) -> list[SequenceScore]:
        """−log p of each string (given its length), in nats, with its Monte Carlo standard error: by default a bound.

        Args:
            strings: what to score, or a data set; where the domain's files are streams, long strings are scored in
                blocks.
            samples: noise levels per string; the standard error falls with the root of their number.
            tolerance: draw more noise levels until the standard error of all strings together is at most this many
                nats per token; see `nelbo`.
            order: reveal token by token in this order instead (absorbing): exact, a network call a token.
            orders: the mixture over this many random orders instead (absorbing).
            span: score tokens start .. end − 1 of each string (counted from 0) given all its others.
            per_token: keep what each token costs.
            unit: what to count, of `domain.counters()`: "token" anywhere, "byte" of text; by default the domain's own.
            seed: any integer.
            labels: a class, by name or number, or one a string; by default those of a data set.
            batch_size: strings evaluated at once.
            progress: show progress on standard error.

        Raises:
            DataError: a string that is empty or longer than what the model was trained on, with its number.
            UnknownTokenError: a symbol outside the alphabet.
            IncompatibleError: labels that the model does not have, or none where it needs them; a unit that the domain
                does not have; a span of a stream.
        """
        self.domain.counter(unit)  # refused before anything runs
        rows = self._rows(strings, labels)
        if span is not None:
            check_span(rows, strings, self.domain)
        how = {"order": order, "orders": orders, "span": span, "per_token": per_token}
        with show_progress(f"scoring {len(rows.sequences)}", enabled=progress) as report:
            found = likelihood_of(
                self.model,
                self.lengths.fill(rows.sequences),
                Keys(seed, rows.keys),
                how=How(**how, samples=samples, tolerance=tolerance, batch_size=batch_size),  # type: ignore[arg-type]
                on_batch=lambda done, total: report(done / total),
            )
        return scores_of(rows, found, self.domain, span, unit)

    def bound(
        self,
        strings: Sequence[str] | SequenceDataset,
        *,
        samples: int = 8,
        tolerance: float | None = None,
        unit: str | None = None,
        seed: int = 0,
        labels: Labels = None,
        batch_size: int = 64,
        progress: bool = False,
    ) -> StringsBound:
        """An upper bound on −log p of a set of strings. Arguments and errors are those of `score`."""
        count = self.domain.counter(unit)
        rows = self._rows(strings, labels)
        with show_progress(f"scoring {len(rows.sequences)}", enabled=progress) as report:
            bound = nelbo(
                self.model,
                self.lengths.fill(rows.sequences),
                generator=Keys(seed, rows.keys),
                samples=samples,
                tolerance=tolerance,
                batch_size=batch_size,
                on_batch=lambda done, total: report(done / total),
            )
        return StringsBound(bound, sum(map(count, rows.texts, rows.tokens())), unit or self.domain.unit)

    def _rows(self, strings: Sequence[str] | SequenceDataset, labels: Labels) -> Rows:
        classes = Classes(self._num_labels, self.label_names)
        return rows_of(strings, self.domain, labels, classes=classes, max_length=self.max_length)


__all__ = ["Pipeline"]
