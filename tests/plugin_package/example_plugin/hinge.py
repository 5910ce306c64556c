"""A training method that widens the reward gap of the target pairs up to a margin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mpo_core.contract.training import Scores, TrainingMethod

if TYPE_CHECKING:
    from torch import Tensor


class Hinge(TrainingMethod):
    """Widens the reward gap of a target pair until it reaches a margin."""

    method: Literal["hinge"]
    """Name of the method."""
    margin: float = Field(1.0, gt=0.0)
    """Reward gap, in nats per token, from which on a pair is learnt. Default: 1."""

    def loss(self, scores: Scores) -> Tensor:
        """Returns how far each pair's gap is below the margin."""
        return (self.margin - scores.gap).clamp(min=0.0)
