"""No loss on the pairs: the auxiliary losses alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from mpo_core.contract.training import Scores, TrainingMethod

if TYPE_CHECKING:
    from torch import Tensor


class NoMethod(TrainingMethod):
    """Trains on the auxiliary losses alone; the pairs only say how many steps there are, and which prompts they have.

    With `distillation` this is multilingual self-distillation by itself.
    """

    needs_answers: ClassVar[bool] = False

    method: Literal["none"]
    """Name of the method."""

    def loss(self, scores: Scores) -> Tensor:
        """Returns zero for each pair."""
        return 0.0 * scores.chosen
