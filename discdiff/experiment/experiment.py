"""One YAML file = one constructor call: `Experiment`.

    domain: dna                                      # an entry point's name, or {class_path: …, init_args: {…}}
    data: {train: promoters.fasta}
    network: {class_path: Transformer, init_args: {dim: 128, depth: 4}}

Every key has a default but `domain` and `data.train`. Sizes flow domain → process → network, so that no number is
written twice.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from discdiff.constraints import Unconstrained
from discdiff.data.base import Dataset
from discdiff.data.faults import SKIPPED, RefusedError, write_faults
from discdiff.data.files import is_hub
from discdiff.data.splits import Parts
from discdiff.data.vocabulary import learn_vocabulary
from discdiff.domain import Domain, domain_names
from discdiff.errors import ConfigError, DiscdiffError
from discdiff.experiment import configuration
from discdiff.experiment.held_out import keep_split
from discdiff.experiment.settings import Data, Training
from discdiff.losses import AnyOrder, Loss
from discdiff.losses.base import check_loss
from discdiff.model import Diffusion
from discdiff.networks.base import Network
from discdiff.networks.transformer import Transformer
from discdiff.parameterizations import Conditional, Parameterization
from discdiff.pipeline.results import SamplingDefaults
from discdiff.processes import Absorbing, Process
from discdiff.samplers.base import check_sampler
from discdiff.schedules import LogLinear, Schedule
from discdiff.training import FitResult, fit


@dataclass
class Experiment:
    """Data, model, objective and training, ready to run.

    Attributes:
        domain: what the sequences are: an installed domain's name.
        data: the files.
        process: the forward process, given the number of tokens.
        network: the network, given the number of states.
        schedule: noise over time.
        parameterization: what the network's logits mean.
        loss: the objective.
        training: how long and how to train.
        sampling: defaults of `discdiff sample` and `infill`.
        seed: of all randomness; the network's, too, unless it states its own.
        text: the resolved configuration, kept in the run folder.
    """

    domain: Domain
    data: Data
    process: Callable[[int], Process] = Absorbing
    network: Callable[[int], Network] = Transformer
    schedule: Schedule = field(default_factory=LogLinear)
    parameterization: Parameterization = field(default_factory=Conditional)
    loss: Loss = field(default_factory=AnyOrder)
    training: Training = field(default_factory=Training)
    sampling: SamplingDefaults = field(default_factory=SamplingDefaults)
    seed: int = 0
    text: str | None = field(default=None, init=False, repr=False)

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        *,
        values: Mapping[str, Any] | None = None,
        overrides: Iterable[str] = (),
    ) -> Experiment:
        """Read a configuration.

        Args:
            path: a YAML file, or None.
            values: nested values that take precedence over the file's.
            overrides: command-line words such as `--training.max_steps 100`, which take precedence over all.

        Raises:
            ConfigError: with the full path of a key that is unknown, missing or of the wrong type.
        """
        stated = {} if path is None else configuration.read_yaml(path)
        stated = configuration.merge(stated, values or {})
        stated = configuration.merge(stated, configuration.overrides(overrides, cls))
        try:
            return cls._build(stated)
        except DiscdiffError as error:
            raise ConfigError(str(error) if path is None else f"{path}: {error}") from error

    @classmethod
    def _build(cls, stated: Mapping[str, Any]) -> Experiment:
        import jsonargparse

        values = configuration.resolve(configuration.merge(DEFAULTS, stated), cls)
        if not values.get("domain"):
            raise ConfigError(f"domain: missing; installed are {', '.join(domain_names())}")
        if not (isinstance(values.get("data"), Mapping) and values["data"].get("train")):
            raise ConfigError("data.train: missing; name the file to learn from")
        if isinstance(values.get("seed"), int) and "seed" in configuration.arguments(values["network"]["class_path"]):
            values["network"]["init_args"].setdefault("seed", values["seed"])
        parser = jsonargparse.ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(cls, None)
        with warnings.catch_warnings():
            # jsonargparse's notices on its own next version
            warnings.simplefilter("ignore")
            try:
                parsed = parser.parse_object(values)
                text = parser.dump(parsed, skip_none=False)
                built = parser.instantiate(parsed)
            except DiscdiffError:
                raise
            except (jsonargparse.ArgumentError, TypeError, ValueError, KeyError) as error:
                raise ConfigError(_plain_message(error)) from error
        experiment = cls(**vars(built))
        experiment.text = f"# resolved by discdiff; `discdiff train --config` reads it again\n{text}"
        return experiment

    # ---- what it does ------------------------------------------------------------------------------------------------
    def build(self, vocab_size: int, num_labels: int | None = None) -> Diffusion:
        """The model for a vocabulary and a number of classes.

        Raises:
            IncompatibleError: the parts do not fit together.
        """
        process = self.process(vocab_size)
        process.fit(rate_matrix=self.domain.rate_matrix)
        network: Callable[..., Network] = self.network
        if num_labels is not None and _takes_labels(network):
            network = functools.partial(network, num_labels=num_labels)
        model = Diffusion(network(process.num_states), process, self.schedule, self.parameterization)
        check_loss(self.loss, model)
        if self.sampling.sampler is not None:
            check_sampler(self.sampling.sampler, model, Unconstrained())
        return model

    def read(self, *, progress: bool = False) -> Parts[Dataset]:
        """The training, validation and test sets; learns the domain's vocabulary, where it has one to learn.

        A test set of its own file is not read here.

        Args:
            progress: show progress on standard error while large files are encoded.
        """
        path = self.data.path("train")
        assert path is not None, "a training set is required"
        if path.exists() or is_hub(path):
            learn_vocabulary(
                self.domain, path, self.data.reader_options("train"), cache=self.data.cache, on_error=self.data.on_error
            )
        if self.data.split is not None:
            return self.data.parts(self.domain, seed=self.seed, progress=progress)
        train = self.data.read(self.domain, "train", progress=progress)
        valid = None
        if self.data.path("valid") is not None:
            valid = self.data.read(self.domain, "valid", label_names=train.label_names, progress=progress)
        elif self.data.valid_fraction > 0:
            train, valid = train.split(self.data.valid_fraction, seed=self.seed)
        return Parts(train, valid, None)

    def run(
        self, folder: str | Path | None, *, resume: bool = False, overwrite: bool = False, progress: bool = True
    ) -> FitResult:
        """Read the data, build the model, train it, write the run folder. Arguments are those of `discdiff.fit`."""
        self._check()
        try:
            parts = self.read(progress=progress)
        except RefusedError as error:
            if folder is not None:  # not in it: there is no run yet
                listing = Path(folder).with_name(f"{Path(folder).name}.{SKIPPED}")
                listing.parent.mkdir(parents=True, exist_ok=True)
                write_faults(error.faults, listing)
                error.args = (f"{error}\n  all of them are listed in {listing}",)
            raise
        train, valid = parts.train, parts.valid
        train.notes.extend(parts.notes)
        if (longest := int(train.model_lengths.max())) > LONG:
            train.notes.append(
                f"the longest sequence has {longest:,} tokens, and attention takes time with the square of that: a "
                "step may take hours. data.length with data.on_long=crop or skip cuts them; data.windows is for genomes"
            )
        keep_split(parts, folder, resume=resume, overwrite=overwrite)
        model = self.build(train.vocab_size, None if train.label_names is None else len(train.label_names))
        model.process.fit(counts=train.token_counts)
        return fit(
            model,
            train,
            valid=valid,
            loss=self.loss,
            sampler=self.sampling.sampler,
            sampler_steps=self.sampling.steps,
            folder=folder,
            resume=resume,
            overwrite=overwrite,
            config=self.text,
            sampling_defaults=self.sampling.to_json(),
            seed=self.seed,
            progress=progress,
            **vars(self.training),
        )

    def _check(self) -> None:
        """Refuse, before data are read, parts that do not fit together; possible where the vocabulary is known."""
        try:
            size = self.domain.vocab_size
        except DiscdiffError:
            return
        self.build(size + self.data.end_token)


LONG = 16_384  # tokens; beyond it, what a sequence costs is said

DEFAULTS: dict[str, Any] = {
    "process": {"class_path": "Absorbing"},
    "network": {"class_path": "Transformer"},
    "schedule": {"class_path": "LogLinear"},
    "parameterization": {"class_path": "Conditional"},
    "loss": {"class_path": "AnyOrder"},
}


def _takes_labels(network: Callable[..., Network]) -> bool:
    """Whether the number of classes is left for the data to say: a configured network without one."""
    if isinstance(network, functools.partial):
        return "num_labels" in network.keywords and network.keywords["num_labels"] is None
    return network is Transformer


def _plain_message(error: Exception) -> str:
    """jsonargparse's message in one line: the full key, what was got, what was expected."""
    text = " ".join(str(error).split())
    refused = re.search(r"Errors: - (?P<reason>split: .+?) - Expected a <class 'NoneType'>", text)
    if refused:  # what the split's own check says
        return f"data.{refused['reason']}"
    keys = re.findall(r'Parser key "([^"]+)"', text)
    one = re.search(r"Expected an? (?P<expected>.+?)\. Got value: (?P<got>.+?)(?:\. Got value: |$)", text)
    several = re.search(r"Subtypes: \[(?P<expected>.+?)\] Errors: .* Given value: (?P<got>.+)$", text)
    wrong = several or one
    if not keys or not wrong:
        return text
    if wrong["got"].lower() in ("nan", ".nan") and "float" in wrong["expected"]:
        return f"{'.init_args.'.join(keys)}: got nan, expected a number"
    expected = re.sub(r"<class '(\w+)'>|typing\.", r"\1", wrong["expected"])
    expected = expected.replace("Literal", "one of ").replace("dict[str, Any]", "a mapping").replace("NoneType", "null")
    if several:
        expected = " or ".join(expected.split(", "))
    return f"{'.init_args.'.join(keys)}: got {wrong['got']}, expected {expected}"


__all__ = ["Experiment"]
