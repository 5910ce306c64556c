"""DPO regularised by length (arXiv 2403.19159)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mpo_core.contract.training import Beta, Scores, TrainingMethod

if TYPE_CHECKING:
    from torch import Tensor


class RDpo(TrainingMethod):
    """DPO that learns less from a pair whose chosen answer is the longer one."""

    needs_target_reference: ClassVar[bool] = True

    method: Literal["r_dpo"]
    """Name of the method."""
    beta: Beta = 0.1
    """Factor of the log-ratios of policy and reference: one number, or one by language code (and `default`). Default:
    0.1."""
    length_alpha: float = Field(0.01, ge=0.0)
    """Added to the reward margin for each token by which chosen is longer than rejected, and taken from it for each
    token by which it is shorter; 0 is plain DPO. Default: 0.01."""

    def loss(self, scores: Scores) -> Tensor:
        """Returns -log sigmoid(beta (h(y_w) - h(y_l)) + a (|y_w| - |y_l|)), a = `length_alpha`.

        The reward that the policy implies is beta h(y) + a |y|, because a |y| is taken off the reward
        that it maximises. So a pair whose chosen is longer counts as learnt sooner.
        """
        from torch.nn.functional import logsigmoid

        chosen, rejected = scores.log_ratios
        longer = scores.chosen_tokens - scores.rejected_tokens
        return -logsigmoid(scores.beta * (chosen - rejected) + self.length_alpha * longer)
