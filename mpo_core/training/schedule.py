"""How long a training is, how fast it learns in each step, and in which order it sees the rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch

from mpo_core.settings import TrainingSettings

Order = Literal["grouped", "shuffled", "file"]


def total_steps(settings: TrainingSettings, rows: int) -> int:
    """Counts the optimiser steps of a whole training on so many rows."""
    per_epoch = math.ceil(rows / settings.step_rows)
    return settings.max_steps or math.ceil(settings.epochs * per_epoch)


def learning_rate(settings: TrainingSettings, step: int, total: int) -> float:
    """Returns the learning rate of an optimiser step: it rises during the warm-up, then falls as the schedule says.

    Args:
        settings: of the training.
        step: number of the step, from 0.
        total: steps of the whole training.
    """
    warmup = math.ceil(settings.warmup * total)
    if step < warmup:
        return settings.learning_rate * (step / max(1, warmup))
    after = (step - warmup) / max(1, total - warmup)
    shares = {
        "cosine": max(0.0, 0.5 * (1.0 + math.cos(math.pi * after))),
        "linear": max(0.0, (total - step) / max(1, total - warmup)),
        "constant": 1.0,
    }
    return settings.learning_rate * shares[settings.schedule]


class EpochSteps:
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
        self.sources, self.step_rows, self.seed, self.order = sources, step_rows, seed, order

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
        """Returns the row numbers of each optimiser step of `epoch`."""
        numbers = self.rows(epoch)
        return [numbers[start : start + self.step_rows] for start in range(0, len(numbers), self.step_rows)]

    def __len__(self) -> int:
        return math.ceil(len(self.sources) / self.step_rows)

    def all_steps(self, total: int, start: int = 0) -> Iterator[list[int]]:
        """Yields the row numbers of the first `total` optimiser steps of the training, without the first `start`."""
        for epoch in range(start // len(self), math.ceil(total / len(self))):
            for number, rows in enumerate(self.steps(epoch), epoch * len(self)):
                if start <= number < total:
                    yield rows
