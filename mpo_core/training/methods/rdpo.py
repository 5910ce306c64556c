"""Robust DPO (arXiv 2403.00409); TRL's `robust`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mpo_core.contract.training import Beta, Scores, TrainingMethod

if TYPE_CHECKING:
    from torch import Tensor


class Rdpo(TrainingMethod):
    """DPO made unbiased for a share of pairs that are labelled the wrong way round."""

    needs_target_reference: ClassVar[bool] = True

    method: Literal["rdpo"]
    """Name of the method."""
    beta: Beta = 0.1
    """Factor of the log-ratios of policy and reference: one number, or one by language code (and `default`). Default:
    0.1."""
    label_smoothing: float = Field(0.1, ge=0.0, lt=0.5)
    """Share (0 to 0.5) of the pairs whose chosen and rejected answers are assumed to be swapped; 0 is plain DPO.
    Default: 0.1."""

    def loss(self, scores: Scores) -> Tensor:
        """Returns ((1 - e) dpo(y_w, y_l) - e dpo(y_l, y_w)) / (1 - 2 e), e = `label_smoothing`."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = scores.log_ratios
        logits, swapped = scores.beta * (chosen - rejected), self.label_smoothing
        return (swapped * logsigmoid(-logits) - (1 - swapped) * logsigmoid(logits)) / (1 - 2 * swapped)
