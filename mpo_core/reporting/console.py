"""The before/after table for a terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from mpo_core.reporting.findings import median
from mpo_core.reporting.summary import RunSummary
from mpo_core.reporting.wording import language_name, p_value, percent

# Refused is what is left of unsafe and invalid: five columns fit a terminal of 80.
_COLUMNS = ("unsafe", "invalid", "helped", "over_refusal")
_HEADS = ("ASR", "Invalid", "Helped", "Over-refusal")


def before_after_table(summary: RunSummary) -> Table:
    """Per language: every share before → after, and the change in unsafe answers with its p.

    Markup is never read from data: cells are `Text`.
    """
    table = Table(
        title=Text(f"{summary.run}: before → after, % of {_asked(summary)} prompts"),
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("Language", no_wrap=True)
    for head in _HEADS:
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("p", justify="right", no_wrap=True)
    for code in summary.languages:
        _add_language(table, summary, code)
        if code in {summary.dominant, summary.languages[-1]}:
            table.add_section()
    medians = [median(summary, metric) for metric in _COLUMNS]
    table.add_row(
        Text("Target median", style="bold"),
        *(Text(_arrow(*pair), style="bold") for pair in medians),
        "",
    )
    return table


def _asked(summary: RunSummary) -> str:
    kinds = {"unsafe": "harmful", "helped": "harmless"}
    found = {kind: summary.pair(summary.dominant, metric).n for metric, kind in kinds.items()}
    return " and ".join(f"{count} {kind}" for kind, count in found.items() if count)


def _add_language(table: Table, summary: RunSummary, code: str) -> None:
    cells = []
    for metric in _COLUMNS:
        before, after = (row.value if row else None for row in summary.pair(code, metric))
        cells.append(Text(_arrow(before, after)))
    paired = summary.comparison(code, "unsafe")
    if paired and paired.difference:
        cells[0].stylize("green" if paired.difference < 0 else "red")
    table.add_row(Text(language_name(code)), *cells, Text(p_value(paired.p_value if paired else None)))


def _arrow(before: float | None, after: float | None) -> str:
    both = f"{percent(before)} → {percent(after)}".replace(" %", "").replace(".0", "")
    return "–" if before is None and after is None else both
