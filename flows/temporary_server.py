"""Lets Prefect's temporary server end with the process that started it, however that process dies.

Prefect stops it when Python exits, which a SIGKILL prevents: each killed run left a server of 215 MB behind.

`SubprocessASGIServer` (PrefectHQ/prefect#14722) is not public, and used in this file alone: nothing public has the
temporary server's process or its address. It can go when Prefect ends the server with its parent and gives its
address.
"""

import contextlib
import functools
import subprocess
import threading

from prefect.server.api.server import SubprocessASGIServer

# Its input ends when this process does, and with it the last holder of the pipe's other end.
_WATCH = "cat > /dev/null; kill -KILL $0 2> /dev/null"
_watched: dict[int, subprocess.Popen[bytes]] = {}
_lock = threading.Lock()


def end_with_us(pid: int) -> None:
    """Ends the process `pid` as soon as this process is gone."""
    with _lock:
        if pid in _watched:
            return
        _watched[pid] = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, str(pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a signal to our group ends us, and must not end the watch before us
        )


def temporary_address() -> str:
    """Returns the API address of the temporary Prefect server of this process, and starts that server if needed."""
    temporary = SubprocessASGIServer()
    temporary.start()
    return temporary.api_url


@functools.cache
def watch() -> None:
    """Ends the temporary server with this process, whenever Prefect starts it during the flow's call."""
    SubprocessASGIServer()  # makes the single instance before a second thread can make another
    threading.Thread(target=_look_for, daemon=True, name="temporary-server").start()


def _look_for() -> None:
    pause = threading.Event()
    while True:
        process = SubprocessASGIServer().server_process
        if process is not None:
            with contextlib.suppress(
                OSError
            ):  # without a shell the server outlives a killed process, as it does in Prefect
                end_with_us(process.pid)
        pause.wait(0.2)
