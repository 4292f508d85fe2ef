"""Why a run stops before its end: Ctrl-C, SIGTERM, or SLURM's word that the time is up."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from discdiff.training.monitor import Monitor


class Stop(IntEnum):
    """What a run was asked to stop by; of several requests the greatest counts."""

    NO = 0
    REQUEUE = 1
    TERMINATE = 2
    INTERRUPT = 3


@contextmanager
def interruptible(monitor: Monitor) -> Iterator[None]:
    """Let the first Ctrl-C end the run after the step at hand; the second interrupts at once.

    Within a SLURM job SIGUSR1, which `#SBATCH --signal=SIGUSR1@120` sends before the time is up, ends it likewise.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_interrupt(*_: object) -> None:
        if monitor.asked == Stop.INTERRUPT or monitor.step is None:
            raise KeyboardInterrupt
        monitor.asked = Stop.INTERRUPT
        monitor.reporter.note("Ctrl-C: stopping after this step (once more to stop at once)")

    def on_time_up(*_: object) -> None:
        monitor.asked = max(monitor.asked, Stop.REQUEUE)

    handlers = {signal.SIGINT: on_interrupt}
    if "SLURM_JOB_ID" in os.environ:
        handlers[signal.SIGUSR1] = on_time_up
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def terminate_after_step(monitor: Monitor) -> None:
    """Let SIGTERM end a run of several processes after the step at hand.

    Lightning's handler, whose place this takes until the training ends, speaks to the other processes from within the
    signal, wherever each of them is: they may then wait for one another for ever.
    """
    if threading.current_thread() is threading.main_thread():

        def on_terminate(*_: object) -> None:
            monitor.asked = max(monitor.asked, Stop.TERMINATE)

        signal.signal(signal.SIGTERM, on_terminate)


def requeue() -> str:
    """Put this SLURM job back into the queue; what happened, in a sentence."""
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    command = shutil.which("scontrol")
    if command is None:
        return f"SLURM job {job} was not requeued: no scontrol on this node's PATH."
    ran = subprocess.run([command, "requeue", job], capture_output=True, text=True, check=False)  # noqa: S603
    return f"SLURM job {job} " + (f"was not requeued: {ran.stderr.strip()}" if ran.returncode else "is requeued.")
