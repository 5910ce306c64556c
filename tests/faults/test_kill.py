"""SIGKILL in mid-run, then the same command again: finished work is reused, the result is the same."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.flows.conftest import small_run  # noqa: F401 - a fixture
from tests.store import bucket  # noqa: F401 - a fixture

ROOT = Path(__file__).resolve().parents[2]
VERBS = ("prompts", "translate", "sample", "judge", "pairs", "reference", "train", "evaluate", "compare")


def start(root, ledger, *death, **environment):
    """The run in a session of its own: Prefect's temporary server outlives a killed run, and holds its pipes."""
    with ledger.with_suffix(".out").open("wb") as out, ledger.with_suffix(".err").open("wb") as err:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.faults.killable", str(root), str(ledger), *map(str, death)],
            cwd=ROOT,
            env=os.environ | environment,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )


def end(process, ledger):
    try:
        code = process.wait(timeout=300)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return code, sorted(ledger.with_suffix(".out").read_text().split()), ledger.with_suffix(".err").read_text()


def run(root, ledger, *death, **environment):
    return end(start(root, ledger, *death, **environment), ledger)


def events(ledger, kind):
    lines = [line.split(" ", 1) for line in ledger.read_text().splitlines()]
    return [name for what, name in lines if what == kind]


def kill_in(verbs, seed, root, ledger, **environment):
    """Kills a run in every verb in turn, soon after a task of it starts; one that ends sooner is not killed."""
    moments, codes = random.Random(seed), []
    for verb in verbs:
        code, _, errors = run(root, ledger, verb, moments.uniform(0, 0.2), **environment)
        assert code in {-9, 0}, (seed, verb, errors)
        assert verb in {name.split()[0] for name in events(ledger, "started")}, (seed, verb)
        codes.append(code)
    assert -9 in codes, seed


@pytest.fixture(scope="module")
def undisturbed(small_run):  # noqa: F811
    """The paths of a run's artifacts that nobody killed: the digests of their bytes are in them."""
    _, summary, _ = small_run
    return sorted(ref.path for ref in summary.artifacts)


def test_killed_in_training_resumes_from_its_checkpoint(prefect_server, undisturbed, tmp_path):
    """The short twin of all below, which have trainings and servers of their own."""
    root, ledger, shared = tmp_path / "root", tmp_path / "ledger", {"PREFECT_API_URL": prefect_server, "FORKED": "1"}
    code, _, _ = run(root, ledger, "train", 0, **shared)
    assert code == -9
    checkpoints = list((root / "training" / ".work").rglob("checkpoint-*"))
    assert checkpoints
    finished = events(ledger, "finished")
    code, artifacts, errors = run(root, ledger, **shared)
    assert code == 0, errors
    computed_twice = {name for name, times in Counter(events(ledger, "finished")).items() if times > 1}
    assert computed_twice == set()
    assert "train mpo" not in finished
    # Paths are digests: the same tables, the same losses, the same weights, byte for byte.
    assert artifacts == undisturbed


@pytest.mark.long
def test_killed_in_every_stage_in_turn_ends_with_equal_bytes(undisturbed, tmp_path):
    root, ledger, seed = tmp_path / "root", tmp_path / "ledger", random.randrange(10**6)
    kill_in(VERBS, seed, root, ledger)
    code, artifacts, errors = run(root, ledger)
    assert code == 0, (seed, errors)
    assert artifacts == undisturbed, seed
    # The instant between a task's end and its record is the only one that costs a second computation.
    twice = [name for name, times in Counter(events(ledger, "finished")).items() if times > 1]
    assert len(twice) <= len(VERBS), (seed, twice)
    assert not list(root.rglob("*.tmp"))


@pytest.mark.long
def test_killed_in_the_stages_of_teacher_and_edit_ends_with_equal_bytes(prefect_server, tmp_path):
    added = {
        "training__consistency": {"width": 16, "every": 1},
        "training__distillation": {"instruction": "{original} {prompt}", "top_k": 8},
        "training__weighting": {"kind": "group_dro"},
        "edit": {"max_change": 9.0, "layers": [2]},
    }
    shared = {"PREFECT_API_URL": prefect_server, "CHANGES": json.dumps(added)}
    code, whole, errors = run(tmp_path / "whole", tmp_path / "undisturbed", **shared)
    assert code == 0, errors
    root, ledger, seed = tmp_path / "root", tmp_path / "ledger", random.randrange(10**6)
    kill_in(("teach", "distil", "train", "edit"), seed, root, ledger, **shared)
    code, artifacts, errors = run(root, ledger, **shared)
    assert code == 0, (seed, errors)
    assert artifacts == whole, seed
    assert not list(root.rglob("*.tmp"))
    assert not list((root / "edit" / ".work").glob("*"))


@pytest.mark.long
def test_two_runs_at_once_compute_each_task_once(undisturbed, tmp_path):
    root, ledgers = tmp_path / "root", [tmp_path / "first", tmp_path / "second"]
    processes = [start(root, ledger) for ledger in ledgers]
    results = [end(process, ledger) for process, ledger in zip(processes, ledgers, strict=True)]
    assert [code for code, _, _ in results] == [0, 0], [errors for _, _, errors in results]
    assert {tuple(artifacts) for _, artifacts, _ in results} == {tuple(undisturbed)}
    started = [name for ledger in ledgers if ledger.exists() for name in events(ledger, "started")]
    assert Counter(started).most_common(1)[0][1] == 1


@pytest.mark.long
def test_two_machines_that_share_only_an_object_store_compute_each_task_once(bucket, undisturbed, tmp_path):  # noqa: F811
    root, processes = f"{bucket}/root", {}
    for name in ("first", "second"):
        home = tmp_path / name / "home"
        home.mkdir(parents=True)
        places = {"HOME": str(home), "MPO_SCRATCH": str(home / "scratch")}
        processes[tmp_path / name / "ledger"] = start(root, tmp_path / name / "ledger", **places)
    results = [end(process, ledger) for ledger, process in processes.items()]
    assert [code for code, _, _ in results] == [0, 0], [errors for _, _, errors in results]
    # The same tables, losses and weights as on one machine's folder, byte for byte.
    assert {tuple(artifacts) for _, artifacts, _ in results} == {tuple(undisturbed)}
    started = [name for ledger in processes if ledger.exists() for name in events(ledger, "started")]
    assert Counter(started).most_common(1)[0][1] == 1
