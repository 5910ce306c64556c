"""A hermetic Prefect, no hub, one torch thread."""

import csv
import gc
import os
import tempfile
from typing import NamedTuple

from tests.session import ROOT, SESSION, forked_trainings, shared_process

os.environ.update(
    {
        "PREFECT_HOME": tempfile.mkdtemp(prefix="prefect-", dir=SESSION),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
    }
)

import pytest
from hypothesis import settings

# The gate tries the same examples each time; `make test-long` looks for new ones.
settings.register_profile("gate", derandomize=True, deadline=None, max_examples=50)
settings.register_profile("explore", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile("gate")


class Outcome(NamedTuple):
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


@pytest.fixture
def mpo(monkeypatch, capsys, tmp_path_factory):
    """The `mpo` command, in this process and in a folder of its own, which gets the root `artifacts`."""
    from flows.cli import main

    monkeypatch.chdir(tmp_path_factory.mktemp("working"))
    # On a slow machine lines of progress would stand beside the lines that tests compare.
    monkeypatch.setattr("flows.progress_lines.INTERVAL", 3600.0)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["mpo", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module", autouse=True)
def known_languages():
    """Forgets, after each file of tests, the languages that it made known in this process."""
    from mpo_core.languages.known import LANGUAGES

    before = dict(LANGUAGES)
    yield
    LANGUAGES.clear()
    LANGUAGES.update(before)


@pytest.fixture(scope="module", autouse=True)
def frozen_libraries():
    """Spares collections of garbage the objects of libraries: each takes 0.4 s with them, and a training makes two."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def prefect_server():
    """The address of a Prefect server that all processes of the session share."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    address = shared_process("prefect_server.py")
    with temporary_settings({PREFECT_API_URL: address}):
        yield address


@pytest.fixture(scope="session", autouse=True)
def _forked_trainings():
    with forked_trainings() as started:
        yield started


@pytest.fixture(autouse=True)
def _started_trainings(request, _forked_trainings):
    """Trainings of a long test are started as they are outside of tests."""
    if request.node.get_closest_marker("long"):
        from mpo_core.training import launch

        request.getfixturevalue("monkeypatch").setattr(launch, "_command", _forked_trainings)


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real data beside the checkout; tests that need it skip where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("../shared/data is not here: real pairs and prompts are no part of the repository")
    return folder


@pytest.fixture
def prompts_csv(tmp_path):
    """Five prompts of each kind, in English, that the microworld can translate."""
    from mpo_core import microworld

    path = tmp_path / "prompts.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "kind"])
        for kind in ("harmful", "harmless"):
            writer.writerows([item.prompt("en"), kind] for item in microworld.items("test", kind, limit=5))
    return path
