"""How long a training is, in which order it sees the rows, and our settings in transformers' words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.utils.data import Sampler
from transformers import TrainingArguments

from mpo_core.models import pick_device
from mpo_core.settings import TrainingSettings


def total_steps(settings: TrainingSettings, rows: int) -> int:
    """Optimiser steps of a whole training on so many rows."""
    return settings.max_steps or math.ceil(settings.epochs * _steps_per_epoch(settings, rows))


def _steps_per_epoch(settings: TrainingSettings, rows: int) -> int:
    # The last step of an epoch may have fewer micro-batches, and its last one fewer rows.
    return math.ceil(math.ceil(rows / settings.batch_size) / settings.gradient_accumulation)


def training_arguments(
    settings: TrainingSettings, folder: Path, rows: int, *, evaluates: bool, use_cache: bool
) -> TrainingArguments:
    """Our settings in the words of transformers.

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
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=schedule,
        warmup_steps=warmup,
        optim="adamw_torch",
        adam_beta1=0.9,
        adam_beta2=0.999,
        adam_epsilon=1e-8,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        seed=settings.seed,
        bf16=settings.precision == "bfloat16",  # autocast; the master weights stay fp32
        use_cpu=pick_device(settings.device) == "cpu",
        activation_checkpointing=settings.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False} if settings.gradient_checkpointing else None,
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
    if every is not None and settings.patience is not None:
        arguments.metric_for_best_model = "eval_loss"
        arguments.greater_is_better = False
        # Set after construction: transformers 5.23 asks there that save_steps be a multiple of eval_steps, but
        # callbacks.StopEarly saves whatever evaluation is the best so far.
        arguments.load_best_model_at_end = True
    return arguments


class EpochOrder(Sampler[int]):
    """The rows' order in an epoch, a function of seed and epoch alone, so that a resumed run finds it again."""

    def __init__(self, rows: int, *, seed: int, shuffle: bool) -> None:
        self.rows, self.seed, self.shuffle, self.epoch = rows, seed, shuffle, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the loader before each epoch."""
        self.epoch = epoch

    def order(self, epoch: int) -> list[int]:
        """Row numbers in the order of `epoch`."""
        if not self.shuffle:
            return list(range(self.rows))
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        return torch.randperm(self.rows, generator=generator).tolist()

    def __iter__(self) -> Iterator[int]:
        return iter(self.order(self.epoch))

    def __len__(self) -> int:
        return self.rows


def planned_batches(settings: TrainingSettings, rows: int) -> Iterator[list[int]]:
    """Row numbers of every micro-batch of the training, in order."""
    order = EpochOrder(rows, seed=settings.seed, shuffle=settings.shuffle)
    per_epoch = _steps_per_epoch(settings, rows)
    for step in range(total_steps(settings, rows)):
        epoch, step_of_epoch = divmod(step, per_epoch)
        numbers = order.order(epoch)
        for micro in range(settings.gradient_accumulation):
            start = (step_of_epoch * settings.gradient_accumulation + micro) * settings.batch_size
            if start < rows:
                yield numbers[start : start + settings.batch_size]
