"""The objective of each method: the loss of every pair, from its log-probabilities.

`mpo` is the method of this project; the others are what the paper compares with, on the same
pairs and the same fast forward.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from mpo_core.settings import TrainingSettings
from mpo_core.training.objectives.mpo import mpo
from mpo_core.training.objectives.scores import Scores

Objective = Callable[[Scores, TrainingSettings], Tensor]

OBJECTIVES: dict[str, Objective] = {"mpo": mpo}

__all__ = ["OBJECTIVES", "Objective", "Scores"]
