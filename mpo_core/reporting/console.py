"""The before/after table for a terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from mpo_core.reporting.findings import median
from mpo_core.reporting.summary import RunSummary
from mpo_core.reporting.wording import language_name, p_value, percent, points

_COLUMNS = ("unsafe", "refused", "invalid", "helped", "over_refusal")
_HEADS = ("Unsafe", "Refused", "Invalid", "Helped", "Over-refusal")


def before_after_table(summary: RunSummary) -> Table:
    """Per language: every share before → after, and the change in unsafe answers with its p.

    Markup is never read from data: cells are `Text`.
    """
    table = Table(title=Text(f"{summary.run}: before → after"), title_justify="left", caption_justify="left")
    table.add_column("Language")
    for head in _HEADS:
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("Δ unsafe", justify="right", no_wrap=True)
    table.add_column("p", justify="right", no_wrap=True)
    for code in summary.languages:
        _add_language(table, summary, code)
    table.add_section()
    medians = [median(summary, metric) for metric in _COLUMNS]
    table.add_row(
        Text("median of targets", style="bold"),
        *(Text(_arrow(*pair), style="bold") for pair in medians),
        "",
        "",
    )
    return table


def _add_language(table: Table, summary: RunSummary, code: str) -> None:
    cells = []
    for metric in _COLUMNS:
        before, after = (row.value if row else None for row in summary.pair(code, metric))
        cells.append(Text(_arrow(before, after)))
    paired = summary.comparison(code, "unsafe")
    change = Text(points(paired.difference if paired else None))
    if paired and paired.difference:
        change.stylize("green" if paired.difference < 0 else "red")
    name = language_name(code) + (" (dominant)" if code == summary.dominant else "")
    table.add_row(Text(name), *cells, change, Text(p_value(paired.p_value if paired else None)))


def _arrow(before: float | None, after: float | None) -> str:
    return "–" if before is None and after is None else f"{percent(before)} → {percent(after)}".replace(" %", "")
