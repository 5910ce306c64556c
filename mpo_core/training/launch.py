"""Training in a process of its own: started, watched, and ended from here.

A stop on SIGTERM needs the main thread, and whoever trains is usually a worker's thread;
so the trainer is `python -m mpo_core.training.child JOB.json`. It tells its figures as JSON
lines on stdout, writes everything else into `work/training.log`, and dies when stdin closes,
which is what happens when this process dies, however it dies.

With `processes` there are as many such children, started by `accelerate launch` and sharing
these pipes. The first of them speaks; the others only say why they failed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from mpo_core.contract.artifacts import write_atomically
from mpo_core.contract.errors import BadInputError, StageFailedError
from mpo_core.contract.own_packages import own_path
from mpo_core.settings import ModelSettings
from mpo_core.settings.pipeline import AnyMethod
from mpo_core.training.cuts import Cuts

CONFIGS = Path(__file__).resolve().parents[2] / "deployments" / "accelerate"
LOG = "training.log"
GRACE = 60.0  # seconds that a stopped training has to save its checkpoint


class TrainingJob(BaseModel):
    """Everything that a training needs; paths are paths on this machine."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")

    model_folder: Path
    """The initial model, which is also the reference's."""
    pairs: Path
    """Parquet of PAIRS to train on, every row of it."""
    validation: Path | None = None
    """Parquet of PAIRS to evaluate on."""
    references: Path
    """Parquet of GAPS for both."""
    teacher: Path | None = None
    """Parquet of TEACHER, where the training distils."""
    translations: Path | None = None
    """Parquet of TRANSLATIONS: the pairs' prompts in languages without pairs, where the training compares them."""
    model: ModelSettings
    """`system`, `chat_template` and `trust_remote_code` count here."""
    training: AnyMethod
    """The training."""
    out: Path
    """Folder to which `model/`, `trainer_state.json` and `quarantine.parquet` are written."""
    work: Path
    """Folder of checkpoints and log. Nothing deletes it, so that a later call can resume from it."""


class TrainingResult(BaseModel):
    """The result of a training: where its files are, and what it took."""

    model_folder: Path
    """Plain transformers format, adapters merged."""
    trainer_state: Path
    """The log of every step, in transformers' format."""
    quarantine: Path
    """Parquet of QUARANTINE: pairs that could not be trained on."""
    rows: int
    """Pairs trained on."""
    cuts: Cuts
    """Counts of the pairs that were cut at `training.cutoff`."""
    steps: int
    """Optimiser steps done, those before a resume included."""
    resumed_from: int | None = None
    """Step of the checkpoint that was resumed, if any."""
    best_step: int | None = None
    """Step whose weights the model has, if `patience` is set; None if it has those of the last step."""
    seconds: float
    """Seconds (wall time) since training started in this process, without those before a resume."""
    peak_memory: int
    """Maximum memory in use at one time, in MiB: of the GPU if there is one, else of the process."""


def train(job: TrainingJob, *, on_step: Callable[[dict[str, float | int]], None] | None = None) -> TrainingResult:
    """Trains in a subprocess, resuming from the newest complete checkpoint in `job.work`.

    Args:
        job: see `TrainingJob`.
        on_step: called with the figures of each step and evaluation (`step`, `max_steps`, `loss`, ...).

    Raises:
        BadInputError: raised in the subprocess for bad pairs, bad reference tables, a diverged loss, or a work folder
            that is in use.
        StageFailedError: the training failed or was stopped; says where to look, never shows text of pairs.
    """
    write_atomically(job.work / "job.json", job.model_dump_json(indent=1).encode())
    log = job.work / LOG
    command = _command(job)
    with log.open("ab") as stderr:
        log.chmod(0o600)
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # never written to: its closing tells the child that we are gone
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=_environment(job),
            start_new_session=True,  # Ctrl-C comes here first, so that a checkpoint can be saved
        )
    try:
        return _follow(child, on_step, log)
    finally:
        _end(child)


def _command(job: TrainingJob) -> list[str]:
    """Returns the child's command line, behind `accelerate launch` where there are several.

    Raises:
        BadInputError: DeepSpeed is asked for and missing.
    """
    child = ["-m", "mpo_core.training.child", str(job.work / "job.json")]
    settings = job.training
    if settings.processes == 1:
        return [sys.executable, *child]
    if settings.parallel in ("zero2", "zero3") and importlib.util.find_spec("deepspeed") is None:
        raise BadInputError(
            "DeepSpeed is not installed",
            where=f"training.parallel {settings.parallel}",
            fix="Use fsdp2, or in mpo's own folder: "
            "pip install --no-build-isolation -c constraints.txt -e '.[deepspeed]'.",
        )
    options = ["--config_file", str(CONFIGS / f"{settings.parallel}.yaml"), "--num_processes", str(settings.processes)]
    options += ["--main_process_port", "0"]  # a free one
    return [sys.executable, "-m", "accelerate.commands.launch", *options, *child]


def _follow(
    child: subprocess.Popen[bytes], on_step: Callable[[dict[str, float | int]], None] | None, log: Path
) -> TrainingResult:
    assert child.stdout is not None  # noqa: S101 - PIPE was asked for
    for line in child.stdout:
        if not line.startswith(b'{"'):  # of a library that the launcher imports; DeepSpeed's log goes there
            with log.open("ab") as file:
                file.write(line)
            continue
        event: dict[str, Any] = json.loads(line)
        kind = event.pop("event")
        if kind == "step" and on_step is not None:
            on_step(event)
        elif kind == "result":
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(GRACE)  # it has nothing left to do
            return TrainingResult.model_validate(event)
        elif kind == "stopped":
            raise StageFailedError(f"the training was stopped after step {event['step']}; its checkpoint is kept")
        assert child.stdin is not None  # noqa: S101 - PIPE was asked for
        if kind in ("bad_input", "failed"):
            child.stdin.close()  # ends processes that wait for the one that failed; they have nothing to save
        if kind == "bad_input":
            raise BadInputError(event["what"], where=event["where"], fix=event["fix"])
        if kind == "failed":
            raise StageFailedError(f"the training failed: {event['error']} at {event['at']}; see {log}")
    code = child.wait()
    raise StageFailedError(f"the training ended with code {code} and no result; end of {log}: {_tail(log)}")


def _tail(log: Path) -> str:
    """Returns the last five lines of the log of a child that died without a message (they hold no text of pairs)."""
    text = log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
    return " | ".join(line.strip()[:200] for line in text)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ends the child if it still runs: SIGTERM (it saves a checkpoint), after `GRACE` SIGKILL."""
    try:
        if child.poll() is None:
            child.terminate()
            child.wait(GRACE)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _environment(job: TrainingJob) -> dict[str, str]:
    """Returns the child's environment: this package importable, one device, no telemetry, no hub."""
    environment = os.environ | {
        "PYTHONPATH": own_path(os.environ.get("PYTHONPATH")),
        "HF_HUB_OFFLINE": "1",  # the model is a folder by now
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(int(GRACE)),  # of the processes of `accelerate launch`
    }
    # One process, one device: with several in sight, transformers would wrap the model in DataParallel. Of several
    # processes, each takes the device of its number.
    device = job.training.device
    seen = environment.get("CUDA_VISIBLE_DEVICES")
    if device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    elif job.training.processes == 1 and (seen is None or "," in seen):
        number = int(device.partition(":")[2] or 0) if device.startswith("cuda") else 0
        environment["CUDA_VISIBLE_DEVICES"] = str(number) if seen is None else seen.split(",")[number]
    return environment
