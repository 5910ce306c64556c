"""Writes the short markdown note of a run for Prefect's artifact page: figures, no text of prompts or answers."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from mpo_core.contract.benchmark import HELD_OUT
from mpo_core.display.wording import figure, language_name
from mpo_core.reporting.findings import cautions, headline
from mpo_core.reporting.summary import BenchmarkCard, RunSummary
from mpo_core.reporting.view import check_rows, sections


def by_language(
    metrics: list[dict[str, Any]], benchmarks: Sequence[BenchmarkCard] = (BenchmarkCard(),)
) -> list[dict[str, str]]:
    """Turns rows of METRICS into one row per language: shares in percent, `before → after` where both were measured."""
    cards = {card.name: card for card in benchmarks}
    by_code: dict[str, dict[str, str]] = {}
    for row in metrics:
        cells = by_code.setdefault(row["language"], {"Language": language_name(row["language"])})
        card = cards[row["benchmark"]]
        metric = card.metric(row["metric"])
        name = metric.label if card.name == HELD_OUT else f"{card.label}: {metric.label}"
        value = figure(metric, row["value"])
        cells[name] = f"{cells[name]} → {value}" if name in cells else value
    return list(by_code.values())


def markdown(summary: RunSummary) -> str:
    """Returns the outcome, the cautions, figures before and after per language, and the gate's checks."""
    verdict = headline(summary)
    parts = [f"# {_plain(verdict.title)}", _plain(verdict.sentence)]
    if verdict.next_step:
        parts.append(f"What to do: {_plain(verdict.next_step)}")
    if notes := cautions(summary):
        parts.append("\n".join(f"- {_plain(note)}" for note in notes))
    for section in sections(summary):
        if section.rows:
            first, *others = section.heads
            heads = ("Language", "Prompts", first, "Change", "p", *others)
            parts += [f"## {_plain(section.title)}, before → after", _table(heads, map(_cells, section.rows))]
            parts += [_plain(note) for note in section.notes]
    if checks := check_rows(summary):
        lines = [[check["name"], check["outcome"], check["explanation"]] for check in checks]
        parts += ["## Gate", _table(("Check", "Outcome", "Measured"), lines)]
    return "\n\n".join(parts) + "\n"


def _cells(row: dict[str, Any]) -> list[str]:
    first, *others = (f"{metric['before'].value} → {metric['after'].value}" for metric in row["metrics"])
    change = row["metrics"][0]
    return [row["name"], str(row["n"]), first, change["difference"], change["p"], *others]


def _table(heads: Sequence[str], rows: Iterable[list[str]]) -> str:
    lines = [list(heads), ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines)


def _plain(text: str) -> str:
    """Escapes what markdown or HTML would read as markup, and puts the text on one line."""
    return re.sub(r"([\\`*\[\]<>|#!])", r"\\\1", " ".join(text.split()))
