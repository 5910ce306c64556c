"""Makes the tables of figures before and after training for a terminal."""

import re
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mpo_core.contract.benchmark import HELD_OUT
from mpo_core.contract.metric import Metric
from mpo_core.display.wording import figure, language_name, p_value
from mpo_core.reporting.findings import median
from mpo_core.reporting.summary import BenchmarkCard, RunSummary
from mpo_core.reporting.view import benchmark_notes


def before_after_tables(summary: RunSummary) -> Group:
    """Makes a table for each benchmark, with notes on the languages that it lacks and the translated ones."""
    parts: list[RenderableType] = []
    for card in summary.cards:
        # A terminal of 80 columns has room for the main metrics alone.
        metrics = [
            metric
            for metric in card.metrics
            if metric.main
            and (card.name == HELD_OUT or any(summary.pair(c, metric.name, card.name).n for c in summary.languages))
        ]
        if metrics:
            parts.append(_table(summary, card, metrics))
        parts += [Text(note) for note in benchmark_notes(summary, card)]
    return Group(*parts)


def _table(summary: RunSummary, card: BenchmarkCard, metrics: Sequence[Metric]) -> Table:
    """Makes a table with a row per language: each share before → after, and p of the change in the first.

    Cells are `Text`, so that no name is read as markup.
    """
    codes = summary.languages
    if card.name != HELD_OUT:
        codes = [code for code in codes if any(summary.pair(code, m.name, card.name).measured for m in metrics)]
    name = summary.run if card.name == HELD_OUT and not summary.models else card.label
    change = " → ".join(summary.models.values()) or "before → after"
    table = Table(
        title=Text(f"{name}: {change}{_prompt_counts(summary, card, metrics)}"),
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("Language", no_wrap=True)
    for metric in metrics:
        table.add_column(metric.short, justify="right", no_wrap=True)
    if not summary.alone:
        table.add_column("p", justify="right", no_wrap=True)
    for code in codes:
        _add_language(table, summary, card, metrics, code)
        if code in {summary.dominant, codes[-1]}:
            table.add_section()
    medians = [
        Text(_arrow(metric, *median(summary, metric.name, card.name), alone=summary.alone), style="bold")
        for metric in metrics
    ]
    table.add_row(Text("Target median", style="bold"), *medians, *([] if summary.alone else [""]))
    return table


def _prompt_counts(summary: RunSummary, card: BenchmarkCard, metrics: Sequence[Metric]) -> str:
    """Returns `, % of 150 harmful and 150 harmless prompts`; where languages differ, the fewest to the most."""
    parts = []
    for kind, name in {metric.kind: metric.name for metric in metrics if metric.unit == "share"}.items():
        counts = {n for code in summary.languages if (n := summary.pair(code, name, card.name).n)}
        if counts:
            span = str(min(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
            parts.append(f"{span} {kind}")
    if parts and not parts[-1].endswith("items"):
        parts[-1] += " prompts"
    if metrics and not parts:
        return f", {metrics[0].unit}"
    return f", % of {' and '.join(parts)}" if parts else ""


def _add_language(table: Table, summary: RunSummary, card: BenchmarkCard, metrics: Sequence[Metric], code: str) -> None:
    cells = []
    for metric in metrics:
        before, after = (row.value if row else None for row in summary.pair(code, metric.name, card.name))
        cells.append(Text(_arrow(metric, before, after, alone=summary.alone)))
    paired = summary.comparison(code, metrics[0].name, card.name)
    if paired and paired.difference:
        improved = (paired.difference < 0) == (metrics[0].better == "lower")
        cells[0].stylize("green" if improved else "red")
    p = [] if summary.alone else [Text(p_value(paired.p_value if paired else None))]
    table.add_row(Text(language_name(code)), *cells, *p)


def _arrow(metric: Metric, before: float | None, after: float | None, *, alone: bool) -> str:
    both = figure(metric, after) if alone else f"{figure(metric, before)} → {figure(metric, after)}"
    return "–" if before is None and after is None else re.sub(r"\.0(?!\d)", "", both.replace(" %", ""))
