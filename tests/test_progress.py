"""What progress says where there is no terminal."""

from __future__ import annotations

import pytest

from discdiff.progress import progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that have passed, to be set."""
    now = [100.0]
    monkeypatch.setattr("discdiff.progress.time.monotonic", lambda: now[0])
    return now


def test_shares_alone(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress("scoring 7") as report:
        clock[0] += 5
        report(0.1)
        clock[0] += 15
        report(0.25)
    assert capsys.readouterr().err == "scoring 7: 25% after 20 s\n"


def test_pieces_their_rate_and_the_time_left(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """What was done before counts for the share, not for the rate."""
    with progress("sampling", total=1000, done=0.5) as report:
        clock[0] += 20
        report(0.6)
        clock[0] += 20
        report(0.52)
    assert capsys.readouterr().err.splitlines() == [
        "sampling: 60% after 20 s, 600 of 1,000, 5.0/s, 80 s left",
        "sampling: 52% after 40 s, 520 of 1,000, 0.5/s, 16.0 min left",
    ]


def test_no_time_is_told_from_the_first_pieces(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress("sampling", total=5000) as report:
        clock[0] += 14
        report(0.0008)
        clock[0] += 50
        report(0.0008)
    assert capsys.readouterr().err.splitlines() == [
        "sampling: 0% after 14 s, 4 of 5,000",
        "sampling: 0% after 64 s, 4 of 5,000, 0.1/s, 22.2 h left",
    ]


def test_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("quiet", enabled=False, total=3) as report:
        report(1.0)
    assert capsys.readouterr().err == ""
