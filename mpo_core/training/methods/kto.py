"""KTO (arXiv 2402.01306): every pair is one desirable and one undesirable example."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mpo_core.contract.training import Beta, Scores, TrainingMethod

if TYPE_CHECKING:
    from torch import Tensor


class Kto(TrainingMethod):
    """Makes chosen answers likelier and rejected ones less likely, each compared with the model's mean drift."""

    needs_target_reference: ClassVar[bool] = True
    needs_divergence: ClassVar[bool] = True

    method: Literal["kto"]
    """Name of the method."""
    beta: Beta = 0.1
    """Factor of the log-ratios of policy and reference: one number, or one by language code (and `default`). Default:
    0.1."""
    desirable_weight: float = Field(1.0, gt=0.0)
    """Weight of the chosen answers in the loss. Default: 1."""
    undesirable_weight: float = Field(1.0, gt=0.0)
    """Weight of the rejected answers in the loss. Default: 1."""

    def loss(self, scores: Scores) -> Tensor:
        """Returns the mean of d (1 - sigmoid(beta (h(y_w) - z))) and u (1 - sigmoid(beta (z - h(y_l)))).

        Equation 7 of the KTO paper: h is the log-ratio of policy and reference, z = `scores.kl`, d and u are
        `desirable_weight` and `undesirable_weight`.
        """
        import torch

        chosen, rejected = scores.log_ratios
        # 1 - sigmoid(t) is sigmoid(-t), which keeps its digits for large t.
        desirable = self.desirable_weight * torch.sigmoid(scores.beta * (scores.kl - chosen))
        undesirable = self.undesirable_weight * torch.sigmoid(scores.beta * (rejected - scores.kl))
        return (desirable + undesirable) / 2
