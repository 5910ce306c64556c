"""Ctrl-C: what works ends at its next word, a training saves a checkpoint, and the command leaves."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from prefect.settings import PREFECT_API_URL
from rich.console import Console

from tasks.stage import running, stopping

EXIT_CODE = 130
_PATIENCE_SECONDS = 60.0


@contextlib.contextmanager
def guard(console: Console) -> Iterator[None]:
    """Handles Ctrl-C while the context lasts; a second one leaves at once."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        if stopping.is_set():
            os._exit(EXIT_CODE)
        stopping.set()
        console.print("mpo: stopping; what is finished is kept, the same command goes on from there")
        # Prefect's temporary server hears the same Ctrl-C and is gone: nobody is left to report to.
        if PREFECT_API_URL.value() is None:
            threading.Thread(target=_leave, daemon=True).start()
        raise KeyboardInterrupt

    earlier = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, earlier)


def _leave() -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while running and time.monotonic() < deadline:
        time.sleep(0.1)
    os._exit(EXIT_CODE)
