"""Every published number is compared with ours, or there is a reason why not.

An array counts as compared if some test fails once its numbers are 1% off, its tokens or flags others.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import SHARED, GoldenCase
from tests.golden.replay import Golden, close

HERE = Path(__file__).parent

NOT_COMPARED: dict[tuple[str, str], str] = {
    ("mdlm_transformer_subs", "T*_d3pm_loss"): (
        "the network gives probability to the mask, which our denoisers never do; given that "
        "it is no mask it is `d3pm_masked`, which is compared"
    ),
    ("mdlm_transformer_subs", "T*_d3pm_full"): "the same, plus the reconstruction that is compared for `d3pm_masked`",
    ("radd_transformer_losses", "mask_logit_f64"): (
        "a logit that takes part in nothing and gets no gradient: our conditionals' heads have no column for the mask"
    ),
}
"""(case, arrays): why ours has no such number."""


class OtherCaseError(Exception):
    """A test asked for another case than the one that is looked at."""


class Watched(dict[str, Any]):
    """Arrays that remember which of them were read."""

    def __init__(self, arrays: dict[str, Any]) -> None:
        super().__init__(arrays)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)


@dataclass
class Call:
    """One test with its parameters."""

    name: str
    run: Callable[[Golden], None]
    read: set[str] = field(default_factory=set)


def calls() -> Iterator[Call]:
    """Every other test of this folder that reads reference data, for each of its parameters."""
    for path in sorted(HERE.glob("test_*.py")):
        if path.name == Path(__file__).name:
            continue
        module = import_module(f"tests.golden.{path.stem}")
        for name, test in vars(module).items():
            if not name.startswith("test_") or test.__module__ != module.__name__:
                continue
            if "golden" not in inspect.signature(test).parameters:
                continue  # reads no reference data
            marks = [mark.args for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
            for chosen in itertools.product(*(list(values) for _, values in marks)):
                arguments: dict[str, Any] = {}
                for (names, _), value in zip(marks, chosen, strict=True):
                    arguments |= {names: value} if isinstance(names, str) else dict(zip(names, value, strict=True))
                yield Call(f"{path.stem}::{name}", partial(test, **arguments))


def only(case: GoldenCase) -> Golden:
    def read(name: str) -> GoldenCase:
        if name != case.case["name"]:
            raise OtherCaseError
        return case

    return read


def changed(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Every number off by 1%, up and down by turns, or by 1% of the largest where all are nearly 0."""
    if array.dtype == bool:
        return ~array
    if np.issubdtype(array.dtype, np.integer):
        return np.roll(array, 1) if len(np.unique(array)) > 1 else array + 1
    sign = np.where(np.arange(array.size) % 2, -0.01, 0.01).reshape(array.shape)
    off = array * (1 + sign) if np.any(array) else array + sign
    return off.astype(array.dtype)


def notices(call: Call, case: GoldenCase, name: str) -> bool:
    """Whether the test fails when the array is wrong."""
    try:
        call.run(only(replace(case, data={**case.data, name: changed(case.data[name])})))
    except OtherCaseError:
        return False
    except AssertionError:
        return True
    return False


def unseen(case: GoldenCase, tests: Iterable[Call]) -> list[str]:
    """The outputs of a case that could be wrong without any of the tests failing."""
    readers: list[Call] = []
    for call in tests:
        watched = Watched(case.data)
        try:
            call.run(only(replace(case, data=watched)))
        except OtherCaseError:
            continue
        call.read = watched.read
        readers.append(call)
    wanted = [name for name, about in case.case["arrays"].items() if about["role"] in ("output", "exact")]
    return [name for name in wanted if not any(notices(call, case, name) for call in readers if name in call.read)]


def folders() -> list[str]:
    """Of the reference data, where it is there: one test each."""
    return sorted(path.parent.name for path in (SHARED / "golden").glob("*/case.json")) or ["none"]


@pytest.mark.parametrize("name", folders())
def test_every_output_is_compared(golden: Golden, name: str) -> None:
    case = golden(name)
    listed = [pattern for listed_case, pattern in NOT_COMPARED if listed_case == name]
    missing = unseen(case, calls())
    assert [array for array in missing if not any(fnmatch(array, pattern) for pattern in listed)] == []
    assert [pattern for pattern in listed if not any(fnmatch(array, pattern) for array in missing)] == []


def test_what_is_not_compared_is_seen(golden: Golden) -> None:
    """An output that no test reads, and one that a test reads and never compares."""
    case = golden("sedd_noise")
    arrays = {**case.case["arrays"], "unread": {"role": "output"}, "ignored": {"role": "exact"}}
    data = {**case.data, "unread": np.ones(3), "ignored": np.ones(3)}
    reader = Call("reads", lambda given: close(given("sedd_noise").tensor("ignored"), torch.ones(3).double(), rtol=0.1))
    extended = replace(case, data=data, case={**case.case, "arrays": arrays})
    assert unseen(extended, [*calls(), reader]) == ["unread", "ignored"]
