"""An optimiser step, and what a method's loss is computed from."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mpo_core.contract.training import Scores
from mpo_core.training.collator import PairRow
from mpo_core.training.figures import StepFigures
from mpo_core.training.plan import Forward


class Step(NamedTuple):
    """An optimiser step: all its rows, and this process's share of them in forwards."""

    rows: list[PairRow]
    forwards: list[Forward]
    figures: StepFigures
    kl: float = 0.0
    """See `Scores`."""

    @property
    def weight(self) -> float:
        """Sum of the rows' weights."""
        return math.fsum(row.weight for row in self.rows)

    @property
    def mean_chosen_tokens(self) -> float:
        """Mean number of tokens of a chosen answer, weighted by the rows' weights."""
        return math.fsum(row.weight * len(row.target.chosen) for row in self.rows) / self.weight

    @property
    def mean_prompt_tokens(self) -> float:
        """Mean number of tokens of a prompt after its first one, weighted by the rows' weights."""
        return math.fsum(row.weight * (len(row.target.prompt) - 1) for row in self.rows) / self.weight


def scores(log_p: Tensor, rows: list[PairRow], step: Step) -> Scores:
    """Returns what the method's loss on some rows of a step is computed from; `log_p` is that of a forward pass."""
    chosen, rejected, *prompt = log_p.view(len(rows), -1).unbind(1)
    return Scores(
        chosen=chosen,
        rejected=rejected,
        prompt=prompt[0] if prompt else torch.zeros_like(chosen),
        chosen_tokens=chosen.new_tensor([len(row.target.chosen) for row in rows]),
        rejected_tokens=chosen.new_tensor([len(row.target.rejected) for row in rows]),
        beta=chosen.new_tensor([row.beta for row in rows]),
        anchor_gap=chosen.new_tensor([row.anchor_gap for row in rows]),
        reference_chosen=chosen.new_tensor([row.reference[0] if row.reference else 0.0 for row in rows]),
        reference_rejected=chosen.new_tensor([row.reference[1] if row.reference else 0.0 for row in rows]),
        mean_chosen_tokens=step.mean_chosen_tokens,
        mean_prompt_tokens=step.mean_prompt_tokens,
        kl=step.kl,
    )
