"""Puts finished runs and evaluations side by side: one page, and a table for a terminal."""

from collections.abc import Mapping, Sequence
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

# How a judge's card calls the digests of a model's files and of its template.
_DIGEST = "sha256"


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
    if changed := _changed([{"judge": judge_name(summary)} | summary.judge for summary in summaries]):
        notes.append(f"The runs have different judges ({changed}), so their figures differ for that too.")
    for label, cards in _sets(summaries):
        if changed := _changed([{"judge": card.judge or "that of the run"} | card.judge_card for card in cards]):
            notes.append(f"{label}: the runs have different judges ({changed}), so their figures differ for that too.")
        notes += [f"{label}: {note}" for note in (_other_texts(cards), _other_counts(summaries, cards)) if note]
    return notes


def _changed(judges: Sequence[Mapping[str, str]]) -> str:
    """Returns the first entry in which the cards of judges differ, such as `format: llama_guard and qwen3guard`.

    Where a model's files have a digest, it does not matter where the model lies. A summary of an earlier version may
    lack the whole card, which says nothing about its judge.
    """
    if not all(len(card) > 1 for card in judges):
        judges = [{"judge": card["judge"]} for card in judges]
    digests = {name.rpartition(", ")[0] for card in judges for name in card if _DIGEST in name}
    for name in dict.fromkeys(["judge", *(name for card in judges for name in card)]):
        texts = sorted({card.get(name, "not stated") for card in judges})
        model, _, part = name.rpartition(", ")
        if len(texts) > 1 and not (model in digests and part in {"model", "revision"}):
            shown = listed([text[:12] if _DIGEST in name else text for text in texts])
            return shown if name == "judge" else f"{name}: {shown}"
    return ""


def _other_texts(cards: Sequence[BenchmarkCard]) -> str:
    """Returns a note where the texts that the models read are not the same in every run, or are not recorded."""
    content = cards[0].content
    codes = dict.fromkeys(code for card in cards for code in card.digests)
    other = [code for code in codes if len({card.digests[code] for card in cards if code in card.digests}) > 1]
    if other:
        names = listed(list(map(language_name, other)))
        return f"the runs have other {content} in {names}, so their figures differ for that too."
    if any(not card.digests for card in cards) and len(cards) > 1 and content != "items":
        return f"one of the runs does not record its {content}, so it is unknown whether the others have the same."
    return ""


def _other_counts(summaries: Sequence[RunSummary], cards: Sequence[BenchmarkCard]) -> str:
    metric = next((metric for metric in cards[0].metrics if metric.main), cards[0].metrics[0])
    counts = {
        tuple(
            (code, pair.n) for code in summary.languages if (pair := summary.pair(code, metric.name, cards[0].name)).n
        )
        for summary in summaries
    } - {()}
    return "the runs have other languages or other numbers of prompts." if len(counts) > 1 else ""


def panels(summaries: Sequence[RunSummary]) -> list[Panel]:
    """Returns a panel for each main metric of each set of prompts that one of the runs has measured."""
    codes = list(dict.fromkeys(code for summary in summaries for code in summary.languages))
    tables = []
    for label, card, metric in _measured(summaries):
        rows = [("Target median", [(figure(metric, median(s, metric.name, card.name).after), "") for s in summaries])]
        for code in codes:
            cells = [_cell(metric, summary, card, code) for summary in summaries]
            if any(value != "–" for value, _ in cells):
                rows.append((language_name(code), cells))
        tables.append(Panel(f"{label}: {metric.label}", metric.note, rows))
    return tables


def runs_table(summaries: Sequence[RunSummary], names: Sequence[str]) -> Table:
    """Makes a table for a terminal: a row for each run, with the median of every main metric over its targets."""
    measured = _measured(summaries)
    table = Table(
        box=SIMPLE_HEAD, title=Text("Medians over the target languages, after training"), title_justify="left"
    )
    table.add_column("Run")
    for label, _, metric in measured:
        table.add_column(Text(f"{label}\n{metric.short}"), justify="right")
    for summary, name in zip(summaries, names, strict=True):
        cells = [Text(figure(metric, median(summary, metric.name, card.name).after)) for _, card, metric in measured]
        table.add_row(Text(name), *cells)
    return table


def _measured(summaries: Sequence[RunSummary]) -> list[tuple[str, BenchmarkCard, Metric]]:
    """Returns each set of prompts with each of its main metrics that a run has measured, once, and the set's label."""
    measured = {(row.benchmark, row.metric) for summary in summaries for row in summary.metrics}
    sets = []
    for label, cards in _sets(summaries):
        metrics = {metric.name: metric for card in reversed(cards) for metric in card.metrics}
        sets += [
            (label, cards[0], metrics[name])
            for name in dict.fromkeys(metric.name for card in cards for metric in card.metrics)
            if metrics[name].main and (cards[0].name, name) in measured
        ]
    return sets


def _sets(summaries: Sequence[RunSummary]) -> list[tuple[str, list[BenchmarkCard]]]:
    """Returns the cards of each set of prompts that a run has measured, under all the labels that the runs give it.

    The prompts of every file of `mpo evaluate` are one set, each under the file's name.
    """
    cards: dict[str, list[BenchmarkCard]] = {}
    for summary in summaries:
        measured = {row.benchmark for row in summary.metrics}
        for card in summary.cards:
            if card.name in measured and card.metrics:
                cards.setdefault(card.name, []).append(card)
    return [(" / ".join(dict.fromkeys(card.label for card in same)), same) for same in cards.values()]


def _cell(metric: Metric, summary: RunSummary, card: BenchmarkCard, code: str) -> tuple[str, str]:
    row = summary.pair(code, metric.name, card.name).after
    if row is None:
        return "–", ""
    return figure(metric, row.value), f"{figure(metric, row.low)} to {figure(metric, row.high)}, n = {row.n}"
