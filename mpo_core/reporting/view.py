"""Arranges the summary for the page: rows of finished strings, so that the template only places them."""

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
    COUNT_NAMES,
    METRIC_NAMES,
    NUMBERS,
    duration,
    language_name,
    metric_name,
    number,
    p_value,
    percent,
    points,
    signed,
)


class Tile(NamedTuple):
    """Shows one of the main figures, before and after, and what it means."""

    name: str
    before: str
    after: str
    note: str


class Panel(NamedTuple):
    """Shows a chart with its title and note; without a chart, the page says that nothing was measured."""

    title: str
    note: str
    chart: Markup | None


class Cell(NamedTuple):
    """Shows a figure with its interval; a dash where it was not measured."""

    value: str
    interval: str


class StageRow(NamedTuple):
    """Shows all tasks of one stage together. `share` is its time in percent of the longest stage's."""

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
    """Returns the four main figures: safety, help, invalid answers, and the dominant language."""
    unsafe, helped, invalid = (median(summary, metric) for metric in ("unsafe", "helped", "invalid"))
    dominant = language_name(summary.dominant)
    refused_before, refused_after = (
        percent(row.value if row else None) for row in summary.pair(summary.dominant, "refused")
    )
    return [
        Tile(
            "Unsafe",
            percent(unsafe.before),
            percent(unsafe.after),
            "of the answers to harmful prompts, median of the targets; lower is better",
        ),
        Tile(
            "Helped",
            percent(helped.before),
            percent(helped.after),
            "of the harmless prompts, median of the targets; higher is better",
        ),
        Tile(
            "Invalid",
            percent(invalid.before),
            percent(invalid.after),
            "of the answers to harmful prompts, median of the targets; lower is better",
        ),
        Tile(f"{dominant} refused", refused_before, refused_after, "of the harmful prompts; should not fall"),
    ]


def panels(summary: RunSummary, *metrics: str) -> list[Panel]:
    """Returns one chart per metric."""
    notes = {
        "unsafe": "Share of harmful prompts that got an unsafe answer. Lower is better.",
        "invalid": "Share of harmful prompts that got an invalid answer, which is not a safe one. Lower is better.",
        "helped": "Share of harmless prompts that got help. Higher is better.",
        "over_refusal": "Share of harmless prompts that were refused. Lower is better.",
    }
    return [Panel(METRIC_NAMES[metric], notes[metric], charts.dumbbell(summary, metric)) for metric in metrics]


def training_panels(summary: RunSummary) -> list[Panel]:
    """Returns charts of L1, L2, the reward gaps and the accuracy, as far as the training logged them."""
    log = summary.training
    gaps = [Curve("reward_gap/target", "target"), Curve("reward_gap/dominant", "dominant, base model", muted=True)]
    charted = [
        Panel(
            "Gap loss, L1",
            "Squared distance of the targets' reward gaps from the anchor gaps. Lower is better; logarithmic scale.",
            charts.curves(log, [Curve("loss/gap", "L1")], name="l1", unit="nats²", logarithmic=True),
        ),
        Panel(
            "Retention loss, L2",
            "How far the dominant hidden states have moved. Lower is better; logarithmic scale without zeros.",
            charts.curves(log, [Curve("loss/retention", "L2")], name="l2", unit="", logarithmic=True),
        ),
        Panel(
            "Reward gaps",
            "Good answers against bad ones. The target languages' gap should rise to the dominant language's.",
            charts.curves(log, gaps, name="gaps", unit="nats per token"),
        ),
        Panel(
            "Chosen answer preferred",
            "Share of pairs whose chosen answer has the higher reward. Higher is better.",
            charts.curves(log, [Curve("rewards/accuracies", "accuracy")], name="accuracy", unit=""),
        ),
    ]
    return [panel for panel in charted if panel.chart is not None]


def language_rows(summary: RunSummary, *metrics: str) -> list[dict[str, Any]]:
    """Returns a row per language: each metric before and after, its change in points, and p."""
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
    if row.metric in NUMBERS:
        return Cell(number(row.value, 3), f"{number(row.low, 3)} to {number(row.high, 3)}")
    return Cell(percent(row.value), f"{100 * row.low:.1f}–{100 * row.high:.1f}")


def full_rows(summary: RunSummary) -> list[dict[str, Any]]:
    """Returns a row for every metric of every language."""
    metrics = list(dict.fromkeys([*METRIC_NAMES, *(row.metric for row in summary.metrics)]))
    rows = []
    for code in summary.languages:
        for metric in metrics:
            pair = summary.pair(code, metric)
            paired = summary.comparison(code, metric)
            if pair.measured:
                rows.append(
                    {
                        "language": language_name(code),
                        "metric": metric_name(metric),
                        "n": pair.n,
                        "counts": ["–" if row is None or row.count is None else str(row.count) for row in pair],
                        "gained": paired.gained if paired else "–",
                        "lost": paired.lost if paired else "–",
                        "change": _change(summary, code, metric),
                    }
                )
    return rows


def gap_rows(summary: RunSummary) -> list[dict[str, Any]]:
    """Returns the reward gap per language, before and after."""
    return language_rows(summary, "reward_gap")


def since_rows(summary: RunSummary) -> list[tuple[str, str, str, str]]:
    """Returns language, metric, change and p of each figure that differs from the version promoted earlier."""
    return [
        (language_name(row.language), metric_name(row.metric), points(row.difference), p_value(row.p_value))
        for row in summary.since
        if row.difference
    ]


def check_rows(summary: RunSummary) -> list[dict[str, str]]:
    """Returns the gate's checks with their outcomes."""
    if summary.gate is None:
        return []
    outcomes = {True: ("pass", "Passed"), False: ("fail", "Failed"), None: ("unknown", "Not measured")}
    return [
        {
            "class": outcomes[check.passed][0],
            "outcome": outcomes[check.passed][1]
            if check.value is None or check.passed is not None
            else "Partly measured",
            "name": CHECK_NAMES.get(check.name, check.name),
            "explanation": check.explanation,
        }
        for check in summary.gate.checks
    ]


def stage_rows(summary: RunSummary) -> list[StageRow]:
    """Returns the stages in the order in which they first appear."""
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
        counts=_counts(counts),
        tasks=tasks,
    )


def _counts(counts: Counter[str]) -> str:
    """Joins the counts of a stage, such as `safe 80, unsafe 16`; those of a source's kinds stand under Lineage."""
    names = [name for name in counts if "/" not in name]
    return ", ".join(f"{COUNT_NAMES.get(name, name.replace('_', ' '))} {counts[name]:,}" for name in names)


def settings_yaml(summary: RunSummary) -> str:
    """Returns the resolved settings in the form of a profile."""
    return yaml.safe_dump(summary.config, sort_keys=False, allow_unicode=True, width=100)
