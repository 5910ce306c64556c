"""The study `noise`: how much training bears pairs with swapped answers, and pairs that were not translated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from mpo_core.contract.analysis import Variant
from mpo_core.evaluation.studies import TargetStudy


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

    analysis: Literal["noise"]
    """Name of the analysis."""

    def variants(self, targets: Sequence[str]) -> list[Variant]:
        """Returns sound pairs, then rising shares of either fault."""
        del targets
        swapped = [Variant(name=f"{share:.0%} swapped".replace("%", " %"), swapped=share) for share in (0.2, 0.4)]
        plain = [
            Variant(name=f"{share:.0%} untranslated".replace("%", " %"), untranslated=share) for share in (0.2, 0.4)
        ]
        return [Variant(name="no faults"), *swapped, *plain]
