"""The study `noise`: how much training bears pairs with swapped answers, and pairs that were not translated."""

from typing import ClassVar, Literal

from mpo_core.contract.analysis import Variant
from mpo_core.evaluation.studies import TargetStudy, by_share


class Noise(TargetStudy):
    """Trains on pairs of which up to 40 % have swapped answers, or are not translated."""

    title: ClassVar[str] = "Faulty training pairs"
    lead: ClassVar[str] = (
        "The same training after a share of the target pairs was damaged on purpose: chosen and rejected answer "
        "swapped, or all three texts left in the dominant language. The flatter, the more faults training bears."
    )
    limits: ClassVar[str] = (
        "The faulty pairs are sampled at random over all target languages; faults of a real judge or a real translator "
        "gather in some languages and topics. An untranslated pair is wholly in the dominant language."
    )
    trained: ClassVar[tuple[Variant, ...]] = (
        Variant(name="no faults"),
        *by_share("swapped", "swapped", 0.2, 0.4),
        *by_share("untranslated", "untranslated", 0.2, 0.4),
    )

    analysis: Literal["noise"]
    """Name of the analysis."""
