"""Ctrl-C, SIGTERM and SIGHUP: running tasks end soon, a training saves a checkpoint, and the command exits."""

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
    """Handles these signals while the context lasts; a second signal, at least a second later, exits at once.

    It does nothing in a run that a Prefect worker started, where it would replace Prefect's own handler of SIGTERM.
    """
    if progress.board is None:
        yield
        return
    console = progress.board.console
    # Prefect's temporary server gets the same signal and is gone; only a lasting one gets a report.
    lasting = PREFECT_API_URL.value() is not None

    def interrupt(number: int) -> None:
        stopping.set()
        report = _REPORT_SECONDS if lasting else 0.0
        threading.Thread(target=_leave, args=(console, 128 + number, report), daemon=True).start()
        if lasting:
            raise KeyboardInterrupt

    with signals_caught(_handled(), interrupt):
        yield


def _handled() -> tuple[int, ...]:
    """Returns the signals that end a run; SIGHUP is not among them where `nohup` has it ignored."""
    both = (signal.SIGINT, signal.SIGTERM)
    return both if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (*both, signal.SIGHUP)


@contextlib.contextmanager
def started(runner: TaskRunner[Any]) -> Iterator[None]:
    """Starts the task runner, and gives SIGTERM back its handler: Ray sets its own, which would kill the process."""
    before = signal.getsignal(signal.SIGTERM)
    with runner:
        if signal.getsignal(signal.SIGTERM) is not before:
            signal.signal(signal.SIGTERM, before)
        yield


def _leave(console: Console, code: int, report: float) -> None:
    """Exits when the running tasks have ended, and Prefect has had up to `report` seconds to tell its server."""
    if progress.board is not None:
        progress.board.stop()
    message = "mpo: stopping; finished work is saved, and the same command continues from there"
    console.print(message, highlight=False, soft_wrap=True)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while running and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(report)
    os._exit(code)
