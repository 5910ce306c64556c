"""Ctrl-C, SIGTERM and SIGHUP: what works ends soon, a training saves a checkpoint, and the command leaves."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

from prefect.settings import PREFECT_API_URL
from prefect.task_runners import TaskRunner
from rich.console import Console

from flows import progress
from flows.surroundings import signals_caught
from tasks.stage import running, stopping

_PATIENCE_SECONDS = 60.0
_REPORT_SECONDS = 20.0


@contextlib.contextmanager
def guard() -> Iterator[None]:
    """Handles these signals while the context lasts; another one, a second later or more, leaves at once.

    Only for a command that shows its progress: a run that a worker started is ended by Prefect's own
    handler of SIGTERM, which this would replace.
    """
    if progress.board is None:
        yield
        return
    console = progress.board.console
    # Prefect's temporary server hears the same signal and is gone; only a lasting one is told.
    lasting = PREFECT_API_URL.value() is not None

    def interrupt(number: int) -> None:
        stopping.set()
        report = _REPORT_SECONDS if lasting else 0.0
        threading.Thread(target=_leave, args=(console, 128 + number, report), daemon=True).start()
        if lasting:
            raise KeyboardInterrupt

    with signals_caught(_heeded(), interrupt):
        yield


def _heeded() -> tuple[int, ...]:
    """The signals that end a run. `nohup` has SIGHUP ignored, and so it stays."""
    both = (signal.SIGINT, signal.SIGTERM)
    return both if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (*both, signal.SIGHUP)


@contextlib.contextmanager
def started(runner: TaskRunner[Any]) -> Iterator[None]:
    """The runner at work. SIGTERM stays with whoever had it: Ray takes it at its start, and dies of it."""
    before = signal.getsignal(signal.SIGTERM)
    with runner:
        if signal.getsignal(signal.SIGTERM) is not before:
            signal.signal(signal.SIGTERM, before)
        yield


def _leave(console: Console, code: int, report: float) -> None:
    """Waits for the tasks that compute to end, `report` seconds more for Prefect to tell its server, and leaves."""
    if progress.board is not None:
        progress.board.stop()
    message = "mpo: stopping; what is finished is kept, the same command goes on from there"
    console.print(message, highlight=False, soft_wrap=True)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while running and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(report)
    os._exit(code)
