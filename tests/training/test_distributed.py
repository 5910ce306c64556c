"""Several processes train as one does: the same figures, the same folder, the same ways to die."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mpo_core.contract.errors import BadInputError, StageFailedError
from mpo_core.contract.training import TRAINING_METHODS, TrainingMethod
from mpo_core.settings import LoraSettings
from mpo_core.training.launch import TrainingJob, TrainingResult, train

ROOT = Path(__file__).resolve().parents[2]
# 7 pairs a step of 3 or 4 sources, and forwards that hold two of them: the processes have shares and forwards of
# different number. Without a cut the last step of an epoch has 5 pairs.
UNEVEN = {"batch_size": 7, "tokens_per_forward": 150, "max_steps": 5}

needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is built on the spot: docs/your-model.md"
)


def several(settings: TrainingMethod, **changes: Any) -> TrainingMethod:
    """The same training in two processes, with as many pairs a step."""
    halved = {"batch_size": settings.batch_size // 2, "processes": 2}
    return TRAINING_METHODS.parse(settings.model_dump() | halved | changes)


def alone(job: TrainingJob) -> TrainingResult:
    """The training in this process, which saves the start of another."""
    from mpo_core.training.child import run

    job.work.mkdir()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        return run(job, SimpleNamespace(send=lambda *_: None))  # type: ignore[arg-type]  # a channel that nobody hears
    finally:
        signal.signal(signal.SIGTERM, handler)


def figures(result: TrainingResult) -> list[dict[str, float]]:
    """The logged figures of each step and evaluation, without the clock's."""
    history = json.loads(result.trainer_state.read_text())["log_history"]
    timed = ("runtime", "per_second")
    return [
        {name: value for name, value in entry.items() if not name.endswith(timed)}
        for entry in history
        if "train_loss" not in entry
    ]


def assert_same_training(first_run: TrainingResult, second_run: TrainingResult) -> None:
    """Equal but for the order of sums, in figures, weights and files."""
    assert len(figures(first_run)) == len(figures(second_run))
    for a, b in zip(figures(first_run), figures(second_run), strict=True):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-6)
    assert {path.name for path in first_run.model_folder.iterdir()} == {
        path.name for path in second_run.model_folder.iterdir()
    }
    for name in ("config.json", "generation_config.json", "tokenizer.json"):
        assert (first_run.model_folder / name).read_bytes() == (second_run.model_folder / name).read_bytes()
    first, second = (load_file(result) for result in (first_run, second_run))
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert value.dtype == second[name].dtype
        # AdamW divides by the gradient's own size: where that is all but zero, rounding shows in single weights.
        assert (value - second[name]).abs().mean() < 1e-6, name


def load_file(result: TrainingResult) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(result.model_folder / "model.safetensors")


def processes(job: TrainingJob) -> dict[str, int]:
    """The pids at work on a job: by rank, and that of the launcher."""
    pids = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(job.work / "job.json").encode() not in (entry / "cmdline").read_bytes().split(b"\0"):
                continue
            environment = dict(pair.partition(b"=")[::2] for pair in (entry / "environ").read_bytes().split(b"\0"))
            pids[environment.get(b"RANK", b"launcher").decode()] = int(entry.name)
    return pids


def assert_nobody_left(job: TrainingJob, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while processes(job) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes(job) == {}


def signalled(job: TrainingJob, rank: str, kind: signal.Signals) -> str:
    """Runs the job until a checkpoint is complete, signals one process, returns what came of it."""

    def on_step(line: dict[str, Any]) -> None:
        if any(job.work.glob("*/checkpoint-*/complete.json")):
            with contextlib.suppress(ProcessLookupError, KeyError):
                os.kill(processes(job)[rank], kind)

    with pytest.raises(StageFailedError) as caught:
        train(job, on_step=on_step)
    return str(caught.value)


@pytest.mark.parametrize("start", ["forked", pytest.param("launched", marks=pytest.mark.long)])
def test_two_processes_train_as_a_single_process(world: Any, folder: Path, tmp_path: Path, start: str) -> None:
    pairs = world.pairs_table(10)
    settings = world.settings(**UNEVEN | {"batch_size": 8})
    whole = alone(world.make_job(tmp_path / "one", folder, settings, pairs))
    lines: list[dict[str, Any]] = []
    job = world.make_job(tmp_path / "two", folder, several(settings), pairs)
    shared = train(job, on_step=lines.append)
    assert_same_training(whole, shared)
    assert shared.rows == 20
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4, 5]  # one process speaks
    assert_nobody_left(job, 0)


@pytest.mark.long
@pytest.mark.parametrize(
    ("parallel", "changes"),
    [
        ("ddp", {"lora": {"rank": 4}, "learning_rate": 0.01, "layout": "padded"}),
        ("ddp", {"gradient_checkpointing": True, "order": "shuffled"}),
        ("fsdp2", {}),
        ("fsdp2", {"lora": {"rank": 4}, "learning_rate": 0.01}),
        ("fsdp2", {"gradient_checkpointing": True, "evaluate_every": 2, "patience": 1, "learning_rate": 0.03}),
        ("fsdp2", {"compile_layers": True, "retention": {"weight": 0.0}}),
        ("ddp", {"compile_layers": True, "retention": {"weight": 0.0}}),
        pytest.param("zero2", {}, marks=needs_deepspeed),
        pytest.param("zero3", {}, marks=needs_deepspeed),
        pytest.param("zero3", {"lora": {"rank": 4}, "learning_rate": 0.01}, marks=needs_deepspeed),
    ],
)
def test_every_way_of_sharing_trains_as_a_single_process(
    world: Any, folder: Path, tmp_path: Path, parallel: str, changes: dict[str, Any]
) -> None:
    settings = TRAINING_METHODS.parse(world.settings(**UNEVEN | {"batch_size": 8}).model_dump() | changes)
    pairs, validation = world.pairs_table(10), world.pairs_table(3, split="validation")
    whole = alone(world.make_job(tmp_path / "one", folder, settings, pairs, validation))
    shared = train(world.make_job(tmp_path / "two", folder, several(settings, parallel=parallel), pairs, validation))
    assert_same_training(whole, shared)
    assert shared.best_step == whole.best_step


@pytest.mark.long
@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_a_killed_process_ends_all_and_the_next_run_resumes(
    world: Any, folder: Path, tmp_path: Path, parallel: str
) -> None:
    settings = several(
        world.settings(batch_size=8, max_steps=40, save_every=3, lora=LoraSettings(rank=4, dropout=0.2)),
        parallel=parallel,
    )
    whole = train(world.make_job(tmp_path / "whole", folder, settings, world.pairs_table()))
    job = world.make_job(tmp_path / "cut", folder, settings, world.pairs_table())
    began = time.monotonic()
    message = signalled(job, "1", signal.SIGKILL)
    assert "failed" in message or "ended with code" in message
    assert time.monotonic() - began < 300
    assert_nobody_left(job, 60)
    # One process alone gets it; both stop after the same step.
    assert "was stopped after step" in signalled(job, "1", signal.SIGTERM)
    assert_nobody_left(job, 60)
    resumed = train(job)
    assert resumed.resumed_from is not None
    assert 3 <= resumed.resumed_from < 40
    assert figures(resumed) == figures(whole)
    first, second = load_file(whole), load_file(resumed)
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.long
@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ((2, "ddp"), (1, "ddp"), {}),
        ((2, "fsdp2"), (1, "fsdp2"), {}),
        ((1, "fsdp2"), (2, "fsdp2"), {}),
        ((2, "fsdp2"), (2, "ddp"), {"lora": {"rank": 4}, "learning_rate": 0.01}),
        ((2, "fsdp2"), (3, "fsdp2"), {}),
        ((3, "fsdp2"), (2, "fsdp2"), {}),
    ],
    ids=str,
)
def test_a_training_goes_on_with_another_number_of_processes(
    world: Any, folder: Path, tmp_path: Path, before: tuple[int, str], after: tuple[int, str], changes: dict[str, Any]
) -> None:
    def settings(processes: int, parallel: str) -> TrainingMethod:
        sizes = {"batch_size": 1, "gradient_accumulation": 6 // processes}
        alike = {"processes": processes, "parallel": parallel, "max_steps": 6, "tokens_per_forward": 150}
        return TRAINING_METHODS.parse(world.settings().model_dump() | sizes | alike | changes)

    whole = alone(world.make_job(tmp_path / "whole", folder, settings(1, "ddp"), world.pairs_table()))
    job = world.make_job(tmp_path / "moved", folder, settings(*before), world.pairs_table())

    def cut(line: dict[str, Any]) -> None:
        if line["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(job, on_step=cut)
    resumed = train(job.model_copy(update={"training": settings(*after)}))
    assert resumed.resumed_from is not None
    assert resumed.resumed_from >= 3
    for a, b in zip(figures(whole), figures(resumed), strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-6)
    first, second = load_file(whole), load_file(resumed)
    assert all((value - second[name]).abs().mean() < 1e-6 for name, value in first.items())


@pytest.mark.long
def test_all_processes_die_with_the_parent_or_the_launcher(world: Any, folder: Path, tmp_path: Path) -> None:
    job = world.make_job(tmp_path, folder, several(world.settings(max_steps=100_000)), world.pairs_table())
    (tmp_path / "job.json").write_text(job.model_dump_json())
    code = (
        "import sys; from pathlib import Path; from mpo_core.training.launch import TrainingJob, train\n"
        f"job = TrainingJob.model_validate_json(Path({str(tmp_path / 'job.json')!r}).read_text())\n"
        "train(job, on_step=lambda line: print(line['step'], flush=True))"
    )
    for victim in ("parent", "launcher"):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT) as parent:
            assert parent.stdout is not None
            assert parent.stdout.readline().strip() == b"1"
            assert processes(job).keys() == {"launcher", "0", "1"}
            os.kill(parent.pid if victim == "parent" else processes(job)["launcher"], signal.SIGKILL)
            assert_nobody_left(job, 15)
            parent.wait(15)


@pytest.mark.long
def test_a_cancel_saves_and_ends_all(world: Any, folder: Path, tmp_path: Path) -> None:
    job = world.make_job(tmp_path, folder, several(world.settings(max_steps=100_000)), world.pairs_table())

    def cancel(line: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(job, on_step=cancel)
    assert_nobody_left(job, 0)
    assert list(job.work.glob("*/checkpoint-*/complete.json"))


@pytest.mark.long
def test_a_process_without_a_number_stops_all_and_names_its_rows(world: Any, folder: Path, tmp_path: Path) -> None:
    pairs = world.pairs_table()
    job = world.make_job(tmp_path, folder, several(world.settings(batch_size=12)), pairs)
    references = pq.read_table(job.references).to_pylist()
    spoilt = pairs.to_pylist()[0]["source_id"]
    for row in references:
        if row["text_id"] == spoilt:
            row["gap"] = float("nan")
    pq.write_table(pa.Table.from_pylist(references, schema=pq.read_schema(job.references)), job.references)
    with pytest.raises(BadInputError, match="the loss is not finite") as caught:
        train(job)
    named = {row["pair_id"] for row in pairs.to_pylist() if row["pair_id"] in str(caught.value)}
    assert named == {row["pair_id"] for row in pairs.to_pylist() if row["source_id"] == spoilt}
    assert_nobody_left(job, 60)


@pytest.mark.long
def test_bad_input_is_reported_once(world: Any, folder: Path, tmp_path: Path) -> None:
    job = world.make_job(tmp_path, folder, several(world.settings()), world.pairs_table(1))
    job.references.write_bytes(b"no parquet")
    with pytest.raises(BadInputError, match="not a readable Parquet file") as caught:
        train(job)
    assert caught.value.where == str(job.references)
    assert_nobody_left(job, 60)
