"""MI-balanced DPO: a proposal of this project, after arXiv 2603.22829, whose own formula we could not find."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mpo_core.contract.training import Beta, Scores, TrainingMethod

if TYPE_CHECKING:
    from torch import Tensor


class BalancedDpo(TrainingMethod):
    """Trains like `dpo`, but weighs a pair's answers by how much the frozen model makes them depend on the prompt."""

    needs_target_reference: ClassVar[bool] = True
    needs_bare_reference: ClassVar[bool] = True

    method: Literal["balanced_dpo"]
    """Name of the method."""
    beta: Beta = 0.1
    """Factor of the log-ratios of policy and reference: one number, or one by language code (and `default`). Default:
    0.1."""
    temperature: float = Field(1.0, gt=0.0)
    """Divisor of the mutual information of prompt and answer, nats per token; the larger it is, the nearer the weights
    of both answers are to each other. Default: 1."""
    emphasis: Literal["less_informed", "more_informed"] = "less_informed"
    """Which answer of a pair gets the larger weight: the one that has less mutual information with the prompt, or the
    one that has more. Default: `less_informed`."""

    def loss(self, scores: Scores) -> Tensor:
        """Returns -log sigmoid(c beta (b_w h(y_w) - b_l h(y_l))), with h the log-ratio of policy and reference.

        mi(y) = (log pi_ref(y|x) - log pi_ref(y|empty request)) / |y|; b = 2 softmax(-mi / `temperature`) over the two
        answers (+ for `more_informed`), and c = sqrt(2 / (b_w^2 + b_l^2)), which keeps the size of the gradient. With
        equal mi this is DPO.
        """
        import torch
        from torch.nn.functional import logsigmoid

        if scores.bare_chosen is None or scores.bare_rejected is None:
            raise TypeError("the answers were not measured after an empty request")
        information = torch.stack(
            [
                (scores.reference_chosen - scores.bare_chosen) / scores.chosen_tokens,
                (scores.reference_rejected - scores.bare_rejected) / scores.rejected_tokens,
            ]
        )
        sign = -1.0 if self.emphasis == "less_informed" else 1.0
        weights = 2 * (sign * information / self.temperature).softmax(0)
        weights = weights * (2 / weights.square().sum(0)).sqrt()
        chosen, rejected = scores.log_ratios
        return -logsigmoid(scores.beta * (weights[0] * chosen - weights[1] * rejected))
