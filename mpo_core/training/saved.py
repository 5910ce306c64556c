"""Compares the saved model with the trained one: it is loaded and measured on a few rows."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mpo_core.contract.errors import BadInputError
from mpo_core.settings import ModelSettings, TrainingSettings
from mpo_core.training.collator import PairRow
from mpo_core.training.forward import scoring
from mpo_core.training.layout import Item, pack, pad

_ROWS = 4
_ROOM = 1.25  # free memory of a device, as a multiple of the weights, from which on the saved model is loaded there
# Nats per token, relative beyond 1, that rounding explains between the trained model and the saved one. Four bits are
# merged in float32, bfloat16 weights in bfloat16.
_CLOSE = {"float32": 2e-3, "nf4": 2e-2, "bfloat16": 0.1}


class Measured(NamedTuple):
    """Log-probabilities that a model gives to the answers of a few rows."""

    rows: list[PairRow]
    log_p: Tensor
    """[n, 2], summed log-probability of chosen and rejected, on the CPU."""


def measure_trained(trainer: Any) -> Measured:
    """Measures the trained model in memory on a few rows, before it is saved; every process takes part."""
    by_language: dict[str, PairRow] = {}
    rows = sorted(trainer.train_dataset, key=lambda row: sum(map(len, row.target)))
    for row in rows:
        by_language.setdefault(row.language, row)
    chosen = list(by_language.values())[:_ROWS] or rows[:_ROWS]
    return Measured(chosen, trainer.log_probabilities(trainer.model_wrapped, chosen, exact=True).cpu())


def release(trainer: Any) -> None:
    """Frees the device memory that a finished training holds, so that the saved model can be loaded there."""
    trainer.model = trainer.model_wrapped = trainer.optimizer = None
    trainer.accelerator.free_memory()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def device_for_check(folder: Path) -> str:
    """Returns the device on which to load a saved model: `auto` where its weights fit, else `cpu`.

    Training in four bits may fill a device on which the merged weights, in 32 bits each, find no room.

    Args:
        folder: of the saved model.
    """
    if not torch.cuda.is_available():
        return "cpu"
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return "auto" if torch.cuda.mem_get_info()[0] > _ROOM * size else "cpu"


def require_same(
    folder: Path, trained: Measured, settings: TrainingSettings, model: ModelSettings, *, packed: bool, pad_id: int
) -> None:
    """Loads the saved model and compares it with the trained one on the same rows.

    Args:
        folder: of the saved model.
        trained: what the trained model said.
        settings: its weights say how far rounding reaches.
        model: where to load it, and whether with code of its own.
        packed: how the rows go through it, as in training.
        pad_id: token id of the padding.

    Raises:
        BadInputError: it cannot be loaded, or is another model than the one that was trained.
    """
    from mpo_core.models import load_model

    if not bool(trained.log_p.isfinite().all()):
        raise BadInputError(
            "the trained model gives NaN or infinite log-probabilities",
            where="training, after the last step",
            fix="Nothing was saved; the checkpoint is kept. Lower training.learning_rate.",
        )
    dtype = "bfloat16" if settings.weights == "bfloat16" else "float32"
    saved = load_model(folder, model, dtype=dtype)
    measured = []
    with torch.no_grad(), scoring(saved, packed=packed):
        for row in trained.rows:
            items = [Item(row.target, scored=True, pooled=False)]
            layout = pack(items, "mean") if packed else pad(items, "mean", pad_id)
            measured.append(saved(layout=layout.to(saved.device)).log_p.cpu())
    tokens = torch.tensor([[len(row.target.chosen), len(row.target.rejected)] for row in trained.rows])
    goal = trained.log_p / tokens
    difference = float(((torch.stack(measured) / tokens - goal).abs() / goal.abs().clamp(min=1.0)).max())
    if not difference <= _CLOSE[settings.weights]:  # NaN is another result too
        raise BadInputError(
            f"the saved model is not the one that was trained: log-probabilities differ by {difference:.2g} nats per "
            f"token, rounding explains {_CLOSE[settings.weights]:g}",
            where="training, the model folder",
            fix="Nothing was saved; the checkpoint is kept. Train other modules (training.lora.target_modules), or "
            "without adapters.",
        )
