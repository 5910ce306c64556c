"""IPO (arXiv 2310.12036)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from mpo_core.contract.training import Beta, Scores, TrainingMethod

if TYPE_CHECKING:
    from torch import Tensor


class Ipo(TrainingMethod):
    """Pulls the difference between the log-ratios (per token) of chosen and rejected answer to a fixed margin."""

    needs_target_reference: ClassVar[bool] = True

    method: Literal["ipo"]
    """Name of the method."""
    beta: Beta = 0.1
    """The margin is 1 / (2 beta) nats per token: one number, or one by language code (and `default`). Default: 0.1."""

    def loss(self, scores: Scores) -> Tensor:
        """Returns (h(y_w) / |y_w| - h(y_l) / |y_l| - 1 / (2 beta))^2, with h the log-ratio of policy and reference.

        Equation 17 of the IPO paper, but per token, as in TRL, which has it from the paper's authors.
        """
        chosen, rejected = scores.log_ratios
        return (chosen / scores.chosen_tokens - rejected / scores.rejected_tokens - 1 / (2 * scores.beta)).square()
