"""What happens between steps: complete checkpoints, early stopping, a stop on SIGTERM, the stream of figures."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from mpo_core.contract.artifacts import write_atomically

COMPLETE = "complete.json"  # sizes of a checkpoint's files; written last


def newest_checkpoint(folder: Path) -> Path | None:
    """Returns the newest complete checkpoint; deletes those that were cut off in the middle."""
    complete = []
    for path in folder.glob("checkpoint-*"):
        if _complete(path):
            complete.append(path)
        else:
            shutil.rmtree(path, ignore_errors=True)
    return max(complete, key=_step, default=None)


def _step(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def _sizes(path: Path) -> dict[str, int]:
    files = (file for file in path.rglob("*") if file.is_file() and file.name != COMPLETE)
    return {file.relative_to(path).as_posix(): file.stat().st_size for file in files}


def _complete(path: Path) -> bool:
    try:
        recorded = json.loads((path / COMPLETE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(recorded == _sizes(path))


class Checkpoints(TrainerCallback):
    """Marks a checkpoint complete, then deletes the older ones (the best is kept).

    transformers writes a checkpoint file by file and deletes old ones before the new one
    is known to be whole; a SIGKILL in between would leave nothing to resume from.
    """

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:  # noqa: ARG002
        """Marks a checkpoint as complete once all processes have written it, and deletes the older ones."""
        PartialState().wait_for_everyone()  # each process writes some of them
        if not state.is_world_process_zero:
            return
        folder = Path(str(args.output_dir))
        newest = folder / f"checkpoint-{state.global_step}"
        write_atomically(newest / COMPLETE, json.dumps(_sizes(newest)).encode())
        best = None if state.best_model_checkpoint is None else Path(state.best_model_checkpoint).name
        for path in folder.glob("checkpoint-*"):
            if path.name not in (newest.name, best):
                shutil.rmtree(path, ignore_errors=True)


class StopEarly(TrainerCallback):
    """Stops after `patience` evaluations without a better `eval_loss`, and saves each best one.

    It counts in the log, which checkpoints carry, so a resumed run stops where it would have.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:  # noqa: ARG002
        """Saves a checkpoint after the best evaluation so far, and stops when `patience` is used up."""
        losses = [entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry]
        best = losses.index(min(losses))
        if best == len(losses) - 1:
            control.should_save = True
        elif len(losses) - 1 - best >= self.patience:
            control.should_training_stop = True


class StopOnSignal(TrainerCallback):
    """After SIGTERM the step in progress is finished, logged and saved; then training ends, in every process.

    transformers' own JIT checkpoint saves before the step is logged and evaluated, so that
    a resumed run would lack both.
    """

    def __init__(self) -> None:
        self.stop_requested = False

    def listen(self) -> None:
        """Handles SIGTERM from now on; call it in the main thread."""
        signal.signal(signal.SIGTERM, lambda _signum, _frame: self.request_stop())

    def request_stop(self) -> None:
        """Requests the stop."""
        self.stop_requested = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:  # noqa: ARG002
        """Stops the training after this step if a stop was requested in any process."""
        processes = PartialState()
        if processes.num_processes > 1:
            # The signal reaches them in different steps, and whoever went on alone would wait for ever.
            self.stop_requested = bool(
                reduce(torch.tensor(float(self.stop_requested), device=processes.device), "sum") > 0
            )
        if self.stop_requested:
            control.should_save = True
            control.should_training_stop = True


class Stream(TrainerCallback):
    """Hands each logged line to `send`, with `step` and `max_steps`."""

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        self.send = send

    def on_log(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Reports a line of the log to the parent process."""
        self.send({**(logs or {}), "step": state.global_step, "max_steps": state.max_steps})
