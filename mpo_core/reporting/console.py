"""Makes the table of figures before and after training for a terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from mpo_core.reporting.findings import median
from mpo_core.reporting.summary import RunSummary
from mpo_core.reporting.wording import language_name, p_value, percent

# Without `refused`, which is the rest of unsafe and invalid: a terminal of 80 columns has room for five.
_COLUMNS = ("unsafe", "invalid", "helped", "over_refusal")
_HEADS = ("ASR", "Invalid", "Helped", "Over-refusal")


def before_after_table(summary: RunSummary) -> Table:
    """Makes a table with a row per language: each share before → after, and p of the change in unsafe answers.

    Cells are `Text`, so that no name is read as markup.
    """
    table = Table(
        title=Text(f"{summary.run}: before → after{_prompt_counts(summary)}"),
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


def _prompt_counts(summary: RunSummary) -> str:
    """Returns `, % of 150 harmful and 150 harmless prompts`; where languages differ, the fewest to the most."""
    parts = []
    for metric, kind in (("unsafe", "harmful"), ("helped", "harmless")):
        counts = {n for code in summary.languages if (n := summary.pair(code, metric).n)}
        if counts:
            span = str(min(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
            parts.append(f"{span} {kind}")
    return f", % of {' and '.join(parts)} prompts" if parts else ""


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
