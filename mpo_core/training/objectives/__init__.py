"""The objective of each method: the loss of every pair, from its log-probabilities.

`mpo` is the method of this project; the others are what the paper compares with, on the same
pairs and the same fast forward (docs/comparison-methods.md).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from mpo_core.settings import TrainingSettings
from mpo_core.training.objectives.dpo import dpo, ipo, r_dpo, rdpo
from mpo_core.training.objectives.kto import kto
from mpo_core.training.objectives.likelihood import cpo, orpo, sft, simpo
from mpo_core.training.objectives.mpo import mpo
from mpo_core.training.objectives.scores import Scores

Objective = Callable[[Scores, TrainingSettings], Tensor]

OBJECTIVES: dict[str, Objective] = {
    objective.__name__: objective for objective in (mpo, sft, dpo, ipo, rdpo, cpo, kto, orpo, r_dpo, simpo)
}

__all__ = ["OBJECTIVES", "Objective", "Scores"]
