"""MPO, the method of this project. Equations and "the authors' code" are those of the MPO paper (arXiv 2505.16869)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from mpo_core.contract.settings import Settings
from mpo_core.contract.training import Beta, Pooling, RetentionDistance, Scores, TrainingMethod

if TYPE_CHECKING:
    from torch import Tensor


class RetentionSettings(Settings):
    """Settings of the retention loss (L2 in the MPO paper).

    It keeps the dominant language's hidden states close to those of the frozen model.
    """

    weight: float = Field(1.0, ge=0.0)
    """Weight of the retention loss. Default: 1, as in the MPO paper."""
    pooling: Pooling = "mean"
    """How the hidden states of a sequence become one vector: their `mean`, that of the `last` token (as in the MPO
    paper), or the mean with the padding (`padded_mean`, as in the authors' code). Default: `mean`."""
    distance: RetentionDistance = "hidden_states"
    """What the retention loss compares with the frozen model: pooled `hidden_states` (as in the MPO paper), or, as an
    ablation, the next token's distributions at the tokens of the dominant answers (`kl`: KL(frozen ‖ trained), nats per
    token). `kl` holds the frozen model's hidden state of each of these tokens in memory. Default: `hidden_states`."""


class Mpo(TrainingMethod):
    """Pulls the reward gap of every target pair to the frozen model's gap of its dominant pair."""

    needs_sources: ClassVar[bool] = True

    method: Literal["mpo"]
    """Name of the method."""
    beta: Beta = 1.0
    """Factor of the target pair's reward gap in the gap loss (L1 in the MPO paper): one number, or one by language code
    (and `default`). Default: 1, as in the paper."""
    anchor_gap: Literal["dominant", "own"] = "dominant"
    """Reward gap of the frozen model to which a harmless target pair is pulled: that of its `dominant` pair (as in the
    MPO paper), or its `own` in that language. Default: `dominant`."""
    retention: RetentionSettings = RetentionSettings()
    """Retention loss (L2 in the MPO paper), which keeps the dominant language's hidden states close to those of the
    frozen model."""

    def loss(self, scores: Scores) -> Tensor:
        """Returns the gap loss (L1, equation 4): (beta * RG_target(policy) - RG_dominant(reference))^2.

        The trainer adds the retention loss (L2, equation 5).
        """
        from mpo_core.training.objective import gap_loss

        return gap_loss(scores.gap, scores.anchor_gap, scores.beta)

    def anchor(self, kind: str) -> Literal["dominant", "own"]:
        """Returns `anchor_gap` for a harmless pair; a harmful one always aims at the dominant gap."""
        return self.anchor_gap if kind == "harmless" else "dominant"

    @property
    def retention_weight(self) -> float:
        """Weight of the retention loss (L2 in the MPO paper)."""
        return self.retention.weight

    @property
    def pooling(self) -> Pooling:
        """How the retention loss (L2 in the MPO paper) pools the hidden states of a sequence into one vector."""
        return self.retention.pooling

    @property
    def retention_distance(self) -> RetentionDistance:
        """What the retention loss (L2 in the MPO paper) compares with the frozen model."""
        return self.retention.distance

    @model_validator(mode="after")
    def _compares(self) -> Self:
        if self.retention.distance == "kl" and self.pooling == "padded_mean":
            raise ValueError("`retention.distance: kl` pools nothing; leave out `retention.pooling: padded_mean`")
        if self.retention.distance == "kl" and self.sharded:
            raise ValueError("`retention.distance: kl` needs the whole model in each process: `parallel: ddp`")
        return self

    @model_validator(mode="after")
    def _pads(self) -> Self:
        if self.pooling == "padded_mean" and self.layout == "packed":
            raise ValueError("`retention.pooling: padded_mean` counts pads; it needs `layout: padded`")
        if self.pooling == "padded_mean" and self.sharded:
            raise ValueError("`retention.pooling: padded_mean` needs the whole model in each process: `parallel: ddp`")
        return self
