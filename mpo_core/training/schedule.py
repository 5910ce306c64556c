"""How long a training is, in which order it sees the rows, and our settings in transformers' words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import DistributedType, PartialState
from torch.utils.data import Sampler
from transformers import TrainingArguments

from mpo_core.models import pick_device
from mpo_core.settings import TrainingSettings

Order = Literal["grouped", "shuffled", "file"]
_BETAS, _EPSILON = (0.9, 0.999), 1e-8  # of AdamW


def total_steps(settings: TrainingSettings, rows: int) -> int:
    """Counts the optimiser steps of a whole training on so many rows."""
    per_epoch = math.ceil(rows / settings.step_rows)
    return settings.max_steps or math.ceil(settings.epochs * per_epoch)


def training_arguments(
    settings: TrainingSettings, folder: Path, rows: int, *, evaluates: bool, use_cache: bool
) -> TrainingArguments:
    """Translates our settings into the TrainingArguments of transformers.

    Args:
        settings: of the training.
        folder: where checkpoints go.
        rows: rows of training, for the length of the warm-up.
        evaluates: there are validation rows.
        use_cache: as the model's config has it; transformers would write False into the saved model.
    """
    warmup = math.ceil(settings.warmup * total_steps(settings, rows))
    schedule = "constant_with_warmup" if settings.schedule == "constant" else settings.schedule
    every = settings.evaluate_every if evaluates else None
    arguments = TrainingArguments(
        output_dir=str(folder),
        # A batch of the loader is a whole optimiser step; the trainer cuts it into forwards by itself.
        per_device_train_batch_size=settings.step_rows,
        per_device_eval_batch_size=settings.step_rows,
        gradient_accumulation_steps=1,
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=schedule,
        warmup_steps=warmup,
        optim="adamw_torch_fused",
        adam_beta1=_BETAS[0],
        adam_beta2=_BETAS[1],
        adam_epsilon=_EPSILON,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm or 0.0,  # 0 is off there, and in DeepSpeed
        seed=settings.seed,
        use_cpu=pick_device(settings.device) == "cpu",
        activation_checkpointing=settings.gradient_checkpointing is True,  # forward_size.py sees to `auto`
        activation_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=1,
        logging_nan_inf_filter=False,  # a NaN stops the run; the filter would hide it
        eval_strategy="no" if every is None else "steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=settings.save_every,
        save_total_limit=None,  # callbacks.Checkpoints deletes the old ones once the new one is complete
        remove_unused_columns=False,
        use_cache=use_cache,
        dataloader_pin_memory=False,
        report_to=["tensorboard"] if settings.tensorboard else [],
        disable_tqdm=True,
        push_to_hub=False,
    )
    if settings.parallel == "fsdp2" and PartialState().distributed_type == DistributedType.MULTI_CPU:
        # accelerate 1.15 shards over devices alone, though torch does over CPUs too: so they pass for devices.
        PartialState().distributed_type = DistributedType.MULTI_GPU
    if every is not None and settings.patience is not None:
        arguments.metric_for_best_model = "eval_loss"
        arguments.greater_is_better = False
        # Set after construction: transformers 5.23 asks there that save_steps be a multiple of eval_steps, but
        # callbacks.StopEarly saves whatever evaluation is the best so far.
        arguments.load_best_model_at_end = True
    return arguments


def lean_arguments(settings: TrainingSettings) -> dict[str, Any]:
    """Translates our settings into the arguments of `LeanAdamW`, equal to those that AdamW gets without it."""
    return {"lr": settings.learning_rate, "betas": _BETAS, "eps": _EPSILON, "seed": settings.seed}


class EpochSteps(Sampler[list[int]]):
    """The rows of each optimiser step of an epoch, over all processes.

    A function of seed and epoch alone, so that a resumed run finds the same order again.

    Args:
        sources: source_id of each row, in file order.
        step_rows: rows of an optimiser step; the last of an epoch may have fewer.
        seed: of the order.
        order: `file`; `shuffled`; or `grouped`, which shuffles the sources and keeps the rows
            of one source together, so that their dominant pair goes through the model once.
    """

    def __init__(self, sources: list[str], *, step_rows: int, seed: int, order: Order) -> None:
        self.sources, self.step_rows, self.seed, self.order, self.epoch = sources, step_rows, seed, order, 0

    @property
    def batch_sampler(self) -> EpochSteps:
        """This sampler: transformers' Trainer calls `set_epoch` on the `batch_sampler` of a loader's sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Starts an epoch; the trainer calls it before each."""
        self.epoch = epoch

    def rows(self, epoch: int) -> list[int]:
        """Returns the row numbers in the order of `epoch`."""
        numbers = list(range(len(self.sources)))
        if self.order == "file":
            return numbers
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        shuffled = torch.randperm(len(numbers), generator=generator).tolist()
        if self.order == "shuffled":
            return shuffled
        first: dict[str, int] = {}
        for place, number in enumerate(shuffled):
            first.setdefault(self.sources[number], place)
        return sorted(shuffled, key=lambda number: first[self.sources[number]])

    def steps(self, epoch: int) -> list[list[int]]:
        """Yields the row numbers of each optimiser step of `epoch`."""
        numbers = self.rows(epoch)
        return [numbers[start : start + self.step_rows] for start in range(0, len(numbers), self.step_rows)]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.steps(self.epoch))

    def __len__(self) -> int:
        return math.ceil(len(self.sources) / self.step_rows)

    def all_steps(self, total: int) -> Iterator[list[int]]:
        """Yields the row numbers of the first `total` optimiser steps of the training."""
        for step in range(total):
            epoch, step_of_epoch = divmod(step, len(self))
            yield self.steps(epoch)[step_of_epoch]
