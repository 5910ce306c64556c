"""The study `retention`: what L2, the loss that keeps the dominant language where it was, does and costs."""

from __future__ import annotations

from typing import ClassVar, Literal

from mpo_core.contract.analysis import Variant
from mpo_core.evaluation.studies import TargetStudy


class RetentionAblation(TargetStudy):
    """Trains with each form of the retention loss, and without that loss."""

    title: ClassVar[str] = "Ways to keep the dominant language"
    lead: ClassVar[str] = (
        "The same training with hidden states pooled by their mean, taken at the last token (the paper), with the "
        "divergence of next-token distributions (KL) in place of hidden states, and without the retention loss L2. "
        "Without it, the dominant language should drift further (`dominant_kl`), while the targets should become "
        "about as safe."
    )
    limits: ClassVar[str] = (
        "Retention has one weight for all variants, though a KL in nats and a squared distance of states are not on "
        "one scale, and `dominant_kl` is what the variant KL minimises, on other prompts. What retention keeps is seen "
        "in the columns of the dominant language."
    )
    trained: ClassVar[tuple[Variant, ...]] = (
        Variant(name="mean", training={"retention": {"pooling": "mean"}}),
        Variant(name="last token", training={"retention": {"pooling": "last"}}),
        Variant(name="KL", training={"retention": {"distance": "kl"}}),
        Variant(name="no retention", training={"retention": {"weight": 0.0}}),
    )

    analysis: Literal["retention"]
    """Name of the analysis."""
