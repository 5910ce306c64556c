"""What a team's server, worker and database do to a run when they die."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.served import Server, postgres, served
from tests.session import lives

pytestmark = pytest.mark.long
# Long enough to be hit in the middle; each step leaves a checkpoint.
TRAINING = {"training.max_steps": 300}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with served(tmp_path_factory.mktemp("server")) as made:
        yield made


def resumed(server: Server) -> int:
    """The step from which the last run's training went on; 0 if it began anew."""
    (trained,) = [stage for stage in server.summary()["stages"] if stage["stage"] == "training"]
    assert trained["state"] == "computed"
    return int(trained["counts"].get("resumed_from", 0))


def test_a_run_without_its_worker_is_marked_crashed_and_the_next_resumes(server: Server) -> None:
    first = server.submit(**TRAINING)
    server.checkpoint()
    for pid in [server.pid("worker"), *server.descendants(server.pid("worker"))]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert server.ended(first) == "CRASHED"
    server.restart("worker", "--pool", "mpo", "--name", "mpo")
    assert server.ended(server.submit(**TRAINING)) == "COMPLETED"
    assert resumed(server) > 0


def ranks(pids: list[int]) -> set[str]:
    """Which of several processes that train together are among them."""
    ranks = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            ranks |= {pair.removeprefix(b"RANK=").decode() for pair in environment if pair.startswith(b"RANK=")}
    return ranks


@pytest.mark.parametrize("number", [1, 2])
def test_a_cancelled_training_ends_and_can_be_resumed(server: Server, number: int) -> None:
    changed = TRAINING | {"training.seed": number, "training.processes": number}
    run = server.submit(**changed)
    server.checkpoint()
    processes = server.descendants(server.pid("worker"))
    assert processes
    assert ranks(processes) == ({"0", "1"} if number == 2 else set())
    begin = time.monotonic()
    server.run("prefect", "flow-run", "cancel", run)
    while any(map(lives, processes)):
        assert time.monotonic() < begin + 30, "processes of the training live on"
        time.sleep(0.2)
    assert server.ended(run) == "CANCELLED"
    assert server.ended(server.submit(**changed)) == "COMPLETED"
    assert resumed(server) > 0


def test_a_run_outlives_a_restart_of_the_server(server: Server) -> None:
    run = server.submit(**TRAINING | {"training.seed": 2})
    server.checkpoint()
    port = server.environment["PREFECT_API_URL"].split(":")[2].split("/")[0]
    server.restart("server", "--host", "127.0.0.1", "--port", port)
    assert server.ended(run) == "COMPLETED"


def test_a_run_outlives_half_a_minute_without_its_database(tmp_path: Path) -> None:
    with postgres() as database, served(tmp_path, database) as server:
        run = server.submit(**TRAINING)
        server.checkpoint()
        database.stop()
        time.sleep(30)
        database.start()
        assert server.ended(run) == "COMPLETED"
