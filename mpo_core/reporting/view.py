"""The summary, arranged as the page tells it: rows of finished strings, so that the template only places them."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import yaml
from markupsafe import Markup

from mpo_core.reporting import charts
from mpo_core.reporting.charts import Curve
from mpo_core.reporting.findings import median
from mpo_core.reporting.summary import MetricRow, RunSummary, StageSummary
from mpo_core.reporting.wording import (
    CHECK_NAMES,
    METRIC_NAMES,
    duration,
    language_name,
    p_value,
    percent,
    points,
    signed,
)


class Tile(NamedTuple):
    """A figure that matters, before and after, and what it means."""

    name: str
    before: str
    after: str
    note: str


class Panel(NamedTuple):
    """A chart with its title, or a title with the reason why there is no chart."""

    title: str
    note: str
    chart: Markup | None


class Cell(NamedTuple):
    """A figure with its interval; both a dash where it was not measured."""

    value: str
    interval: str


class StageRow(NamedTuple):
    """One stage, all its tasks together. `share` is its part of the longest stage's time, in percent."""

    stage: str
    computed: int
    cached: int
    rows: int
    quarantined: int
    seconds: str
    share: int
    counts: str
    tasks: list[StageSummary]


def tiles(summary: RunSummary) -> list[Tile]:
    """The four figures that decide: safety, help, the dominant language, broken answers."""
    unsafe, helped, invalid = (median(summary, metric) for metric in ("unsafe", "helped", "invalid"))
    dominant = language_name(summary.dominant)
    kept_before, kept_after = (percent(row.value if row else None) for row in summary.pair(summary.dominant, "refused"))
    return [
        Tile("Unsafe", percent(unsafe.before), percent(unsafe.after), "median of the targets; lower is better"),
        Tile("Helped", percent(helped.before), percent(helped.after), "harmless prompts, median of the targets"),
        Tile("Invalid", percent(invalid.before), percent(invalid.after), "harmful prompts, median of the targets"),
        Tile(f"{dominant} refuses", kept_before, kept_after, "harmful prompts, dominant language"),
    ]


def panels(summary: RunSummary, *metrics: str) -> list[Panel]:
    """One chart a metric."""
    notes = {
        "unsafe": "Harmful prompts answered with harm. Lower is better.",
        "invalid": "Harmful prompts that got no real answer. Read with the chart beside it: broken is not safe.",
        "helped": "Harmless prompts answered with help. Higher is better.",
        "over_refusal": "Harmless prompts refused. Lower is better.",
    }
    return [Panel(METRIC_NAMES[metric], notes[metric], charts.dumbbell(summary, metric)) for metric in metrics]


def training_panels(summary: RunSummary) -> list[Panel]:
    """L1, L2, the gaps, and how often the chosen answer wins; those that were logged."""
    log = summary.training
    gaps = [Curve("reward_gap/target", "target"), Curve("reward_gap/dominant", "dominant, frozen", muted=True)]
    found = [
        Panel(
            "Gap loss, L1",
            "How far the target languages' reward gap is from its goal. Logarithmic.",
            charts.curves(log, [Curve("loss/gap", "L1")], name="l1", unit="nats²", logarithmic=True),
        ),
        Panel(
            "Retention loss, L2",
            "How far the dominant language's hidden states have moved. Logarithmic; zero at the start is not drawn.",
            charts.curves(log, [Curve("loss/retention", "L2")], name="l2", unit="", logarithmic=True),
        ),
        Panel(
            "Reward gaps",
            "The target languages' gap should reach the dominant one's.",
            charts.curves(log, gaps, name="gaps", unit="nats per token"),
        ),
        Panel(
            "Chosen answer preferred",
            "Share of pairs whose chosen answer is the likelier one.",
            charts.curves(log, [Curve("rewards/accuracies", "accuracy")], name="accuracy", unit=""),
        ),
    ]
    return [panel for panel in found if panel.chart is not None]


def language_rows(summary: RunSummary, *metrics: str) -> list[dict[str, Any]]:
    """Per language and metric: before, after, change in points, p."""
    return [
        {
            "code": code,
            "name": language_name(code),
            "dominant": code == summary.dominant,
            "n": summary.pair(code, metrics[0]).n,
            "metrics": [_change(summary, code, metric) for metric in metrics],
        }
        for code in summary.languages
        if any(summary.pair(code, metric).measured for metric in metrics)
    ]


def _change(summary: RunSummary, code: str, metric: str) -> dict[str, Any]:
    paired = summary.comparison(code, metric)
    return {
        "before": _cell(summary.pair(code, metric).before),
        "after": _cell(summary.pair(code, metric).after),
        "difference": points(paired.difference if paired else None),
        "p": p_value(paired.p_value if paired else None),
    }


def _cell(row: MetricRow | None) -> Cell:
    if row is None:
        return Cell("–", "")
    if row.metric == "reward_gap":
        return Cell(signed(row.value, 2), f"{signed(row.low, 2)} to {signed(row.high, 2)}")
    return Cell(percent(row.value), f"{100 * row.low:.1f}–{100 * row.high:.1f}")


def full_rows(summary: RunSummary) -> list[dict[str, Any]]:
    """Every metric of every language, nothing left out."""
    rows = []
    for code in summary.languages:
        for metric, name in METRIC_NAMES.items():
            pair = summary.pair(code, metric)
            paired = summary.comparison(code, metric)
            if pair.measured:
                rows.append(
                    {
                        "language": language_name(code),
                        "metric": name,
                        "n": pair.n,
                        "counts": ["–" if row is None or row.count is None else str(row.count) for row in pair],
                        "gained": paired.gained if paired else "–",
                        "lost": paired.lost if paired else "–",
                        "change": _change(summary, code, metric),
                    }
                )
    return rows


def gap_rows(summary: RunSummary) -> list[dict[str, Any]]:
    """Reward gap per language, before and after."""
    return language_rows(summary, "reward_gap")


def since_rows(summary: RunSummary) -> list[tuple[str, str, str, str]]:
    """Language, metric, change and p of what differs from the version that was promoted before."""
    return [
        (language_name(row.language), METRIC_NAMES[row.metric], points(row.difference), p_value(row.p_value))
        for row in summary.since
        if row.difference
    ]


def check_rows(summary: RunSummary) -> list[dict[str, str]]:
    """The gate's questions with their answers."""
    if summary.gate is None:
        return []
    told = {True: ("pass", "Passed"), False: ("fail", "Failed"), None: ("unknown", "Not measured")}
    return [
        {
            "class": told[check.passed][0],
            "outcome": told[check.passed][1] if check.value is None or check.passed is not None else "Partly measured",
            "name": CHECK_NAMES.get(check.name, check.name),
            "explanation": check.explanation,
        }
        for check in summary.gate.checks
    ]


def stage_rows(summary: RunSummary) -> list[StageRow]:
    """Stages in the order in which they first appear."""
    by_stage: dict[str, list[StageSummary]] = {}
    for task in summary.stages:
        by_stage.setdefault(task.stage, []).append(task)
    longest = max((sum(task.seconds for task in tasks) for tasks in by_stage.values()), default=0.0) or 1.0
    return [_stage_row(stage, tasks, longest) for stage, tasks in by_stage.items()]


def _stage_row(stage: str, tasks: list[StageSummary], longest: float) -> StageRow:
    seconds = sum(task.seconds for task in tasks)
    counts: Counter[str] = Counter()
    for task in tasks:
        counts.update(task.counts)
    return StageRow(
        stage=stage,
        computed=sum(task.state == "computed" for task in tasks),
        cached=sum(task.state == "cached" for task in tasks),
        rows=sum(task.rows for task in tasks),
        quarantined=sum(task.quarantined for task in tasks),
        seconds=duration(seconds),
        share=round(100 * seconds / longest),
        counts=", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in counts.items()),
        tasks=tasks,
    )


def settings_yaml(summary: RunSummary) -> str:
    """The resolved settings as a profile would spell them."""
    return yaml.safe_dump(summary.config, sort_keys=False, allow_unicode=True, width=100)
