"""The training loop: step after step, from the first or from a checkpoint, to the end or to a stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mpo_core.training.checkpoints import Checkpoints
from mpo_core.training.stop import Stop

if TYPE_CHECKING:
    from mpo_core.training.trainer import MPOTrainer

Report = Callable[[dict[str, Any]], None]


@dataclass
class Progress:
    """How far a training is. It is in every checkpoint and, at the end, in trainer_state.json.

    The names are those of transformers, whose format the file has.
    """

    max_steps: int
    global_step: int = 0
    epoch: float = 0.0
    best_metric: float | None = None
    """Lowest validation loss so far, where training stops early."""
    best_global_step: int | None = None
    """The step with the lowest validation loss."""
    log_history: list[dict[str, float]] = field(default_factory=list)
    """A line for each step, and for each evaluation."""

    @property
    def is_over(self) -> bool:
        """Says whether the last step is done."""
        return self.global_step >= self.max_steps

    def note_evaluation(self, loss: float) -> bool:
        """Says whether this validation loss is the lowest so far, and remembers it."""
        is_best = self.best_metric is None or loss < self.best_metric
        if is_best:
            self.best_metric, self.best_global_step = loss, self.global_step
        return is_best

    def evaluations_since_best(self) -> int:
        """Counts in the log, which checkpoints hold, so that a resumed training stops where it would have."""
        losses = [line["eval_loss"] for line in self.log_history if "eval_loss" in line]
        return len(losses) - 1 - losses.index(min(losses)) if losses else 0


def train(trainer: MPOTrainer, checkpoint: Path | None, *, report: Report, stop: Stop) -> bool:
    """Trains to the last step, to a stop, or until validation gets no better; says whether a stop was requested before.

    Args:
        trainer: what is done in a step, and with what.
        checkpoint: where to go on, if anywhere.
        report: called with each line of the log, with `step` and `max_steps`.
        stop: a request to end after the step in progress.
    """
    settings, state = trainer.settings, trainer.state
    trainer.prepare()
    checkpoints = Checkpoints(
        trainer.folder, trainer.accelerator, trainer.model_wrapped, trainer.optimizer, trainer.extras
    )
    if checkpoint is not None:
        vars(state).update(checkpoints.load(checkpoint))
    began = time.monotonic()

    def log(line: dict[str, float]) -> None:
        line |= {"epoch": state.epoch}
        state.log_history.append(line | {"step": state.global_step})
        report(line | {"step": state.global_step, "max_steps": state.max_steps})

    for rows in trainer.order.all_steps(state.max_steps, state.global_step):
        if settings.patience is not None and state.evaluations_since_best() >= settings.patience:
            break
        if state.global_step % len(trainer.order) == 0:
            # The data loader of transformers' Trainer drew a number here: a dropout of adapters depends on it.
            torch.empty((), dtype=torch.int64).random_()
        step, rate = trainer.step_of(rows), trainer.set_learning_rate()
        loss = trainer.forward_and_backward(step)
        figures = trainer.read_finite(step, loss, trainer.clip_gradient())
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        state.global_step += 1
        state.epoch = state.global_step / len(trainer.order)
        log(trainer.log_line(figures, rate))

        is_best = False
        every = settings.evaluate_every if trainer.eval_dataset else None
        if every is not None and (state.is_over or state.global_step % every == 0):
            evaluation = trainer.evaluate()
            log(evaluation)
            is_best = settings.patience is not None and state.note_evaluation(evaluation["eval_loss"])
        stops = stop.requested_anywhere(trainer.accelerator)
        if is_best or stops or state.is_over or state.global_step % settings.save_every == 0:
            checkpoints.save(asdict(state), state.global_step, state.best_global_step)
        if stops and not state.is_over:
            return True

    log({"train_runtime": round(time.monotonic() - began, 4)})
    if state.best_global_step is not None:
        checkpoints.load_weights(checkpoints.of_step(state.best_global_step))
    return False
