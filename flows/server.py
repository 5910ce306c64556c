"""A Prefect server of this project with everything deployed on it, and a worker: `make up`, `make down`.

    python -m flows.server up [--port 4200] [--host 127.0.0.1]
    python -m flows.server down
    python -m flows.server deploy [--pool kubernetes]    # on a server that is up already

`.prefect/`, the server's home, records both processes, and `down` stops these two alone.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel
from rich.console import Console

from flows.prefect_api import REPEATED_STATUS, is_healthy
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.own_packages import own_path
from mpo_core.http.proxies import spare_loopback

ROOT = Path(__file__).resolve().parent.parent
POOL, LIMIT = "mpo", "mpo-training"
# Seconds between two heartbeats of a run, 30 or more; after three without one, the run counts as dead.
HEARTBEAT = int(os.environ.get("MPO_HEARTBEAT", "60"))
_START, _STOP = 180.0, 60.0  # seconds
_FILE = "up.json"

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
console = Console()


@app.callback()
def surroundings() -> None:
    """Start and stop a Prefect server of this project, with everything deployed on it and a worker."""
    spare_loopback()  # for the children, too


class Up(BaseModel):
    """The server and the worker that `up` has started."""

    address: str
    """Address of the server's API."""
    processes: dict[str, tuple[int, str]] = {}
    """By name (`server`, `worker`), the process id and the time at which the kernel started the process."""


Home = Annotated[Path, typer.Option(help="Folder of the server's database, logs and notes.")]


@app.command()
def up(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 4200,
    home: Home = ROOT / ".prefect",
    deployments: Annotated[Path, typer.Option(help="YAML file of deployments.")] = ROOT
    / "deployments"
    / "prefect.yaml",
) -> None:
    """Start a server and a worker, deploy everything, and print the UI's address."""
    home.mkdir(parents=True, exist_ok=True)
    running = _read(home)
    if running is not None and any(_alive(*known) for known in running.processes.values()):
        raise BadInputError(
            f"a server of this project is already running at {running.address}",
            where=str(home),
            fix="Stop it with `make down`.",
        )
    state = Up(address=f"http://{host}:{port}/api")
    if is_healthy(state.address):
        raise BadInputError(
            "another server already uses this port", where=f"--port {port}", fix="Name a free port: make up PORT=4201."
        )
    environment = environment_of(home, state.address)
    try:
        _start(state, home, "server", ["server", "start", "--host", host, "--port", str(port)], environment)
        _wait_for(state, home)
        deploy(deployments, environment)
        _start(state, home, "worker", ["worker", "start", "--pool", POOL, "--name", POOL], environment)
    except BaseException:
        _end(state)
        raise
    lines = [
        f"UI: http://{host}:{port}   logs: {home}",
        f"  export PREFECT_API_URL={state.address}",
        "  prefect deployment run mpo/full-pipeline --watch",
        "  mpo languages add sw      # realign/new-languages starts by itself",
        "Stop with: make down",
    ]
    console.print("\n".join(lines), highlight=False, soft_wrap=True)


@app.command()
def down(home: Home = ROOT / ".prefect") -> None:
    """Stop the worker and then the server that `up` has started."""
    state = _read(home)
    if state is None:
        console.print("Nothing is up here.")
        return
    _end(state)
    (home / _FILE).unlink()
    console.print("Stopped.")


@app.command("deploy")
def deploy_on(
    deployments: Annotated[Path, typer.Option(help="YAML file of deployments.")] = ROOT
    / "deployments"
    / "prefect.yaml",
    pool: Annotated[str, typer.Option(help="Type of the work pool: process, docker or kubernetes.")] = "process",
) -> None:
    """Deploy everything on the server that PREFECT_API_URL names."""
    if pool != "process" and not (ROOT / "deployments" / "pools" / f"{pool}.json").is_file():
        raise BadInputError(
            f"there is no template for a work pool of type {pool!r}",
            where="--pool",
            fix="Use process, docker or kubernetes.",
        )
    deploy(deployments, dict(os.environ), pool)


def environment_of(home: Path, address: str) -> dict[str, str]:
    """Returns the environment variables that server, worker and runs share."""
    return os.environ | {
        "PYTHONPATH": own_path(os.environ.get("PYTHONPATH")),
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": address,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT),
        "PREFECT_CLIENT_RETRY_EXTRA_CODES": REPEATED_STATUS,
        # By default leases are in the server's memory: a restart would forget them, and end the runs that hold one.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "DO_NOT_TRACK": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def deploy(deployments: Path, environment: dict[str, str], pool: str = "process") -> None:
    """Creates or updates the work pool, the training limit, the deployments and the automations."""
    inspection = _call(["work-pool", "inspect", POOL, "--output", "json"], environment)
    if inspection.returncode == 0 and (kind := json.loads(inspection.stdout)["type"]) != pool:
        raise BadInputError(
            f"the work pool exists already, with another type: {kind}",
            where=f"--pool {pool}",
            fix=f"prefect work-pool delete {POOL}, then again.",
        )
    file = ROOT / "deployments" / "pools" / f"{pool}.json"
    template = [] if pool == "process" else ["--base-job-template", str(file)]
    _prefect(["work-pool", "create", POOL, "--type", pool, "--overwrite", *template], environment)
    if _call(["gcl", "inspect", LIMIT], environment).returncode:  # a limit that somebody has raised stays
        _prefect(["gcl", "create", LIMIT, "--limit", "1"], environment)
    _prefect(["--no-prompt", "deploy", "--all", "--prefect-file", str(deployments)], environment)
    subprocess.run([sys.executable, "-m", "flows.automations"], cwd=ROOT, env=environment, check=True)


def _prefect(arguments: list[str], environment: dict[str, str]) -> None:
    """Runs a command of Prefect's; if it fails, its last line is the message of a BadInputError."""
    done = _call(arguments, environment)
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines() or ["it failed without a message"]
        raise BadInputError(words[-1], where=f"prefect {' '.join(arguments)}", fix="Fix that, and start again.")


def _call(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "prefect", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def _start(state: Up, home: Path, name: str, arguments: list[str], environment: dict[str, str]) -> None:
    with (home / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", *arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    state.processes[name] = (process.pid, _born(process.pid))
    (home / _FILE).write_text(state.model_dump_json(indent=1), encoding="utf-8")


def _wait_for(state: Up, home: Path) -> None:
    deadline = time.monotonic() + _START
    while not is_healthy(state.address):
        if not _alive(*state.processes["server"]) or time.monotonic() > deadline:
            raise BadInputError(
                "the server did not start", where=str(home / "server.log"), fix="See the last lines of this file."
            )
        time.sleep(0.5)


def _end(state: Up) -> None:
    """Ends the worker, and with it its runs, and then the server."""
    for name in ("worker", "server"):
        pid, born = state.processes.get(name, (0, ""))
        deadline = time.monotonic() + _STOP
        while _alive(pid, born) and time.monotonic() < deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            time.sleep(1.0)
        if _alive(pid, born):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


def _read(home: Path) -> Up | None:
    try:
        return Up.model_validate_json((home / _FILE).read_bytes())
    except FileNotFoundError:
        return None


def _born(pid: int) -> str:
    """Returns when the kernel started a process, in ticks; empty if it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _alive(pid: int, born: str) -> bool:
    """Returns whether the process still runs, and its id has not passed to another one."""
    return pid > 0 and born != "" and _born(pid) == born


if __name__ == "__main__":
    try:
        app()
    except BadInputError as error:
        console.print(f"mpo: {error}", style="red", highlight=False, soft_wrap=True, markup=False)
        sys.exit(2)
