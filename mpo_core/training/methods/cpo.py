"""CPO (arXiv 2401.08417)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mpo_core.contract.training import Beta, Scores, TrainingMethod

if TYPE_CHECKING:
    from torch import Tensor


class Cpo(TrainingMethod):
    """DPO without a reference model, plus a term that raises the likelihood of the chosen answer."""

    method: Literal["cpo"]
    """Name of the method."""
    beta: Beta = 0.1
    """Factor of the answers' log-probabilities: one number, or one by language code (and `default`). Default: 0.1."""
    cpo_alpha: float = Field(1.0, ge=0.0)
    """Weight of the term for the likelihood of the chosen answer. Default: 1."""

    def loss(self, scores: Scores) -> Tensor:
        """Returns -log sigmoid(beta (log pi(y_w|x) - log pi(y_l|x))) - `cpo_alpha` log pi(y_w|x) per token."""
        from torch.nn.functional import logsigmoid

        likelihood = -scores.chosen / scores.mean_chosen_tokens
        return -logsigmoid(scores.beta * (scores.chosen - scores.rejected)) + self.cpo_alpha * likelihood
