"""Runs a command until it ends or standard input closes, and ends every process that it has started.

Run as a script by `servers.py`, whose process holds the other end of the pipe: however that process dies, even by
SIGKILL, the pipe closes and the command is ended.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

_GRACE = 15.0
"""Seconds between SIGTERM and SIGKILL."""
_NOT_STARTED = 127


def main(command: list[str]) -> int:
    """Runs a command until it ends or standard input closes, and returns its exit code."""
    try:
        # A session of its own: Ctrl-C does not reach it, and its group is all that it starts.
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        sys.stderr.write(f"cannot start {command[0]}: {error.strerror}\n")
        return _NOT_STARTED
    threading.Thread(target=_end_with_stdin, args=(child,), daemon=True).start()
    try:
        return child.wait()
    finally:
        _signal_group(child, signal.SIGKILL)


def _end_with_stdin(child: subprocess.Popen[bytes]) -> None:
    os.read(sys.stdin.fileno(), 1)  # not through a buffer, whose lock would be held where the interpreter ends
    _signal_group(child, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(_GRACE)
    _signal_group(child, signal.SIGKILL)


def _signal_group(child: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) & 0xFF)
