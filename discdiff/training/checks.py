"""What `fit` refuses before anything runs or is written."""

from __future__ import annotations

import math

from discdiff.constraints import Unconstrained
from discdiff.data.base import Dataset
from discdiff.errors import ConfigError, IncompatibleError, check_type
from discdiff.losses.base import Loss, check_loss
from discdiff.model import Diffusion
from discdiff.samplers.base import Sampler, check_sampler


def check_parts(model: Diffusion, train: Dataset, valid: Dataset | None, loss: Loss, sampler: Sampler | None) -> None:
    """Refuse data, losses and samplers that the model cannot take.

    Raises:
        IncompatibleError: got, expected, remedy.
    """
    check_type("fit: model", model, Diffusion, "Put a network, process, schedule and parameterization together.")
    check_type("fit: loss", loss, Loss, "Give the loss itself, such as losses.AnyOrder().")
    for name, found in (("train", train), ("valid", valid)):
        if found is not None:
            check_type(f"fit: {name}", found, Dataset, "SequenceDataset.from_sequences(domain, strings) makes one.")
    check_loss(loss, model)
    if sampler is not None:  # else it would be told at the first bound only
        check_sampler(sampler, model, Unconstrained())
    states = model.process.vocab_size
    for name, data in (("train", train), ("valid", valid)):
        if data is not None and (data.vocab_size > states or (data.domain is not None and data.vocab_size != states)):
            raise IncompatibleError(
                f"{name} data and model",
                got=f"{data.vocab_size} tokens in the data" + (", the end token included" if data.end_token else ""),
                expected=f"{states}, as the model's process has",
                remedy="Build the process with the data's vocab_size.",
            )
        if data is not None and data.end_token != train.end_token:
            raise IncompatibleError(
                "valid and train data",
                got="an end token in one of them",
                expected="in both or in none",
                remedy="Read both with the same options.",
            )
        if data is not None and data.label_names != train.label_names:
            raise IncompatibleError(
                "valid and train data",
                got=f"classes {data.label_names}",
                expected=f"{train.label_names}",
                remedy="Read the validation set with label_names=train.label_names.",
            )


def check_numbers(**numbers: float | None) -> None:
    """Refuse what is not positive.

    Raises:
        ConfigError: with the number's name.
    """
    for name, value in numbers.items():
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise ConfigError(f"{name}: got {value}, expected a positive number")


def check_sharding(model: Diffusion, optimizer: str, compiled: bool) -> None:
    """Refuse what cannot be done with parts of weights.

    Raises:
        IncompatibleError: got, expected, remedy.
    """
    if optimizer != "adamw":
        raise IncompatibleError(
            "strategy='fsdp'",
            got=f"optimizer={optimizer!r}, which needs whole matrices",
            expected="optimizer='adamw'",
            remedy="Take it, with about a third of the learning rate, or strategy='ddp'.",
        )
    if compiled:
        raise IncompatibleError(
            "strategy='fsdp'", got="compile=True", expected="compile=False", remedy="Leave it out, or take 'ddp'."
        )
    inside = {id(parameter) for parameter in model.network.parameters()}
    outside = [name for name, parameter in model.named_parameters() if id(parameter) not in inside]
    if outside:
        raise IncompatibleError(
            "strategy='fsdp'", got=f"weights outside the network ({outside[0]})", expected="none", remedy="Take 'ddp'."
        )
