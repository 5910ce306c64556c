"""The study `data_quantity`: how much safety fewer training prompts give."""

from typing import ClassVar, Literal

from mpo_core.contract.analysis import Variant
from mpo_core.evaluation.studies import TargetStudy, by_share


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
    trained: ClassVar[tuple[Variant, ...]] = by_share("of the prompts", "share", 1.0, 0.75, 0.5, 0.25)

    analysis: Literal["data_quantity"]
    """Name of the analysis."""
