"""A real server, a real worker, everything deployed: as a team uses it."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.flows.conftest import small_settings
from tests.served import ROOT, Server, postgres, served

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def hook() -> Iterator[ThreadingHTTPServer]:
    """Keeps what it is told, in `heard`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.heard.append(json.loads(body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.heard = []
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield listening
    listening.shutdown()
    listening.server_close()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, hook: ThreadingHTTPServer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(postgres()) if request.param == "postgresql" else None
        webhook = f"http://127.0.0.1:{hook.server_port}"
        yield stack.enter_context(served(tmp_path_factory.mktemp("server"), database, webhook=webhook))


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
    # Prefect names the section: whichever method is meant, the settings fit none.
    assert "Validation failed for field 'config.training'" in " ".join((done.stdout + done.stderr).split())
    assert len(server.runs("mpo")) == before


def test_a_registered_language_is_aligned_by_itself(server: Server) -> None:
    server.run("mpo", "languages", "add", "ko", "--root", str(server.root))
    until = time.monotonic() + 60
    while not server.runs("realign"):
        assert time.monotonic() < until, "realign did not start"
        time.sleep(1)
    (run,) = server.runs("realign")
    assert server.ended(run["id"]) == "COMPLETED"
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


def test_a_refusing_gate_calls_the_webhook(server: Server, hook: ThreadingHTTPServer) -> None:
    hook.heard.clear()
    run = server.submit(**{"gate.min_target_drop": 1.0, "training.max_steps": 2})
    assert server.ended(run) == "COMPLETED"
    until = time.monotonic() + 60
    while not hook.heard:
        assert time.monotonic() < until, "nobody was told"
        time.sleep(0.5)
    (payload,) = hook.heard
    assert payload["run"] == "small"
    assert payload["reason"].startswith("not promoted")


@pytest.mark.parametrize("pool", ["docker", "kubernetes"])
def test_the_templates_of_other_pools_are_accepted(server: Server, pool: str) -> None:
    name = f"other-{pool}"
    template = str(ROOT / "deployments" / "pools" / f"{pool}.json")
    server.run("prefect", "work-pool", "create", name, "--type", pool, "--base-job-template", template)
    pool = server.run("prefect", "work-pool", "inspect", name).stdout
    assert "mpo" in pool
