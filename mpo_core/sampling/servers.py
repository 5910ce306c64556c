"""Starts a sampling server for one model, one server at a time, and ends it when it is not needed any more.

It runs as long as tasks use it, and five minutes longer for the next one. It ends earlier when another model is to be
served, training needs the memory, a task fails, or this process ends in any way.
"""

import atexit
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx

from mpo_core.contract.errors import BadInputError
from mpo_core.http.address import ServiceUrl
from mpo_core.models import forgetting

_IDLE = 300.0
"""Seconds for which an unused server goes on running."""
_GRACE = 30.0
"""Seconds that the supervisor has to end the server."""
_POLL = 0.5
"""Seconds between two checks whether the server is ready."""
_OK, _NO_SUCH_PAGE = 200, 404


class _Server:
    """A running server: its address, its log, and the process that supervises it."""

    def __init__(self, command: tuple[str, ...], folder: Path) -> None:
        self.key, self.users = (command, folder), 0
        port = _free_port()
        self._home = f"http://127.0.0.1:{port}"
        self.url = ServiceUrl(f"{self._home}/v1")
        handle, log = tempfile.mkstemp(
            prefix="mpo-server-", suffix=".log"
        )  # readable by the user alone, since it may hold prompts
        self.log = Path(log)
        filled = [part.replace("{model}", str(folder)).replace("{port}", str(port)) for part in command]
        supervisor = Path(__file__).with_name("supervise.py")
        with os.fdopen(handle, "wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(supervisor), *filled],
                stdin=subprocess.PIPE,  # nothing is written to it; closing it ends the server
                stdout=output,
                stderr=output,
                env={name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}},
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        """Whether the server is running."""
        return self._process.poll() is None

    def wait_until_ready(self, patience: float, beat: Callable[[], None]) -> None:
        """Waits until the server answers, at most `patience` seconds.

        Raises:
            BadInputError: the server ended, or did not answer in time.
        """
        deadline = time.monotonic() + patience
        with httpx.Client(trust_env=False, timeout=5.0) as client:
            while not self._is_ready(client):
                if not self.alive:
                    raise self._failure(f"ended with code {self._process.returncode} before it answered")
                if time.monotonic() > deadline:
                    raise self._failure(f"did not answer within {patience:g} seconds")
                beat()
                time.sleep(_POLL)

    def _is_ready(self, client: httpx.Client) -> bool:
        try:
            status = client.get(f"{self._home}/health").status_code
            if status == _NO_SUCH_PAGE:
                status = client.get(f"{self.url}/models").status_code
        except httpx.HTTPError:
            return False
        return status == _OK

    def _failure(self, what: str) -> BadInputError:
        return BadInputError(
            f"the server of sampling.backend.command {what}",
            where=f"its log {self.log}",
            fix="Read the log, or run the command by hand; where it only needs more time, raise "
            "sampling.backend.start_timeout.",
        )

    def stop(self, *, keep_log: bool) -> None:
        """Ends the server and everything that it has started."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        if not keep_log:
            self.log.unlink(missing_ok=True)


_changed = threading.Condition()
_current: _Server | None = None
_timer: threading.Timer | None = None


@contextlib.contextmanager
def running_server(
    command: Sequence[str], folder: Path, *, patience: float, beat: Callable[[], None]
) -> Iterator[tuple[ServiceUrl, Path]]:
    """Runs a server for a model while the context lasts, and gives its address and the path of its log.

    `{model}` and `{port}` in the command are filled in, and it has `patience` seconds to become ready. What `beat`
    raises ends the start.

    Raises:
        BadInputError: the server does not start; the log's path is in the message.
    """
    server = _acquire((tuple(command), folder), patience, beat)
    failed = True
    try:
        yield server.url, server.log
        failed = False
    finally:
        _release(server, failed=failed)


def stop_idle_server() -> None:
    """Ends the server that runs, if no task is using it."""
    with _changed:
        if _current is not None and not _current.users:
            _stop(keep_log=False)


def _acquire(key: tuple[tuple[str, ...], Path], patience: float, beat: Callable[[], None]) -> _Server:
    global _current  # noqa: PLW0603 - one device, one server
    with _changed:
        while _current is not None and _current.key != key and _current.users:
            _changed.wait(1.0)
            beat()
        if _current is not None and (_current.key != key or not _current.alive):
            _stop(keep_log=not _current.alive)
        if _current is None:
            _current = _Server(*key)
            try:
                _current.wait_until_ready(patience, beat)
            except BaseException:
                _stop(keep_log=True)
                raise
        _current.users += 1
        return _current


def _release(server: _Server, *, failed: bool) -> None:
    global _timer  # noqa: PLW0603 - one device, one server
    with _changed:
        server.users -= 1
        if server is _current and not server.users:
            if failed:
                _stop(keep_log=True)
            else:
                if _timer is not None:
                    _timer.cancel()
                _timer = threading.Timer(_IDLE, stop_idle_server)
                _timer.daemon = True
                _timer.start()
        _changed.notify_all()


def _stop(*, keep_log: bool) -> None:
    global _current  # noqa: PLW0603 - one device, one server
    if _current is not None:
        _current.stop(keep_log=keep_log)
    _current = None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


forgetting.append(stop_idle_server)
atexit.register(lambda: _stop(keep_log=False))
