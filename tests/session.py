"""What the processes of a test session share: a folder, a Prefect server, and a process to fork trainings from."""

import atexit
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# The first process makes the folder. When it ends, in whatever way, the pipe `over` closes, which ends the processes
# that `shared_process` has started.
if "MPO_TESTS_SESSION" not in os.environ:
    os.environ["MPO_TESTS_SESSION"] = tempfile.mkdtemp(prefix="mpo-tests-")
    os.mkfifo(Path(os.environ["MPO_TESTS_SESSION"], "over"))
    os.open(Path(os.environ["MPO_TESTS_SESSION"], "over"), os.O_RDWR)
    atexit.register(shutil.rmtree, os.environ["MPO_TESTS_SESSION"], ignore_errors=True)
    os.environ.pop("PREFECT_API_URL", None)
SESSION = Path(os.environ["MPO_TESTS_SESSION"])


def shared_process(script, *arguments):
    """Starts a script that all processes of the session use, unless one of them has; returns the line it printed."""
    from filelock import FileLock

    ready, log = SESSION / f"{script}.ready", SESSION / f"{script}.log"
    with FileLock(SESSION / f"{script}.lock"):
        if not ready.exists():
            command = [sys.executable, "-P", ROOT / "tests" / script, *map(str, arguments)]
            with (SESSION / "over").open("rb") as over, log.open("wb") as err:
                process = subprocess.Popen(
                    command, cwd=ROOT, stdin=over, stdout=subprocess.PIPE, stderr=err, start_new_session=True, text=True
                )
            line = process.stdout.readline().strip()
            assert line, log.read_text()
            ready.write_text(line)
    return ready.read_text()


def lives(pid):
    """Returns whether a process runs; one that has ended and that its parent has not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextlib.contextmanager
def forked_trainings():
    """Forks the trainings that this process starts, unless processes share a model; gives what starts them else."""
    from mpo_core.training import launch

    started = launch._command

    def command(job):
        if job.training.processes > 1 and job.training.parallel != "ddp":
            return started(job)
        address, script = str(SESSION / "forked.socket"), str(ROOT / "tests" / "forked.py")
        shared_process("forked.py", "serve", address)
        return [
            sys.executable,
            "-ISP",
            script,
            "train",
            address,
            str(job.work / "job.json"),
            str(job.training.processes),
        ]

    launch._command = command
    try:
        yield started
    finally:
        launch._command = started
