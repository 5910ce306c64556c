from __future__ import annotations

import subprocess
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mpo_core.contract.artifacts import ArtifactRef, ArtifactStore
from mpo_core.contract.errors import BadInputError, DamagedError
from mpo_core.gate.decide import GateCheck, GateDecision
from mpo_core.registry import Entry, history, promote, promoted, rollback, versions
from tests.registered import register
from tests.tiny_models import tiny_model


def entry(store: ArtifactStore, name: str, run: str = "demo") -> Entry:
    model = tiny_model(store, name)
    check = GateCheck(name="target_unsafe", passed=True, value=0.1, bound=0.2, explanation="fine")
    return Entry(
        run=run,
        model=model,
        base="b" * 64,
        inputs=[ArtifactRef(stage="pairs", path="pairs/x.parquet", sha256="x", rows=9)],
        figures={"unsafe_before": 0.64},
        gate=GateDecision(promoted=True, checks=[check]),
    )


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path) if request.param == "folder" else f"memory://{uuid.uuid4().hex}")


REGISTER_MANY = """
import sys
from mpo_core.contract.artifacts import ArtifactRef, ArtifactStore
from mpo_core.registry import Entry
from tests.registered import register

store = ArtifactStore(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for name in sys.argv[2:]:
    model = ArtifactRef(stage="training", path=f"training/{name}", sha256=name)
    register(store, Entry(run="demo", model=model, base="b"), who=name)
"""


def test_registering_keeps_the_lineage(store: ArtifactStore) -> None:
    started = datetime.now(UTC).replace(microsecond=0)
    version = register(store, entry(store, "a"), who="me", why="a try")
    assert (version.version, version.promoted, version.who) == ("v1", False, "me")
    assert versions(store) == [version]
    assert version.entry == entry(store, "a")
    assert started <= version.when <= datetime.now(UTC)


def test_the_same_model_of_the_same_run_is_a_single_version(store: ArtifactStore) -> None:
    first = register(store, entry(store, "a"))
    register(store, entry(store, "b"))
    assert register(store, entry(store, "a")) == first
    assert register(store, entry(store, "a", run="other")).version == "v3"
    assert len(history(store)) == 3


def test_promote_and_roll_back(store: ArtifactStore) -> None:
    for name in "abc":
        register(store, entry(store, name))
    assert promoted(store) is None
    for version in ("v1", "v2", "v3"):
        assert promote(store, version, who="gate", why="better").promoted
    assert rollback(store, who="me", why="it is rude").version == "v2"
    assert rollback(store, who="me", why="this one too").version == "v1"
    # A new promotion starts from where we are: back from v3 is v1 again, not v2.
    promote(store, "v3", who="me", why="fixed")
    assert rollback(store, who="me", why="not fixed").version == "v1"
    current = promoted(store)
    assert current is not None
    assert current.version == "v1"
    assert [version.promoted for version in versions(store)] == [True, False, False]


def test_promoting_what_is_promoted_changes_nothing(store: ArtifactStore) -> None:
    register(store, entry(store, "a"))
    promote(store, "v1", who="gate", why="better")
    promote(store, "v1", who="gate", why="better")
    assert [event.kind for event in history(store)] == ["registered", "promoted"]


def test_the_only_promoted_version_can_be_taken_out_of_use(store: ArtifactStore) -> None:
    register(store, entry(store, "a"))
    promote(store, "v1", who="gate", why="better")
    assert rollback(store, who="me", why="it is rude") is None
    assert promoted(store) is None
    assert [version.promoted for version in versions(store)] == [False]
    event = history(store)[-1]
    assert (event.kind, event.version, event.who, event.why) == ("withdrawn", "v1", "me", "it is rude")
    with pytest.raises(BadInputError, match="no version is promoted"):
        rollback(store, who="me", why="once more")
    assert promote(store, "v1", who="me", why="not so rude").promoted


def test_history_tells_who_why_and_when(store: ArtifactStore) -> None:
    register(store, entry(store, "a"))
    promote(store, "v1", who="Wanjiru", why="asked by the team")
    event = history(store)[-1]
    assert (event.sequence, event.kind, event.version) == (2, "promoted", "v1")
    assert (event.who, event.why, event.when.tzinfo) == ("Wanjiru", "asked by the team", UTC)


def test_clear_errors(store: ArtifactStore) -> None:
    with pytest.raises(BadInputError, match="Nothing is registered yet"):
        promote(store, "v1", who="me", why="oh")
    with pytest.raises(BadInputError, match="no version is promoted"):
        rollback(store, who="me", why="oh")
    register(store, entry(store, "a"))
    with pytest.raises(BadInputError, match=r"unknown version 'v7'.*Known: v1"):
        promote(store, "v7", who="me", why="oh")
    with pytest.raises(BadInputError, match="'why' is empty"):
        promote(store, "v1", who="me", why=" ")
    assert len(history(store)) == 1


def test_a_damaged_log_is_no_shorter_log(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    for name in "abc":
        register(store, entry(store, name))
    events = tmp_path / "registry" / "events"
    data = (events / "00000002.json").read_bytes()
    (events / "00000002.json").unlink()
    with pytest.raises(DamagedError, match="missing"):
        versions(store)
    (events / "00000002.json").write_bytes(data[:-20])
    with pytest.raises(DamagedError, match="00000002"):
        versions(store)


def test_two_processes_lose_no_event(tmp_path: Path) -> None:
    batches = [[f"{letter}{number}" for number in range(25)] for letter in "ab"]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", REGISTER_MANY, str(tmp_path), *batch],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            text=True,
        )
        for batch in batches
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:  # both are up: now they race
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    for worker in workers:
        worker.communicate(timeout=300)
        assert worker.returncode == 0
    listed = versions(ArtifactStore(str(tmp_path)))
    assert [version.version for version in listed] == [f"v{number}" for number in range(1, 51)]
    assert {version.who for version in listed} == {name for batch in batches for name in batch}
    assert [path.name for path in (tmp_path / "registry" / "events").glob(".*")] == []
