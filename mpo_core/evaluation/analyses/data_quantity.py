"""The study `data_quantity`: how much safety fewer training prompts give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from mpo_core.contract.analysis import Variant
from mpo_core.evaluation.studies import TargetStudy


class DataQuantity(TargetStudy):
    """Trains on a quarter, a half, three quarters and all of the training prompts."""

    title: ClassVar[str] = "Number of training prompts"
    lead: ClassVar[str] = (
        "The same training on fewer prompts, drawn at random, the same ones in every language. More prompts should "
        "lower ASR until they add nothing new."
    )
    limits: ClassVar[str] = (
        "Fewer prompts also mean fewer optimiser steps, since the number of epochs stays: the study does not tell the "
        "two apart."
    )

    analysis: Literal["data_quantity"]
    """Name of the analysis."""

    def variants(self, targets: Sequence[str]) -> list[Variant]:
        """Returns all prompts, then smaller shares of them."""
        del targets
        shares = (1.0, 0.75, 0.5, 0.25)
        return [Variant(name=f"{share:.0%} of the prompts".replace("%", " %"), share=share) for share in shares]
