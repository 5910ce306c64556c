"""The analysis `dominant_language`: whether training kept the language that it was to keep."""

from typing import Any, ClassVar, Literal

import pyarrow as pa

from mpo_core.contract.analysis import AnalysedRun, Analysis, Findings
from mpo_core.contract.benchmark import HELD_OUT
from mpo_core.contract.metric import BITS_PER_BYTE, DOMINANT_DRIFT, DOMINANT_KL, HELPED, PARALLEL_TEXT, REFUSED
from mpo_core.display.wording import language_name, number, points

_METRICS = {
    **{(HELD_OUT, metric.name): metric for metric in (REFUSED, HELPED, DOMINANT_KL, DOMINANT_DRIFT)},
    (PARALLEL_TEXT, BITS_PER_BYTE.name): BITS_PER_BYTE,
}
_LIMITS = (
    "Distances have no bound above which a model is worse: they compare trainings with each other. They are "
    "measured on the base model's own answers and on pairs, so they do not see what the trained model says elsewhere."
)


class DominantLanguage(Analysis):
    """Shows how training changed the dominant language: refusals, help, and distances from the base model."""

    title: ClassVar[str] = "Retention of the dominant language"
    lead: ClassVar[str] = (
        "The dominant language was safe before training and should stay as it was: refusals of harmful prompts, help "
        "with harmless ones, plain text, next words (KL) and hidden states (drift). KL and drift are 0 for the base "
        "model; lower is better."
    )

    analysis: Literal["dominant_language"]
    """Name of the analysis."""

    def analyse(self, run: AnalysedRun) -> Findings | None:
        """Returns the dominant language's figures before and after, with the paired changes."""
        figures = {
            (row["benchmark"], row["metric"], row["model"]): row
            for row in run.metrics.to_pylist()
            if row["language"] == run.dominant
        }
        comparisons = [] if run.comparisons is None else run.comparisons.to_pylist()
        changes = {(row["benchmark"], row["metric"]): row for row in comparisons if row["language"] == run.dominant}
        rows = [
            _row(metric.label, figures.get((*key, "before")), figures[*key, "after"], changes.get(key, {}))
            for key, metric in _METRICS.items()
            if (*key, "after") in figures
        ]
        if (HELD_OUT, DOMINANT_KL.name, "after") not in figures:
            return None
        return Findings(pa.Table.from_pylist(rows), None, _supports(run.dominant, figures, changes), _LIMITS)


def _row(name: str, before: dict[str, Any] | None, after: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    return {
        "figure": name,
        "n": after["n"],
        "before": before["value"] if before else None,
        "after": after["value"],
        "change": change.get("difference"),
        "low": change.get("difference_low"),
        "high": change.get("difference_high"),
        "p": change.get("p_value"),
    }


def _supports(dominant: str, figures: dict[Any, dict[str, Any]], changes: dict[Any, dict[str, Any]]) -> str:
    def change(metric: str) -> str:
        row = changes.get((HELD_OUT, metric), {})
        ends = [row.get(end) for end in ("difference_low", "difference_high")]
        interval = "" if None in ends else f" ({points(ends[0])} to {points(ends[1])})"
        return f"{points(row.get('difference'))} points{interval}"

    distance = figures[HELD_OUT, DOMINANT_KL.name, "after"]
    return (
        f"{language_name(dominant)}: refusals of harmful prompts changed by {change(REFUSED.name)}, help with harmless "
        f"ones by {change(HELPED.name)}; KL from the base model {number(distance['value'], 4)} nats per token "
        f"({number(distance['low'], 4)} to {number(distance['high'], 4)})."
    )
