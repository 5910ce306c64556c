"""Arranges the summary for the page: rows of finished strings, so that the template only places them."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import yaml
from markupsafe import Markup

from mpo_core.contract.benchmark import HELD_OUT
from mpo_core.contract.metric import REFUSED, TARGETS, Metric
from mpo_core.contract.training import WEIGHT
from mpo_core.display.wording import difference, duration, figure, language_name, listed, p_value, percent, points
from mpo_core.gate.rules import RULES
from mpo_core.reporting import charts
from mpo_core.reporting.cards import FlipLine, OutcomeLine, flip_lines, outcome_lines
from mpo_core.reporting.charts import Curve
from mpo_core.reporting.findings import median
from mpo_core.reporting.summary import BenchmarkCard, MetricRow, RunSummary, StageSummary

_MOST_COLUMNS = 3
CHECK_NAMES = {rule.name: rule.title for rule in RULES} | {
    "unjudged": "Verdicts on nearly all answers",
    "fewer_languages": "No language of the promoted version lost",
    "taken_out": "Not taken out of use by a person",
}
COUNT_NAMES = {
    "peak_mib": "peak memory in MiB",
    "train_seconds": "seconds of training",
    "stop": "answers ended",
    "length": "answers cut at the limit",
    "order_known": "pairs in known order",
    "order_confirmed": "of these confirmed",
    "order_acts": "languages with a swap check",
}


class Tile(NamedTuple):
    """One of the main figures, before and after the training, and what it means."""

    name: str
    before: str
    after: str
    note: str


class Panel(NamedTuple):
    """A chart with its title and note; without a chart, the page says that nothing was measured."""

    title: str
    note: str
    chart: Markup | None


class Cell(NamedTuple):
    """A figure with its interval; a dash where it was not measured."""

    value: str
    interval: str


class StageRow(NamedTuple):
    """All tasks of one stage together. `share` is its time in percent of the time of the slowest stage."""

    stage: str
    computed: int
    cached: int
    rows: int
    quarantined: int
    seconds: str
    share: int
    counts: str
    tasks: list[StageSummary]


class Section(NamedTuple):
    """The results on a benchmark's prompts of one kind: a chart for each main metric, tables of all and of changes."""

    id: str
    title: str
    lead: str
    caption: str
    notes: list[str]
    panels: list[Panel]
    heads: list[str]
    counted: str
    """What a language's row counts: prompts, passages or items."""
    rows: list[dict[str, Any]]
    outcomes: list[OutcomeLine]
    flips: list[FlipLine]


def tiles(summary: RunSummary) -> list[Tile]:
    """Returns the main figures: the median of each main metric, and refusals in the dominant language."""
    medians = []
    card = next(card for card in summary.cards if card.name == summary.main)
    for metric in [metric for metric in card.metrics if metric.main]:
        before, after = (figure(metric, value) for value in median(summary, metric.name))
        note = f"of the answers to {metric.kind} prompts, median of the targets; {metric.better} is better"
        medians.append(Tile(metric.short, before, after, note))
    before, after = (percent(row.value if row else None) for row in summary.pair(summary.dominant, REFUSED.name))
    dominant = f"{language_name(summary.dominant)} {REFUSED.label.lower()}"
    tiles = [*medians, Tile(dominant, before, after, "of the harmful prompts; should not fall")]
    # An evaluation need not have prompts of both kinds; a run should, and shows that it has none.
    return [tile for tile in tiles if not summary.models or (tile.before, tile.after) != ("–", "–")]


_PURPOSE = {
    "harmful": "A safe model refuses them.",
    "harmless": "A model that refuses these too is safe but useless.",
}


_COUNTED = {"text": "Passages", "items": "Items"}


def _lead(summary: RunSummary, kind: str) -> str:
    if summary.alone:
        return f"How the model answered {kind} prompts. {_PURPOSE[kind]}"
    when = "before and after training" if not summary.models else f"as {' and then as '.join(summary.models.values())}"
    return f"How the model answered the same {kind} prompts {when}. {_PURPOSE[kind]}"


def sections(summary: RunSummary) -> list[Section]:
    """Returns a section for each benchmark and kind of prompts; held-out prompts have both, measured or not."""
    parts = []
    for number, card in enumerate(summary.cards):
        held_out = card.name == HELD_OUT
        for kind in (*_PURPOSE, *_COUNTED):
            of_kind = [metric for metric in card.metrics if metric.kind == kind]
            shares = [metric for metric in of_kind if metric.unit == "share"]
            if kind not in _PURPOSE and not shares and not summary.alone:
                continue  # an analysis shows the two models' figures
            metrics = _columns(shares) if shares or held_out else of_kind
            rows = language_rows(summary, card, metrics)
            if not rows and (not held_out or summary.models):
                continue
            name = kind if held_out else f"benchmark-{number}-{kind}"
            charted = [
                Panel(metric.label, metric.note, charts.dumbbell(summary, metric, card.name, name=f"{name}-{place}"))
                for place, metric in enumerate(metrics)
                if metric.main and metric.unit == "share"
            ]
            title = f"{kind.capitalize()} prompts" if held_out else f"{card.label}: {kind} prompts"
            what = "share of answers"
            if kind in _PURPOSE:
                lead = _lead(summary, kind)
            else:
                title, lead, what = card.label, " ".join(metric.note for metric in metrics), "figures"
            parts.append(
                Section(
                    name,
                    title,
                    lead,
                    f"{title}: {what}",
                    benchmark_notes(summary, card),
                    charted,
                    [metric.short for metric in metrics],
                    _COUNTED.get(kind, "Prompts"),
                    rows,
                    outcome_lines(summary, card.name, kind),
                    flip_lines(summary, card.name, kind),
                )
            )
    return parts


def _columns(metrics: list[Metric]) -> list[Metric]:
    """Returns the main metrics, and further ones as far as there is room for them: a table has room for three."""
    main = [metric for metric in metrics if metric.main]
    others = [metric for metric in metrics if not metric.main]
    return main + others[: max(0, _MOST_COLUMNS - len(main))]


def benchmark_notes(summary: RunSummary, card: BenchmarkCard) -> list[str]:
    """Returns notes on a benchmark: translated and missing languages; none on held-out prompts, the page's subject."""
    if card.name == HELD_OUT:
        return []
    measured = {row.language for row in summary.metrics if row.benchmark == card.name}
    empty = [code for code in summary.languages if code not in measured and code not in card.missing]
    licence = f"licence {card.licence}" if card.licence else "licence not stated"
    notes = [f"{card.content.capitalize()}: {card.origin or card.label}, {licence}."]
    if card.judge:
        notes.append(f"Judged by {card.judge}.")
    if card.translated:
        notes.append(
            f"Translated by this run, not by its authors: {listed(list(map(language_name, card.translated)))}."
        )
    if card.missing:
        names = listed(list(map(language_name, card.missing)))
        notes.append(f"Not measured, since the benchmark has no {card.content} in {names}.")
    if empty:
        names = listed(list(map(language_name, empty)))
        notes.append(f"Not measured, since every prompt was rejected on the way in {names}.")
    return notes


def training_panels(summary: RunSummary) -> list[Panel]:
    """Returns charts of the losses, the reward gaps, the accuracy and the learned weights, where logged."""
    log = summary.training
    gaps = [Curve("reward_gap/target", "target"), Curve("reward_gap/dominant", "dominant, base model", muted=True)]
    codes = sorted({key.removeprefix(WEIGHT) for entry in log for key in entry if key.startswith(WEIGHT)})
    learned = [Curve(f"{WEIGHT}{code}", language_name(code)) for code in codes]
    charted = [
        Panel(
            "Gap loss, L1",
            "Squared distance of the targets' reward gaps from the anchor gaps. Lower is better; logarithmic scale.",
            charts.curves(log, [Curve("loss/gap", "L1")], name="l1", unit="nats²", logarithmic=True),
        ),
        Panel(
            "Retention loss, L2",
            "How far the dominant language has moved. Lower is better; logarithmic scale without zeros.",
            charts.curves(log, [Curve("loss/retention", "L2")], name="l2", unit="", logarithmic=True),
        ),
        Panel(
            "Consistency loss",
            "How far a prompt and its translations are from one direction, without the loss's weight. Lower is better.",
            charts.curves(log, [Curve("loss/consistency", "consistency")], name="consistency", unit="nats"),
        ),
        Panel(
            "Distillation loss",
            "How far the model is from the teacher's answers, without the loss's weight. Lower is better.",
            charts.curves(
                log, [Curve("loss/distillation", "distillation")], name="distillation", unit="nats per token"
            ),
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
        Panel(
            "Learned weights",
            "How much each language counts in the loss. At 1, it counts as if no weights were learned.",
            charts.curves(log, learned, name="weights", unit=""),
        ),
    ]
    return [panel for panel in charted if panel.chart is not None]


def language_rows(summary: RunSummary, card: BenchmarkCard, metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    """Returns a row per language: each metric before and after, its change in points, and p."""
    return [
        {
            "code": code,
            "name": language_name(code) + (" (translated)" if code in card.translated else ""),
            "dominant": code == summary.dominant,
            "n": next(n for metric in metrics if (n := summary.pair(code, metric.name, card.name).n) is not None),
            "metrics": [_change(summary, code, metric, card.name) for metric in metrics],
        }
        for code in (*summary.languages, TARGETS)
        if any(summary.pair(code, metric.name, card.name).measured for metric in metrics)
    ]


def _change(summary: RunSummary, code: str, metric: Metric, benchmark: str) -> dict[str, Any]:
    paired = summary.comparison(code, metric.name, benchmark)
    before, after = summary.pair(code, metric.name, benchmark)
    return {
        "before": _cell(metric, before),
        "after": _cell(metric, after),
        "difference": difference(metric, paired.difference if paired else None),
        "p": p_value(paired.p_value if paired else None),
    }


def _cell(metric: Metric, row: MetricRow | None) -> Cell:
    if row is None:
        return Cell("–", "")
    if metric.unit == "share":
        return Cell(percent(row.value), f"{100 * row.low:.1f}–{100 * row.high:.1f}")
    return Cell(figure(metric, row.value), f"{figure(metric, row.low)} to {figure(metric, row.high)}")


def full_rows(summary: RunSummary) -> list[dict[str, Any]]:
    """Returns a row for every metric of every language and benchmark."""
    rows = []
    for card, code in ((card, code) for card in summary.cards for code in (*summary.languages, TARGETS)):
        for metric in card.metrics:
            pair = summary.pair(code, metric.name, card.name)
            paired = summary.comparison(code, metric.name, card.name)
            if pair.measured:
                rows.append(
                    {
                        "language": language_name(code),
                        "metric": metric.label if card.name == HELD_OUT else f"{card.label}: {metric.label}",
                        "n": pair.n,
                        "counts": ["–" if row is None or row.count is None else str(row.count) for row in pair],
                        "gained": paired.gained if paired else "–",
                        "lost": paired.lost if paired else "–",
                        "p_holm": p_value(paired.p_holm if paired else None),
                        "detectable": points(paired.detectable if paired else None).replace("+", ""),
                        "change": _change(summary, code, metric, card.name),
                    }
                )
    return rows


def since_rows(summary: RunSummary) -> list[tuple[str, str, str, str]]:
    """Returns language, metric, change and p of each figure that differs from the version promoted earlier."""
    labels = BenchmarkCard()
    return [
        (language_name(row.language), labels.metric(row.metric).label, points(row.difference), p_value(row.p_value))
        for row in summary.since
        if row.difference
    ]


def check_rows(summary: RunSummary) -> list[dict[str, str]]:
    """Returns the gate's checks with their outcomes."""
    if summary.gate is None:
        return []
    rows = []
    for check in summary.gate.checks:
        name, outcome = {True: ("pass", "Passed"), False: ("fail", "Failed"), None: ("unknown", "Not measured")}[
            check.passed
        ]
        if check.too_few:
            outcome = "Too few prompts"
        elif check.passed is None and check.value is not None:
            outcome = "Partly measured"
        title = CHECK_NAMES.get(check.name, check.name)
        rows.append({"class": name, "outcome": outcome, "name": title, "explanation": check.explanation})
    return rows


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
    """Joins the counts of a stage, such as `safe 80, unsafe 16`, except those of a source's kinds."""
    names = [name for name in counts if "/" not in name]
    return ", ".join(f"{COUNT_NAMES.get(name, name.replace('_', ' '))} {counts[name]:,}" for name in names)


def settings_yaml(summary: RunSummary) -> str:
    """Returns the resolved settings in the form of a profile."""
    return yaml.safe_dump(summary.config, sort_keys=False, allow_unicode=True, width=100)
