"""MPO, the method of this project (arXiv 2505.16869)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from mpo_core.contract.settings import Settings
from mpo_core.contract.training import Beta, Pooling, Scores, TrainingMethod

if TYPE_CHECKING:
    from torch import Tensor


class RetentionSettings(Settings):
    """L2, which keeps the dominant language where it was."""

    weight: float = Field(1.0, ge=0.0)
    """Weight of L2 in the loss. Default: 1, the paper's."""
    pooling: Pooling = "mean"
    """Hidden state per sequence: `mean` (mask-aware), `last` token (the paper), `padded_mean` (the released code)."""


class Mpo(TrainingMethod):
    """Pulls the reward gap of every target pair to the frozen model's gap of its dominant pair."""

    needs_sources: ClassVar[bool] = True

    method: Literal["mpo"]
    """Name of the method."""
    beta: Beta = 1.0
    """Factor of the target gap in L1: one number, or one by language code (and `default`). Default: 1, the paper's."""
    anchor_gap: Literal["dominant", "own"] = "dominant"
    """Goal of a harmless row's gap: the reference's `dominant` gap (the paper) or its `own` in that language."""
    retention: RetentionSettings = RetentionSettings()
    """L2, which keeps the dominant language where it was."""

    def loss(self, scores: Scores) -> Tensor:
        """Returns L1 of eq. 4: (beta * RG_target(policy) - RG_dominant(reference))^2. The trainer adds L2."""
        from mpo_core.training.objective import gap_loss

        return gap_loss(scores.gap, scores.anchor_gap, scores.beta)

    def anchor(self, kind: str) -> Literal["dominant", "own"]:
        """Returns `anchor_gap` for a harmless pair; a harmful one always aims at the dominant gap."""
        return self.anchor_gap if kind == "harmless" else "dominant"

    @property
    def retention_weight(self) -> float:
        """Weight of L2."""
        return self.retention.weight

    @property
    def pooling(self) -> Pooling:
        """How L2 pools hidden states."""
        return self.retention.pooling

    @model_validator(mode="after")
    def _pads(self) -> Self:
        if self.pooling == "padded_mean" and self.layout == "packed":
            raise ValueError("`retention.pooling: padded_mean` counts pads; it needs `layout: padded`")
        if self.pooling == "padded_mean" and self.sharded:
            raise ValueError("`retention.pooling: padded_mean` needs the whole model in each process: `parallel: ddp`")
        return self
