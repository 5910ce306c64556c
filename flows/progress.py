"""Progress of a run: live bars in a terminal, one per kind of task; elsewhere a line per stage and every 30 seconds."""

import contextlib
import threading
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from flows.progress_lines import Lines
from mpo_core.contract.errors import BadInputError
from tasks.stage import Event, listeners


class Board:
    """Live progress bars on a terminal, one per kind of task."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description:<18}", markup=False),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=console,
            refresh_per_second=4,
        )
        self._bars: dict[str, TaskID] = {}
        self._cached: dict[str, int] = {}
        self._guard = threading.Lock()

    def submitted(self, stage: str, label: str = "", size: int = 1) -> None:  # noqa: ARG002 - as `Lines` has it
        """Adds one task to the total of a stage's bar, and the bar if there is none."""
        with self._guard:
            if stage not in self._bars:
                self._bars[stage] = self.progress.add_task(stage, total=0, note="", start=False)
            bar = self._bars[stage]
            self.progress.update(bar, total=(self._task_total(bar)) + 1)

    def settled(self, stage: str, label: str = "", *, cached: bool) -> None:  # noqa: ARG002 - as `Lines` has it
        """Advances a stage's bar by one ended task; `cached` says whether the cache had its result."""
        with self._guard:
            bar = self._bars[stage]
            self.progress.start_task(bar)
            self._cached[stage] = self._cached.get(stage, 0) + cached
            note = f"{self._cached[stage]} from cache" if self._cached[stage] else ""
            self.progress.update(bar, advance=1, note=note)
            if self.progress.tasks[bar].finished:
                self.progress.stop_task(bar)

    def heard(self, event: Event) -> None:
        """Shows beside the stage's bar how far a running task is."""
        with self._guard:
            bar = self._bars.get(event.verb)
            if bar is None:
                return
            self.progress.start_task(bar)
            if event.kind == "progress":
                self.progress.update(bar, note=f"{event.label} {event.done}/{event.total}")

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Shows the bars while the context lasts."""
        with self.progress.live:
            try:
                yield
            except BadInputError:
                self.progress.live.transient = True  # removes the bars: the command reports the error in one line
                raise

    def stop(self) -> None:
        """Stops refreshing the bars, and leaves them on the terminal."""
        self.progress.stop()

    def _task_total(self, bar: TaskID) -> float:
        return self.progress.tasks[bar].total or 0


board: Board | Lines | None = None
"""The board of the command that runs in this process, if there is one."""


@contextlib.contextmanager
def show(console: Console) -> Iterator[None]:
    """Shows progress while the context lasts."""
    global board  # noqa: PLW0603 - one terminal, one board
    board = Board(console) if console.is_terminal else Lines(console)
    listeners.append(board.heard)
    try:
        with board.shown():
            yield
    finally:
        listeners.remove(board.heard)
        board = None


@contextlib.contextmanager
def bar(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """Shows the progress of one long task, as a bar or a line every 30 seconds; yields `update(done, total)`."""
    if not console.is_terminal:
        lines = Lines(console)
        lines.submitted(what)
        with lines.shown():
            yield lambda done, total: lines.heard(Event(what, what, "progress", done=done, total=total))
            lines.settled(what, cached=False)
        return
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        refresh_per_second=4,
        transient=True,
    ) as display:
        task = display.add_task(what, total=None)
        yield lambda done, total: display.update(task, completed=done, total=total)
