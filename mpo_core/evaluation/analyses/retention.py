"""The study `retention`: what L2, the loss that keeps the dominant language where it was, does and costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from mpo_core.contract.analysis import Variant
from mpo_core.evaluation.studies import TargetStudy


class RetentionAblation(TargetStudy):
    """Trains with each way to pool the hidden states of the retention loss, and without that loss."""

    title: ClassVar[str] = "Ways to keep the dominant language"
    lead: ClassVar[str] = (
        "The same training with hidden states pooled by their mean, taken at the last token (the paper), and without "
        "the retention loss L2. Without it, the dominant language should drift further (`dominant_kl`), while the "
        "targets should become about as safe."
    )
    limits: ClassVar[str] = (
        "Retention has one weight for all variants. What it keeps is seen in the columns of the dominant language."
    )

    analysis: Literal["retention"]
    """Name of the analysis."""

    def variants(self, targets: Sequence[str]) -> list[Variant]:
        """Returns pooling by the mean, by the last token, and no retention."""
        del targets
        return [
            Variant(name="mean", training={"retention": {"pooling": "mean"}}),
            Variant(name="last token", training={"retention": {"pooling": "last"}}),
            Variant(name="no retention", training={"retention": {"weight": 0.0}}),
        ]
