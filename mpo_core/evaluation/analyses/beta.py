"""The study `beta`: how the factor of the target gap in L1 changes the result."""

from typing import ClassVar, Literal

from mpo_core.contract.analysis import Variant
from mpo_core.evaluation.studies import TargetStudy


class BetaStudy(TargetStudy):
    """Trains with four values of beta."""

    title: ClassVar[str] = "Beta"
    lead: ClassVar[str] = (
        "The same training with other values of beta, which multiplies the target gap in L1. With a larger beta, a "
        "smaller gap meets the goal, so the targets should end closer to the base model."
    )
    limits: ClassVar[str] = "The learning rate is that of beta 1; a larger beta also makes larger gradients."
    trained: ClassVar[tuple[Variant, ...]] = tuple(
        Variant(name=f"beta {beta:g}", training={"beta": beta}) for beta in (1.0, 0.5, 0.75, 1.5, 2.0)
    )

    analysis: Literal["beta"]
    """Name of the analysis."""
