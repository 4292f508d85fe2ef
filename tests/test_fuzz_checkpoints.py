"""A short run of the fuzz of both loaders; the long one is `benchmarks/fuzz_checkpoints.py`."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fuzz_checkpoints import Subject, attempt


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return Subject(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("kind", ["folder", "signed", "checkpoint", "packed"])
def test_equal_or_refused(subject: Subject, kind: str) -> None:
    ended = set()

    @settings(max_examples=40)
    @given(st.integers(0, 2**40))
    def tries(seed: int) -> None:
        ended.add(how := attempt(subject.kinds[kind], str(seed), 20.0))
        assert how in ("refused", "equal", "loaded")

    tries()
    assert "refused" in ended


def test_unchanged_is_equal(subject: Subject) -> None:
    assert subject.load(subject.files)
    subject.path.write_bytes(subject.checkpoint)
    assert subject.same_state()


def test_failures_are_seen(subject: Subject) -> None:
    def fails(_: object) -> bool:
        raise KeyError("x")

    def hangs(_: object) -> bool:
        while True:
            pass

    assert "KeyError" in attempt(fails, "0", 1.0)
    assert attempt(hangs, "0", 0.05) == "slower than 0.05 s"
    assert attempt(lambda _: False, "0", 1.0) == "loaded, but not what was saved"
