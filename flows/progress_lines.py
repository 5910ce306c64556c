"""Progress for a log, where there is no terminal: a line per stage, and one every 30 seconds."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.console import Console

from mpo_core.contract.errors import BadInputError
from mpo_core.display.wording import duration
from tasks.stage import Event

INTERVAL = 30.0  # seconds between two lines about the same stage


@dataclass
class _Stage:
    """How far the tasks of one stage are: counts, start time and running tasks."""

    total: int = 0
    done: int = 0
    cached: int = 0
    work: int = 0
    """Size of all tasks since the stage was last idle: sampling for evaluation follows sampling for pairs."""
    worked: int = 0
    """Size of those of them that are done."""
    sizes: dict[str, int] = field(default_factory=dict)
    """By label, the size of each task that is not done, such as the number of its prompts."""
    begun: float = 0.0
    """When the first of the later tasks began, by the monotonic clock; 0 before that."""
    pieces: dict[str, Event] = field(default_factory=dict)
    """The last event of each running task, by label."""
    reported: bool = False
    """Whether the line about its end is printed."""

    def seconds_left(self, now: float) -> float | None:
        """Estimates the seconds that are left at the pace so far; None before anything is done."""
        parts = sum(self.sizes.get(name, 1) * piece.done / max(piece.total, 1) for name, piece in self.pieces.items())
        share = (self.worked + parts) / self.work if self.work else 0.0
        return (now - self.begun) * (1 - share) / share if share > 0 and self.begun else None


class Lines:
    """Progress as printed lines, with the methods of `Board`.

    Nothing is printed in the first 30 seconds, so that a command that rejects its input prints one line alone.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._stages: dict[str, _Stage] = {}
        self._waiting: list[str] | None = []
        self._rejected = False
        self._guard, self._over = threading.Lock(), threading.Event()

    def submitted(self, stage: str, label: str = "", size: int = 1) -> None:
        """Adds one task to the total of a stage; its size says how long it takes, compared with the others."""
        with self._guard:
            counted = self._stages.setdefault(stage, _Stage())
            if counted.done == counted.total:
                counted.work, counted.worked, counted.begun = 0, 0, 0.0
            counted.total += 1
            counted.work += size
            counted.sizes[label] = size
            counted.reported = False

    def settled(self, stage: str, label: str = "", *, cached: bool) -> None:
        """Counts a task that has ended; `cached` says whether the cache had its result."""
        with self._guard:
            counted = self._stages[stage]
            size = counted.sizes.pop(label, 1)
            if cached:
                counted.work -= size
            else:
                counted.worked += size
            counted.begun = counted.begun or time.monotonic()
            counted.done += 1
            counted.cached += cached
            if counted.done == counted.total:
                counted.pieces.clear()

    def heard(self, event: Event) -> None:
        """Notes how far a running task is, and reports other stages that have ended."""
        with self._guard:
            if event.verb not in self._stages:
                return
            counted = self._stages[event.verb]
            before = counted.pieces.get(event.label)
            if event.kind == "finished":
                counted.pieces.pop(event.label, None)
            else:
                if before is not None and event.total != before.total and counted.total == 1:
                    counted.begun = time.monotonic()  # another piece of work, at a pace of its own
                counted.pieces[event.label] = event
            counted.begun = counted.begun or time.monotonic()
            self._report_ended(but=event.verb)

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Prints progress lines while the context lasts.

        Lines of the first 30 seconds are printed after them, or at the end of the context if that comes first; not at
        all if the command rejects its input in that time.
        """
        ticker = threading.Thread(target=self._tick, daemon=True, name="progress")
        ticker.start()
        try:
            yield
        except BadInputError:
            self._rejected = self._waiting is not None
            raise
        finally:
            self._over.set()
            ticker.join()
            if not self._rejected:
                with self._guard:
                    self._report_ended()
                    self._release()

    def stop(self) -> None:
        """Prints the lines that are still held back from the first 30 seconds, and ends the regular lines."""
        self._over.set()
        with self._guard:
            self._release()

    def _tick(self) -> None:
        while not self._over.wait(INTERVAL):
            with self._guard:
                self._release()
                self._report_ended()
                now = time.monotonic()
                running = {
                    name: stage for name, stage in self._stages.items() if stage.begun and stage.done < stage.total
                }
                for name, counted in running.items():
                    self._print(f"{name}: {_how_far(counted)}, {_left(counted.seconds_left(now))}")
                if not running:
                    self._print("preparing the next task" if self._stages else "starting")

    def _report_ended(self, but: str = "") -> None:
        """Prints a line for each stage whose tasks have all ended, except the stage `but`, which still works."""
        for name, counted in self._stages.items():
            if name != but and counted.done == counted.total and not counted.reported:
                counted.reported = True
                cached = f", {counted.cached} from cache" if counted.cached else ""
                took = duration(time.monotonic() - counted.begun)
                self._print(f"{name}: {counted.done} of {counted.total} tasks done{cached}, {took}")

    def _print(self, line: str) -> None:
        if self._waiting is not None:
            self._waiting.append(line)
        else:
            self.console.print(line, soft_wrap=True, markup=False, highlight=False)

    def _release(self) -> None:
        lines, self._waiting = self._waiting or [], None
        for line in lines:
            self._print(line)


def _how_far(counted: _Stage) -> str:
    """Returns how many tasks are done, and how far each of the running ones is."""
    pieces = [event for event in counted.pieces.values() if event.total]
    if counted.total == 1 and len(pieces) == 1:
        return f"{pieces[0].done} of {pieces[0].total}"
    running = "".join(f", {event.label} {event.done} of {event.total}" for event in pieces)
    return f"{counted.done} of {counted.total} tasks{running}"


def _left(seconds: float | None) -> str:
    return "time left unknown" if seconds is None else f"about {duration(seconds)} left"
