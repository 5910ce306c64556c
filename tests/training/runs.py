"""What a training leaves to be compared with another's."""

from __future__ import annotations

from typing import Any

import torch

from mpo_core.training.trainer import MPOTrainer


def weights(model: Any) -> dict[str, torch.Tensor]:
    """Copies all that a checkpoint holds of a model, lower halves of weights included."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


def steps(trainer: MPOTrainer) -> list[dict[str, Any]]:
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def figures(trainer: MPOTrainer) -> list[dict[str, Any]]:
    """The log without the clock's entries."""
    timed = ("runtime", "per_second")
    entries = [entry for entry in trainer.state.log_history if "train_loss" not in entry]
    return [{k: v for k, v in entry.items() if not k.endswith(timed)} for entry in entries]
