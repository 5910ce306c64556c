"""DPO (arXiv 2305.18290)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from mpo_core.contract.training import Beta, Scores, TrainingMethod

if TYPE_CHECKING:
    from torch import Tensor


class Dpo(TrainingMethod):
    """Trains the model to prefer the chosen to the rejected answer by more than the frozen model does."""

    needs_target_reference: ClassVar[bool] = True

    method: Literal["dpo"]
    """Name of the method."""
    beta: Beta = 0.1
    """Factor of the log-ratios of policy and reference: one number, or one by language code (and `default`). Default:
    0.1."""

    def loss(self, scores: Scores) -> Tensor:
        """Returns -log sigmoid(beta (h(y_w) - h(y_l))), with h the log-ratio of policy and reference.

        Equation 7 of the DPO paper.
        """
        from torch.nn.functional import logsigmoid

        chosen, rejected = scores.log_ratios
        return -logsigmoid(scores.beta * (chosen - rejected))
