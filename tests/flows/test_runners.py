"""The same run on another runner gives the same bytes."""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from mpo_core import microworld
from mpo_core.contract.artifacts import ArtifactStore
from mpo_core.registry import add_language
from mpo_core.settings import DefinedLanguage
from mpo_core.settings.profiles import parse_config
from tests.flows.conftest import ledger, run_small, small_settings
from tests.served import LENIENT, ROOT, free_port
from tests.store import bucket  # noqa: F401 - a fixture

pytestmark = pytest.mark.long
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("prefect_ray") is None, reason="not installed: pip install -c constraints.txt -e '.[ray]'"
)
computed = []


def artifacts(summary):
    return sorted(ref.path for ref in summary.artifacts)


def listen():
    """On a worker: notes what it computes."""
    from tasks.stage import listeners

    def note(event):
        if event.kind == "finished":
            computed.append(f"{event.verb}-{event.label}")

    listeners.append(note)


def of_worker():
    """On a worker: what it computed since `listen`, and the models that it keeps a copy of."""
    return computed, sorted(path.name for path in Path.home().glob("scratch/*/models/*"))


@contextlib.contextmanager
def dask_cluster(folder: Path) -> Iterator[str]:
    """A scheduler and two workers that share no folder; its address."""
    address = f"tcp://127.0.0.1:{free_port()}"
    commands = {
        "scheduler": ["scheduler", "--host", address, "--no-dashboard", "--no-show"],
        "first": ["worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"],
        "second": ["worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"],
    }
    processes = []
    try:
        for name, command in commands.items():
            home = folder / name
            home.mkdir()
            places = {"HOME": home, "PREFECT_HOME": home / "prefect", "MPO_SCRATCH": home / "scratch", "TMPDIR": home}
            with (home / "log").open("wb") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "dask", *command],
                    cwd=ROOT,
                    env=os.environ | {key: str(place) for key, place in places.items()},
                    stdout=log,
                    stderr=log,
                )
            processes.append(process)
        yield address
    finally:
        for process in processes:
            process.kill()  # a worker that loses its scheduler while it closes may hang
            process.wait()


@pytest.mark.parametrize("runner", ["dask", pytest.param("ray", marks=needs_ray)])
def test_two_worker_processes_give_byte_equal_tables(warm, tmp_path, runner):
    _, threads, _ = warm
    summary, here = run_small(tmp_path / "root", run__runner=runner)
    assert here == []  # nothing was computed in this process
    assert artifacts(summary) == artifacts(threads)
    assert sum(stage.state == "computed" for stage in summary.stages) > len(summary.stages) / 2
    again, _ = run_small(tmp_path / "root", run__runner=runner)
    assert {stage.state for stage in again.stages} == {"cached"}


def test_dask_workers_know_a_registered_language(prefect_server, tmp_path):
    """Translation, judging by refusal phrases and evaluation in a language that the table lacks."""
    from flows.full_pipeline import full_pipeline
    from flows.registered import with_registered

    (tmp_path / "root").mkdir()
    facts = DefinedLanguage(code="sw-KE", name="Swahili of Kenya", script="Latn", refusals=["siwezi"])
    add_language(ArtifactStore(str(tmp_path / "root")), facts, who="Ann")
    with (tmp_path / "memory.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["en", "sw-KE"])
        for split, kind in itertools.product(("train", "test"), ("harmful", "harmless")):
            for item in microworld.items(split, kind, limit=6):
                writer.writerows((text("en"), text("sw")) for text in (item.prompt, item.refusal, item.help))
    settings = small_settings(
        tmp_path / "root",
        run__runner="dask",
        languages__targets=["sw-KE"],
        translation__engines=[{"engine": "memory", "path": str(tmp_path / "memory.csv")}],
        judging={"judge": "refusal_rules"},
    )
    with ledger() as here:
        summary = full_pipeline(parse_config(with_registered(settings), where="test"))
    assert here == []  # nothing was computed in this process
    stages = [stage for stage in summary.stages if stage.language == "sw-KE"]
    assert {stage.stage for stage in stages} >= {"translation", "sampling", "judging", "pairs"}
    # 24 prompts, and two answers to each.
    assert [sum(stage.rows for stage in stages if stage.stage == name) for name in ("translation", "pairs")] == [72, 24]
    assert summary.quarantine == []
    assert {row.language for row in summary.metrics} == {"en", "sw-KE", "targets"}


def test_dask_workers_that_share_only_an_object_store_give_byte_equal_tables(bucket, warm, tmp_path):  # noqa: F811
    from distributed import Client

    _, threads, everything = warm
    with dask_cluster(tmp_path) as address, Client(address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        client.run(listen)
        changes = {"run__runner": "dask", "run__cluster": address}
        summary, here = run_small(f"{bucket}/root", **changes)
        (first, copies), (second, copies_too) = client.run(of_worker).values()
        again, _ = run_small(f"{bucket}/root", **changes)
    assert here == []
    assert first
    assert second
    assert sorted(first + second) == everything  # each task once, by one of them
    assert artifacts(summary) == artifacts(threads)
    (trained,) = {Path(path).parts[1] for path in artifacts(threads) if not path.endswith(".parquet")}
    for ran, copies_here in ((first, copies), (second, copies_too)):
        reads = ("sample-", "reference-", "read-text-", "diverge-")
        used_the_model = any(name.startswith(reads) and name.endswith("-after") for name in ran)
        assert copies_here == [trained] * used_the_model  # who asks the trained model has a copy of its own
    assert {stage.state for stage in again.stages} == {"cached"}


def test_without_a_server_all_workers_use_the_flows_temporary_server(tmp_path):
    profile = tmp_path / "small.yaml"
    profile.write_text(yaml.safe_dump(small_settings(tmp_path / "root", run__runner="dask", gate=LENIENT)))
    done = subprocess.run(
        [sys.executable, "-c", "from flows.cli import main; main()", "run", str(profile)],
        cwd=ROOT,
        env=os.environ | {"PREFECT_LOGGING_LEVEL": "INFO"},
        capture_output=True,
        text=True,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert output.count("Starting temporary server") == 1
