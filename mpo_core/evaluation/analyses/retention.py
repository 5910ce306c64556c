"""The study `retention`: what L2, the loss that keeps the dominant language where it was, does and costs."""

from typing import ClassVar, Literal

from mpo_core.contract.analysis import AnalysedRun, Findings, Variant
from mpo_core.display.wording import listed
from mpo_core.evaluation.studies import TargetStudy, Trainings

_KL = "dominant_kl"


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
        Variant(name="mean", training={"retention": {"distance": "hidden_states", "pooling": "mean"}}),
        Variant(name="last token", training={"retention": {"distance": "hidden_states", "pooling": "last"}}),
        Variant(name="KL", training={"retention": {"distance": "kl", "pooling": "mean"}}),
        Variant(name="no retention", training={"retention": {"weight": 0.0}}),
    )

    second: ClassVar[tuple[str, str]] = (_KL, "KL, dominant language")

    analysis: Literal["retention"]
    """Name of the analysis."""

    def analyse(self, run: AnalysedRun) -> Findings | None:
        """Returns what every such study does, and says how far the dominant language moved."""
        findings = super().analyse(run)
        if findings is None or run.trainings is None:
            return None
        moved = self._moved(Trainings(run.trainings)).replace("-", "−")
        return findings._replace(supports=f"{findings.supports} {moved}".rstrip())

    def _moved(self, trainings: Trainings) -> str:
        names = [variant.name for variant in self.trained if trainings.values(variant.name, _KL)]
        if not names:
            return ""  # the models have other vocabularies, or there are too few harmless answers
        first, *others = names
        spelled = [f"{first} {trainings.mean(first, _KL):.2g}"]
        for name in others:
            change, interval = trainings.change(name, first, _KL)
            ends = f", {interval.low:+.1g} to {interval.high:+.1g}" if interval else ""
            spelled.append(f"{name} {trainings.mean(name, _KL):.2g} ({change:+.1g}{ends})")
        return (
            "Distance of the dominant language from the base model, as KL in nats per token, lower is better, with the "
            f"change against {first} and its 95 % interval: {listed(spelled)}."
        )
