"""A real Prefect server with everything deployed, and a real worker, for tests."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import yaml

from flows.server import Up, _start, _wait_for, environment_of
from tests.flows.conftest import LENIENT, small_settings

ROOT = Path(__file__).resolve().parents[1]


ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


class Database(NamedTuple):
    """A PostgreSQL of our own."""

    address: str
    stop: Any
    start: Any


class Server(NamedTuple):
    """A server that is up, and what was sent to it."""

    root: Path
    home: Path
    environment: dict[str, str]

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command of the environment's `bin`, such as `prefect`."""
        path = Path(sys.executable).with_name(command[0])
        done = subprocess.run(
            [path, *command[1:]], cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def runs(self, flow: str) -> list[dict[str, Any]]:
        """Its flow runs, oldest first."""
        query = {"flows": {"name": {"any_": [flow]}}}
        answer = httpx.post(f"{self.environment['PREFECT_API_URL']}/flow_runs/filter", json=query, timeout=30)
        return sorted(answer.raise_for_status().json(), key=lambda run: run["created"])

    def submit(self, **overrides: Any) -> str:
        """Starts `mpo/full-pipeline` and does not wait; the run's id."""
        parameter = f"overrides={json.dumps(overrides)}"
        said = self.run("prefect", "deployment", "run", "mpo/full-pipeline", "-p", parameter).stdout
        return re.search(r"[0-9a-f]{8}-[0-9a-f-]{27}", said)[0]

    def ended(self, run_id: str, *, within: float = 240) -> str:
        """Waits for the end of a run; the type of its last state. A server that is away for a while is asked again."""
        until, state = time.monotonic() + within, "unknown"
        while state not in ENDED:
            assert time.monotonic() < until, f"the run is {state}"
            time.sleep(1)
            with contextlib.suppress(httpx.HTTPError):
                answer = httpx.get(f"{self.environment['PREFECT_API_URL']}/flow_runs/{run_id}", timeout=30)
                state = answer.raise_for_status().json()["state_type"]
        return state

    def checkpoint(self, *, within: float = 120) -> Path:
        """Waits for a new checkpoint of the training that runs."""
        until, begun = time.monotonic() + within, time.time()
        work = self.root / "training" / ".work"
        while True:
            for path in work.glob("*/*/checkpoint-*/complete.json"):
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_mtime > begun:
                        return path.parent
            assert time.monotonic() < until, "no checkpoint"
            time.sleep(0.05)

    def pid(self, name: str) -> int:
        """Of `server` or `worker`."""
        return int(json.loads((self.home / "up.json").read_text())["processes"][name][0])

    def descendants(self, pid: int) -> list[int]:
        """Processes below another."""
        below = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        parents = [tuple(map(int, line.split())) for line in below.splitlines()]
        descendants, todo = [], [pid]
        while todo:
            parent = todo.pop()
            children = [child for child, its in parents if its == parent]
            descendants += children
            todo += children
        return descendants

    def restart(self, name: str, *arguments: str) -> None:
        """Kills `server` or `worker` and starts it again, as a machine that comes back would."""
        state = Up.model_validate_json((self.home / "up.json").read_text())
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid(name), signal.SIGKILL)
        time.sleep(3)
        _start(state, self.home, name, [name, "start", *arguments], self.environment)
        if name == "server":
            _wait_for(state, self.home)

    def summary(self) -> dict[str, Any]:
        return json.loads((self.root / "runs" / "small" / "summary.json").read_text())


def free_port() -> int:
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return int(some.getsockname()[1])


@contextlib.contextmanager
def postgres() -> Iterator[Database]:
    """A PostgreSQL of our own while the context lasts."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not binaries:
        pytest.skip("PostgreSQL is not installed")
    bin_, port = binaries[-1].parent, free_port()
    # It refuses to run as root, and pytest's own folders are closed to others.
    folder = Path(tempfile.mkdtemp(prefix="mpo-postgres-"))
    data = folder / "data"
    become = ["runuser", "-u", "postgres", "--"] if getpass.getuser() == "root" else []
    if become:
        shutil.chown(folder, "postgres", "postgres")

    def call(*command: str | Path) -> None:
        subprocess.run([*become, *map(str, command)], check=True, stdout=subprocess.DEVNULL, cwd=folder)

    call(bin_ / "initdb", "-D", data, "-A", "trust", "-U", "mpo")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"

    def start() -> None:
        call(bin_ / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start")

    def stop() -> None:
        call(bin_ / "pg_ctl", "-D", data, "-m", "fast", "stop")

    start()
    try:
        yield Database(f"postgresql+asyncpg://mpo@127.0.0.1:{port}/postgres", stop, start)
    finally:
        stop()
        shutil.rmtree(folder)


@contextlib.contextmanager
def served(folder: Path, database: Database | None = None, *, webhook: str = "", **changes: Any) -> Iterator[Server]:
    """Server and worker, with the small run as every deployment's default."""
    manifest = yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text())
    settings = small_settings(folder / "root", gate=LENIENT, **changes)
    for deployment in manifest["deployments"]:
        deployment["parameters"] = {"config": settings}
    (folder / "prefect.yaml").write_text(yaml.safe_dump(manifest))
    port, home = free_port(), folder / "home"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    common = environment_of(home, f"http://127.0.0.1:{port}/api")
    environment |= {name: value for name, value in common.items() if name.startswith("PREFECT_")}
    environment |= {"MPO_HEARTBEAT": "30", "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
    environment |= {"NO_COLOR": "1", "COLUMNS": "200", "MPO_WEBHOOK": webhook}
    if database is not None:
        environment["PREFECT_API_DATABASE_CONNECTION_URL"] = database.address
    made = Server(folder / "root", home, environment)
    up = ["--home", str(home), "--port", str(port), "--deployments", str(folder / "prefect.yaml")]
    printed = made.run("python", "-m", "flows.server", "up", *up).stdout
    try:
        assert f"UI: http://127.0.0.1:{port}" in printed
        yield made
    finally:
        made.run("python", "-m", "flows.server", "down", "--home", str(home))
