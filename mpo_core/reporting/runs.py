"""Puts finished runs and evaluations side by side: one page, and a table for a terminal."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from mpo_core.contract.metric import Metric
from mpo_core.display.wording import figure, language_name, listed
from mpo_core.reporting.cards import judge_name
from mpo_core.reporting.findings import median
from mpo_core.reporting.summary import BenchmarkCard, RunSummary
from mpo_core.reporting.templates import environment, style


class Panel(NamedTuple):
    """A metric on one set of prompts: the figure of the later model of every run, by language, with its interval."""

    title: str
    note: str
    rows: list[tuple[str, list[tuple[str, str]]]]


def compare_runs(summaries: Sequence[RunSummary], names: Sequence[str]) -> str:
    """Returns one page with a table for each metric, a column for each run; `names` are those of the runs."""
    return (
        environment()
        .get_template("runs.html.jinja")
        .render(
            names=names,
            summaries=summaries,
            judges=[judge_name(summary) for summary in summaries],
            differences=differences(summaries),
            panels=panels(summaries),
            style=style(),
        )
    )


def differences(summaries: Sequence[RunSummary]) -> list[str]:
    """Lists why the runs' results cannot be compared: other judges, other prompts, or another number of prompts."""
    notes = []
    judges = {judge_name(summary) for summary in summaries}
    if len(judges) > 1:
        notes.append(
            f"The runs have different judges ({listed(sorted(judges))}), so their figures differ for that too."
        )
    for card, metric in _measured(summaries):
        counts = {
            tuple(
                (code, pair.n) for code in summary.languages if (pair := summary.pair(code, metric.name, card.name)).n
            )
            for summary in summaries
        } - {()}
        if len(counts) > 1 and metric is card.metrics[0]:
            notes.append(f"{card.label}: the runs have other languages or other numbers of prompts.")
    return notes


def panels(summaries: Sequence[RunSummary]) -> list[Panel]:
    """Returns a panel for each main metric of each set of prompts that one of the runs has measured."""
    codes = list(dict.fromkeys(code for summary in summaries for code in summary.languages))
    tables = []
    for card, metric in _measured(summaries):
        rows = [("Target median", [(figure(metric, median(s, metric.name, card.name).after), "") for s in summaries])]
        for code in codes:
            cells = [_cell(metric, summary, card, code) for summary in summaries]
            if any(value != "–" for value, _ in cells):
                rows.append((language_name(code), cells))
        tables.append(Panel(f"{card.label}: {metric.label}", metric.note, rows))
    return tables


def runs_table(summaries: Sequence[RunSummary], names: Sequence[str]) -> Table:
    """Makes a table for a terminal: a row for each run, with the median of every main metric over its targets."""
    measured = _measured(summaries)
    table = Table(
        box=SIMPLE_HEAD, title=Text("Medians over the target languages, after training"), title_justify="left"
    )
    table.add_column("Run")
    for card, metric in measured:
        table.add_column(Text(f"{card.label}\n{metric.short}"), justify="right")
    for summary, name in zip(summaries, names, strict=True):
        cells = [Text(figure(metric, median(summary, metric.name, card.name).after)) for card, metric in measured]
        table.add_row(Text(name), *cells)
    return table


def _measured(summaries: Sequence[RunSummary]) -> list[tuple[BenchmarkCard, Metric]]:
    """Returns each benchmark with each of its main metrics that a run has measured, once."""
    pairs: dict[tuple[str, str], tuple[BenchmarkCard, Metric]] = {}
    for summary in summaries:
        measured = {(row.benchmark, row.metric) for row in summary.metrics}
        for card in summary.cards:
            for metric in card.metrics:
                if metric.main and (card.name, metric.name) in measured:
                    pairs.setdefault((card.name, metric.name), (card, metric))
    return list(pairs.values())


def _cell(metric: Metric, summary: RunSummary, card: BenchmarkCard, code: str) -> tuple[str, str]:
    row = summary.pair(code, metric.name, card.name).after
    if row is None:
        return "–", ""
    return figure(metric, row.value), f"{figure(metric, row.low)} to {figure(metric, row.high)}, n = {row.n}"
