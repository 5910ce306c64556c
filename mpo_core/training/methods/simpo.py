"""SimPO (arXiv 2405.14734)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mpo_core.contract.training import Beta, Scores, TrainingMethod

if TYPE_CHECKING:
    from torch import Tensor


class SimPo(TrainingMethod):
    """Trains the model to prefer the chosen to the rejected answer by a margin per token, without a reference model."""

    method: Literal["simpo"]
    """Name of the method."""
    beta: Beta = 2.0
    """Factor of the reward gap: one number, or one by language code (and `default`). Default: 2, its authors'."""
    simpo_gamma: float = Field(0.5, ge=0.0)
    """Margin by which beta times the reward gap is to exceed 0, in nats per token. Default: 0.5."""

    def loss(self, scores: Scores) -> Tensor:
        """Returns -log sigmoid(beta RG(x, y_w, y_l) - g), with g = `simpo_gamma` (equation 6 of the SimPO paper).

        TRL adds `cpo_alpha` times the likelihood of chosen unless that is set to 0; the SimPO paper has no such term.
        """
        from torch.nn.functional import logsigmoid

        return -logsigmoid(scores.beta * scores.gap - self.simpo_gamma)
