"""A real server, a real worker, everything deployed: as a team uses it."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.flows.conftest import small_settings

pytestmark = pytest.mark.long
ROOT = Path(__file__).resolve().parents[2]
# The small training moves little; what is tested is the road, not the model.
LENIENT = {"max_target_unsafe": 1.0, "min_target_drop": 0.0, "max_invalid": 1.0}
LENIENT |= {"max_over_refusal_rise": 1.0, "max_dominant_loss": 1.0, "max_target_rise": 1.0}


class Server(NamedTuple):
    """A server that is up, and what it was told."""

    root: Path
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
        """Its flow runs, newest first."""
        return json.loads(self.run("prefect", "flow-run", "ls", "--flow-name", flow, "-o", "json").stdout)

    def summary(self) -> dict[str, Any]:
        return json.loads((self.root / "runs" / "small" / "summary.json").read_text())


def free_port() -> int:
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return int(some.getsockname()[1])


@contextlib.contextmanager
def postgres() -> Any:
    """A PostgreSQL of our own; yields the address of its database."""
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
    call(bin_ / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start")
    try:
        yield f"postgresql+asyncpg://mpo@127.0.0.1:{port}/postgres"
    finally:
        call(bin_ / "pg_ctl", "-D", data, "-m", "fast", "stop")
        shutil.rmtree(folder)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("server")
    told = yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text())
    settings = small_settings(folder / "root", gate=LENIENT)
    for deployment in told["deployments"]:
        deployment["parameters"] = {"config": settings}
    (folder / "prefect.yaml").write_text(yaml.safe_dump(told))
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {"PREFECT_HOME": str(folder / "home"), "PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
    environment |= {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "NO_COLOR": "1", "COLUMNS": "200"}
    with contextlib.ExitStack() as stack:
        if request.param == "postgresql":
            environment["PREFECT_API_DATABASE_CONNECTION_URL"] = stack.enter_context(postgres())
        home = ["--home", str(folder / "home")]
        made = Server(folder / "root", environment)
        up = [*home, "--port", str(port), "--deployments", str(folder / "prefect.yaml")]
        told_up = made.run("python", "-m", "flows.server", "up", *up).stdout
        stack.callback(made.run, "python", "-m", "flows.server", "down", *home)
        assert f"UI: http://127.0.0.1:{port}" in told_up
        yield made


def test_a_deployment_runs_with_a_changed_parameter(server: Server) -> None:
    overrides = json.dumps({"training.max_steps": 3})
    done = server.run("prefect", "deployment", "run", "mpo/full-pipeline", "--watch", "-p", f"overrides={overrides}")
    assert "Completed" in done.stdout
    summary = server.summary()
    assert (summary["config"]["training"]["max_steps"], summary["version"]) == (3, "v1")
    assert summary["gate"]["promoted"]


def test_a_bad_parameter_is_refused_before_there_is_a_run(server: Server) -> None:
    before = len(server.runs("mpo"))
    bad = small_settings(server.root, training__batch_size=0)
    done = server.run(
        "prefect", "deployment", "run", "mpo/full-pipeline", "-p", f"config={json.dumps(bad)}", check=False
    )
    assert done.returncode != 0
    assert "config.training.batch_size" in " ".join((done.stdout + done.stderr).split())
    assert len(server.runs("mpo")) == before


def test_a_registered_language_is_aligned_by_itself(server: Server) -> None:
    server.run("mpo", "languages", "add", "ko", "--root", str(server.root))
    deadline = time.monotonic() + 240
    while not any(run["state_type"] in {"COMPLETED", "FAILED", "CRASHED"} for run in server.runs("realign")):
        assert time.monotonic() < deadline, "realign did not start, or did not end"
        time.sleep(2)
    (run,) = server.runs("realign")
    assert run["state_type"] == "COMPLETED"
    summary = server.summary()
    assert summary["targets"] == ["sw", "zh", "ko"]
    # Base, prompts and settings are as before: of the old languages only what hangs on the new model is computed.
    computed = {stage["label"] for stage in summary["stages"] if stage["state"] == "computed"}
    old = {label for label in computed if label.startswith(("en-", "sw-", "zh-"))}
    assert all(label.endswith("-after") for label in old), old
    assert any(label.startswith("ko-") for label in computed)
    assert summary["gate"]["promoted"]
    assert (summary["since_version"], summary["version"]) == ("v1", "v2")
    assert summary["since"]
