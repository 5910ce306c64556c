"""MPO's L1 (arXiv 2505.16869, eq. 4); L2 is on the dominant pairs and is added by the trainer."""

from __future__ import annotations

from torch import Tensor

from mpo_core.settings import TrainingSettings
from mpo_core.training.objective import gap_loss
from mpo_core.training.objectives.scores import Scores


def mpo(scores: Scores, settings: TrainingSettings) -> Tensor:
    """(beta * RG_target(policy) - RG_dominant(reference))^2 of each pair."""
    del settings
    return gap_loss(scores.gap, scores.anchor_gap, scores.beta)
