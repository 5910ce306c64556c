"""Supervised fine-tuning on the chosen answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mpo_core.contract.training import Scores, TrainingMethod

if TYPE_CHECKING:
    from torch import Tensor


class Sft(TrainingMethod):
    """Raises the likelihood of the chosen answer; the rejected one plays no part."""

    method: Literal["sft"]
    """Name of the method."""

    def loss(self, scores: Scores) -> Tensor:
        """Returns -log pi(y_w|x) per token of the optimiser step, as in TRL: long answers count more."""
        return -scores.chosen / scores.mean_chosen_tokens
