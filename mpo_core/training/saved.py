"""The saved model is the trained one: untied where merging needs it, then loaded and measured on a few rows."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mpo_core.errors import BadInputError
from mpo_core.settings import ModelSettings, TrainingSettings
from mpo_core.training.collator import PairRow
from mpo_core.training.forward import scoring
from mpo_core.training.layout import Item, pack, pad

_ROWS = 4
# Nats per token, relative beyond 1, that rounding explains between the trained model and the saved one. Four bits are
# merged in float32, bfloat16 weights in bfloat16.
_CLOSE = {"float32": 2e-3, "nf4": 2e-2, "bfloat16": 0.1}


class Measured(NamedTuple):
    """What a model says of a few rows."""

    rows: list[PairRow]
    log_p: Tensor
    """[n, 2], summed log-probability of chosen and rejected, on the CPU."""


def measure_trained(trainer: Any) -> Measured:
    """Measures the trained model, as it stands in memory, on a few rows; every process takes part."""
    by_language: dict[str, PairRow] = {}
    rows = sorted(trainer.train_dataset, key=lambda row: sum(map(len, row.target)))
    for row in rows:
        by_language.setdefault(row.language, row)
    chosen = list(by_language.values())[:_ROWS] or rows[:_ROWS]
    return Measured(chosen, trainer.log_probabilities(trainer.model_wrapped, chosen, exact=True).cpu())


def untie_embeddings(model: Any) -> None:
    """Gives the output head weights of its own where adapters change the input embeddings that it shares.

    Merged into shared weights, the update of the embeddings would change the head too, which was trained without it.

    Args:
        model: with adapters, before they are merged.
    """
    bare = model.get_base_model()
    table, head = bare.get_input_embeddings(), bare.get_output_embeddings()
    shared = getattr(table, "base_layer", table).weight
    if not hasattr(table, "base_layer") or head is None or head.weight is not shared:
        return
    head.weight = torch.nn.Parameter(shared.detach().clone(), requires_grad=False)
    for config in {id(config): config for config in (bare.config, bare.config.get_text_config())}.values():
        config.tie_word_embeddings = False
    # transformers 5.23 reads it when it saves and when PEFT hands the model back (modeling_utils.py).
    bare.all_tied_weights_keys = {}


def release(trainer: Any) -> None:
    """Frees the device of a training that is over, so that the saved model fits there."""
    trainer.model = trainer.model_wrapped = trainer.optimizer = trainer.lr_scheduler = None
    trainer.callback_handler.model = trainer.callback_handler.optimizer = None
    trainer.accelerator.free_memory()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


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
            mend="Nothing was saved; the checkpoint is kept. Train other modules (training.lora.target_modules), or "
            "without adapters.",
        )
