"""Prepares the `mpo` command's surroundings: streams, signals, home folders of libraries, and the module path."""

import atexit
import codecs
import contextlib
import errno
import io
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.own_packages import own_path

if TYPE_CHECKING:
    from typing_extensions import Buffer

_PLAIN = {"→": "->", "…": "...", "×": "x", "–": "-", "✓": "x", "≥": ">=", "≤": "<="}


def _as_ascii(error: UnicodeError) -> tuple[str, int]:
    """Writes what an encoding lacks as ASCII: letters as JSON escapes them, so that JSON stays JSON."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(_PLAIN.get(letter) or json.dumps(letter)[1:-1] for letter in letters), error.end


codecs.register_error("mpo-ascii", _as_ascii)


class _LastingFile(io.FileIO):
    """A standard stream that outlives its reader: after a failed write it drops what follows, and remembers why.

    A run of hours must not die because the terminal, the pipe or the disk that its lines go to is gone.
    """

    failure: OSError | None = None

    def write(self, data: "Buffer", /) -> int:
        """Writes the bytes; after a failed write, drops them."""
        if self.failure is None:
            try:
                return super().write(data)
            except OSError as error:
                self.failure = error
        return memoryview(data).nbytes


def _lasting(number: int, before: io.TextIOWrapper | None) -> io.TextIOWrapper:
    """Makes a text stream on a descriptor that never raises, whatever the text and even if its reader is gone."""
    encoding = "utf-8" if before is None else before.encoding
    raw = _LastingFile(number, "wb", closefd=False)
    lines = number == 2 or raw.isatty()  # noqa: PLR2004 - stderr
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding, errors="mpo-ascii", line_buffering=lines)


def utf8_names() -> None:
    """Restarts the command in UTF-8 mode where Python would read file names as ASCII, as with LC_ALL=C."""
    if (
        sys.getfilesystemencoding() == "utf-8"
        or os.environ.get("PYTHONUTF8") == "1"
        or sys.stdout is not sys.__stdout__
    ):
        return
    if sys.stdout is not None:
        os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)  # the terminal stays what it is
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - this very command


@contextlib.contextmanager
def lasting_streams() -> Iterator[None]:
    """Makes stdout and stderr last while the command works, and reports what could not be written to stdout.

    Raises:
        SystemExit: stdout took nothing more, with exit code 2. A reader that left, as `head` does, is no error.
    """
    if sys.stdout is not sys.__stdout__ or sys.stderr is not sys.__stderr__:
        yield  # another reader, such as a test, has replaced the streams
        return
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file that is opened would take its place, and get what is printed
            os.open(os.devnull, os.O_RDWR)
    sys.stdout, sys.stderr = _lasting(1, sys.__stdout__), _lasting(2, sys.__stderr__)
    try:
        yield
    finally:
        sys.stdout.flush()
        failure = sys.stdout.buffer.raw.failure  # type: ignore[attr-defined]
        if failure is not None and failure.errno != errno.EPIPE:
            sys.stderr.write(f"mpo: stdout: cannot write ({failure.strerror}). Make space, or redirect the output.\n")
            sys.exit(2)


@contextlib.contextmanager
def signals_caught(numbers: Iterable[int], first: Callable[[int], None]) -> Iterator[None]:
    """Calls `first` at the first of these signals; another one, a second later or more, ends the process at once.

    `timeout` and shells may send one signal twice, to the process and to its group; that counts as one.
    """
    begun: list[float] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        if not begun:
            begun.append(time.monotonic())
            first(number)
        elif time.monotonic() - begun[0] > 1.0:
            os._exit(128 + number)

    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Lets SIGTERM and SIGHUP end the command as Ctrl-C does: unfinished files are removed on the way out.

    The exit code is the signal's, whatever libraries make of the exception on its way: some wrap it in a group or in an
    error of their own, which is not to be reported as a fault.
    """
    received: list[int] = []

    def end(number: int) -> None:
        received.append(number)
        sys.stderr.write(f"mpo: ended by {signal.Signals(number).name}; finished work is saved.\n")
        sys.exit(128 + number)

    # `nohup` has SIGHUP ignored.
    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    with signals_caught(numbers, end):
        try:
            yield
        finally:
            if received:
                sys.exit(128 + received[0])


def usable_homes() -> None:
    """Gives libraries a temporary folder if their own cannot be written or made, as in many containers."""
    home = os.path.expanduser("~")  # noqa: PTH111 - Path.home() raises where there is none
    cache = os.environ.get("XDG_CACHE_HOME") or f"{home}/.cache"
    config = os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    homes = {
        "PREFECT_HOME": f"{home}/.prefect",
        "HF_HOME": f"{cache}/huggingface",
        "MPLCONFIGDIR": f"{config}/matplotlib",
        "MPO_SCRATCH": f"{home}/.cache/mpo",
    }
    places = {name: Path(os.environ.get(name) or usual) for name, usual in homes.items()}
    # A cache of models is of use even if it cannot be written.
    spared = {"HF_HOME"} if places["HF_HOME"].is_dir() else set()
    no_home = not Path(home).is_dir()  # libraries make their own folder there, and not the home
    replaced = [
        name
        for name, place in places.items()
        if name not in spared and ((no_home and place.is_relative_to(home)) or not can_be_written(place))
    ]
    if not replaced:
        return
    folder = tempfile.mkdtemp(prefix="mpo-home-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in replaced:
        if os.environ.get(name):
            sys.stderr.write(f"mpo: {name} {places[name]}: cannot be written; this command uses a temporary folder.\n")
        os.environ[name] = f"{folder}/{name.lower()}"


def can_be_written(folder: Path) -> bool:
    """Returns whether a folder can be written, or made if it does not exist."""
    there = next((place for place in (folder, *folder.parents) if os.path.lexists(place)), None)
    return there is not None and there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def require_writable(place: Path, out: Path) -> None:
    """Rejects the value of `--out`, where `place`, the folder that is to be written, can neither be written nor made.

    Raises:
        BadInputError: it cannot.
    """
    if not can_be_written(place):
        raise BadInputError("cannot write here", where=f"--out {out}", fix="Make space, or choose another folder.")


def own_modules_in_children() -> None:
    """Lets child processes import `flows`, `tasks` and `mpo_core` from this checkout and from nowhere else."""
    os.environ["PYTHONPATH"] = own_path(os.environ.get("PYTHONPATH"))
