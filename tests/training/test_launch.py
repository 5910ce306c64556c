"""The training process from outside: what it leaves, and how it dies."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.tables import QUARANTINE
from mpo_core.settings import LoraSettings
from mpo_core.training import launch as launching
from mpo_core.training.launch import TrainingJob, TrainingResult, train
from tests.session import lives

ROOT = Path(__file__).resolve().parents[2]


def losses(result: TrainingResult) -> list[tuple[int, float, float]]:
    history = json.loads(result.trainer_state.read_text())["log_history"]
    return [(entry["step"], entry["loss"], entry["grad_norm"]) for entry in history if "loss" in entry]


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def child_pid(job: TrainingJob) -> int:
    return int((job.work / "lock").read_text())


def interrupted(job: TrainingJob, kind: signal.Signals) -> None:
    """Runs the job until a checkpoint is complete, then signals its process."""

    def on_step(line: dict[str, Any]) -> None:
        if any(job.work.glob("*/checkpoint-*/complete.json")):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child_pid(job), kind)

    with pytest.raises(RuntimeError) as caught:
        train(job, on_step=on_step)
    assert ("code -9" if kind == signal.SIGKILL else "was stopped after step") in str(caught.value)


def test_what_a_training_leaves_behind(world: Any, folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    pairs = world.pairs_table()
    rows = pairs.to_pylist()
    rows[3]["target_chosen"] = ""
    settings = world.settings(lora=LoraSettings(rank=4), max_steps=3, learning_rate=0.01, evaluate_every=2)
    validation = world.pairs_table(2, split="validation")
    job = world.make_job(tmp_path, folder, settings, pairs.from_pylist(rows, schema=pairs.schema), validation)
    lines: list[dict[str, Any]] = []
    result = train(job, on_step=lines.append)

    assert (result.rows, result.steps, result.resumed_from, result.best_step) == (11, 3, None, None)
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3]
    assert all(line["max_steps"] == 3 for line in lines)
    assert {line["step"] for line in lines if "eval_loss" in line} == {2, 3}
    rejected = QUARANTINE.check(pq.read_table(result.quarantine)).to_pylist()
    assert [(row["row_id"], row["reason"]) for row in rejected] == [(rows[3]["pair_id"], "empty_response")]

    names = {path.name for path in result.model_folder.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not any("adapter" in name or name.endswith((".bin", ".pt")) for name in names)
    trained = AutoModelForCausalLM.from_pretrained(result.model_folder, dtype="auto")
    tokenizer = AutoTokenizer.from_pretrained(result.model_folder)
    initial = AutoModelForCausalLM.from_pretrained(folder)
    assert trained.dtype == torch.float32
    assert trained.config.use_cache is True
    assert set(trained.state_dict()) == set(initial.state_dict())
    moved = [k for k, v in trained.state_dict().items() if not torch.equal(v, initial.state_dict()[k])]
    assert len(moved) == 14  # the merged linear layers and nothing else
    chat = [{"role": "user", "content": "Tell me about tea."}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    assert trained.generate(**prompt, max_new_tokens=4, min_new_tokens=4).shape[1] == prompt["input_ids"].shape[1] + 4


def test_bad_input_crosses_the_process(world: Any, folder: Path, tmp_path: Path) -> None:
    job = world.make_job(tmp_path, folder, world.settings(), world.pairs_table(1))
    job.references.write_bytes(b"no parquet")
    with pytest.raises(BadInputError, match="not a readable Parquet file") as caught:
        train(job)
    assert caught.value.where == str(job.references)
    assert caught.value.fix == "Write the file again."
    assert not (job.out / "model").exists()


def test_references_of_another_model_are_refused(world: Any, folder: Path, tmp_path: Path) -> None:
    from mpo_core.models import load_model
    from mpo_core.training.child import _build

    pairs = world.pairs_table(1)
    job = world.make_job(tmp_path, folder, world.settings(), pairs)
    other = load_model(folder, world.MODEL)
    with torch.no_grad():
        other.lm_head.weight.mul_(1.01)
    other.save_pretrained(tmp_path / "other")
    for file in folder.glob("*token*"):
        (tmp_path / "other" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "other" / "chat_template.jinja").write_bytes((folder / "chat_template.jinja").read_bytes())
    with pytest.raises(BadInputError, match="the references were measured on another model") as caught:
        _build(
            job.model_copy(update={"model_folder": tmp_path / "other"}),
            pairs, None, pq.read_table(job.references),
        )  # fmt: skip
    assert "\n" not in str(caught.value)


def test_a_training_without_rows_says_why(tmp_path: Path) -> None:
    from mpo_core.training.child import _refuse_empty

    rows = [{"row_id": f"{i}", "language": "sw", "reason": "no_reference", "detail": ""} for i in range(2)]
    rows.append({"row_id": "2", "language": "sw", "reason": "empty_response", "detail": ""})
    with pytest.raises(BadInputError, match=r"\(empty_response 1, no_reference 2\)"):
        _refuse_empty([], QUARANTINE.build(rows), tmp_path)
    with pytest.raises(BadInputError, match=r"\(no rows\)"):
        _refuse_empty([], QUARANTINE.build([]), tmp_path)


def test_sigkill_and_resume_give_the_same_bytes(world: Any, folder: Path, tmp_path: Path) -> None:
    settings = world.settings(max_steps=40, gradient_accumulation=2, save_every=3)
    whole = train(world.make_job(tmp_path / "whole", folder, settings, world.pairs_table()))
    job = world.make_job(tmp_path / "cut", folder, settings, world.pairs_table())
    interrupted(job, signal.SIGKILL)
    resumed = train(job)
    assert resumed.resumed_from is not None
    assert 3 <= resumed.resumed_from < 40
    assert losses(resumed) == losses(whole)
    assert digests(resumed.model_folder) == digests(whole.model_folder)


@pytest.mark.long
def test_sigkill_sigterm_and_resumeadd_adapters(world: Any, folder: Path, tmp_path: Path) -> None:
    lora = LoraSettings(rank=4, dropout=0.2)
    settings = world.settings(
        max_steps=60, gradient_accumulation=3, save_every=4, lora=lora, evaluate_every=3, patience=100
    )
    validation = world.pairs_table(2, split="validation")
    whole = train(world.make_job(tmp_path / "whole", folder, settings, world.pairs_table(), validation))
    job = world.make_job(tmp_path / "cut", folder, settings, world.pairs_table(), validation)
    interrupted(job, signal.SIGKILL)
    interrupted(job, signal.SIGTERM)
    resumed = train(job)
    assert resumed.resumed_from is not None
    assert losses(resumed) == losses(whole)
    assert resumed.best_step == whole.best_step is not None
    assert digests(resumed.model_folder) == digests(whole.model_folder)


def test_the_child_dies_with_its_parent(world: Any, folder: Path, tmp_path: Path) -> None:
    job = world.make_job(tmp_path, folder, world.settings(max_steps=100_000), world.pairs_table())
    (tmp_path / "job.json").write_text(job.model_dump_json())
    code = (
        "import sys; from pathlib import Path; from mpo_core.training.launch import TrainingJob, train\n"
        f"job = TrainingJob.model_validate_json(Path({str(tmp_path / 'job.json')!r}).read_text())\n"
        "train(job, on_step=lambda line: print(line['step'], flush=True))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
    assert parent.stdout is not None
    assert parent.stdout.readline().strip() == b"1"
    pid = child_pid(job)
    assert lives(pid)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while lives(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not lives(pid)


@pytest.mark.long
def test_a_cancel_ends_the_child(world: Any, folder: Path, tmp_path: Path) -> None:
    job = world.make_job(tmp_path, folder, world.settings(max_steps=100_000), world.pairs_table())

    def cancel(line: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(job, on_step=cancel)
    assert not lives(child_pid(job))
    assert list(job.work.glob("*/checkpoint-*/complete.json"))  # it had time to save


def test_two_trainings_never_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mpo_core.training import child

    monkeypatch.setattr(child, "_LOCK_WAIT", 0.3)
    with (tmp_path / "lock").open("w") as first, (tmp_path / "lock").open("a+") as second:
        fcntl.flock(first, fcntl.LOCK_EX)
        with pytest.raises(BadInputError, match="another training"):
            child._take(second, tmp_path)
        fcntl.flock(first, fcntl.LOCK_UN)
        child._take(second, tmp_path)


def test_another_job_never_resumes_these_checkpoints(world: Any, folder: Path, tmp_path: Path) -> None:
    from mpo_core.training.child import _fingerprint

    job = world.make_job(tmp_path, folder, world.settings(), world.pairs_table())
    same = job.model_copy(update={"training": job.training.model_copy(update={"save_every": 7}), "out": tmp_path})
    other = job.model_copy(update={"training": job.training.model_copy(update={"beta": 2.0})})
    assert _fingerprint(same) == _fingerprint(job) != _fingerprint(other)
    pq.write_table(world.pairs_table(2), job.pairs)
    assert _fingerprint(same) != _fingerprint(other)
    assert _fingerprint(job) == _fingerprint(same)


def test_a_failure_tells_the_place_and_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    from mpo_core.training.child import _report_failure

    sent: list[tuple[str, dict[str, Any]]] = []

    class Channel:
        def send(self, event: str, fields: dict[str, Any]) -> None:
            sent.append((event, fields))

    with pytest.raises(KeyError) as caught:
        {}["a very private prompt"]
    assert _report_failure(caught.value, Channel()) == 1  # type: ignore[arg-type]
    assert sent[0][0] == "failed"
    assert sent[0][1]["error"] == "KeyError"
    assert "test_launch.py" in sent[0][1]["at"]
    assert "private" not in json.dumps(sent)


@pytest.mark.parametrize(
    ("device", "seen", "expected"),
    [("cpu", "0,1", ""), ("auto", None, "0"), ("cuda:1", None, "1"), ("cuda:1", "4,7", "7"), ("auto", "3", "3")],
)
def test_a_single_device_in_sight(
    world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, seen: str | None, expected: str
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if seen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    job = TrainingJob(
        model_folder=tmp_path, pairs=tmp_path, references=tmp_path, model=world.MODEL,
        training=world.settings(device=device), out=tmp_path, work=tmp_path,
    )  # fmt: skip
    assert launching._environment(job)["CUDA_VISIBLE_DEVICES"] == expected
