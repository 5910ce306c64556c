"""Writes the short markdown note of a run for Prefect's artifact page: figures, no text of prompts or answers."""

from __future__ import annotations

import re
from typing import Any

from mpo_core.reporting.findings import cautions, headline
from mpo_core.reporting.summary import RunSummary
from mpo_core.reporting.view import check_rows, language_rows
from mpo_core.reporting.wording import NUMBERS, language_name, metric_name, number, percent

_HEADS = ("Language", "Prompts", "Unsafe", "Change", "p", "Invalid", "Refused")
_HARMLESS_HEADS = ("Language", "Prompts", "Helped", "Change", "p", "Over-refusal", "Invalid")


def by_language(metrics: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Turns rows of METRICS into one row per language: shares in percent, `before → after` where both were measured."""
    by_code: dict[str, dict[str, str]] = {}
    for row in metrics:
        cells = by_code.setdefault(row["language"], {"Language": language_name(row["language"])})
        name = metric_name(row["metric"])
        figure = number(row["value"], 3) if row["metric"] in NUMBERS else percent(row["value"])
        cells[name] = f"{cells[name]} → {figure}" if name in cells else figure
    return list(by_code.values())


def markdown(summary: RunSummary) -> str:
    """Returns the outcome, the cautions, figures before and after per language, and the gate's checks."""
    verdict = headline(summary)
    parts = [f"# {_plain(verdict.title)}", _plain(verdict.sentence)]
    if verdict.next_step:
        parts.append(f"What to do: {_plain(verdict.next_step)}")
    if notes := cautions(summary):
        parts.append("\n".join(f"- {_plain(note)}" for note in notes))
    for title, heads, metrics in (
        ("Harmful prompts", _HEADS, ("unsafe", "invalid", "refused")),
        ("Harmless prompts", _HARMLESS_HEADS, ("helped", "over_refusal", "harmless_invalid")),
    ):
        if rows := language_rows(summary, *metrics):
            parts += [f"## {title}, before → after", _table(heads, [_cells(row) for row in rows])]
    if checks := check_rows(summary):
        lines = [[check["name"], check["outcome"], check["explanation"]] for check in checks]
        parts += ["## Gate", _table(("Check", "Outcome", "Measured"), lines)]
    return "\n\n".join(parts) + "\n"


def _cells(row: dict[str, Any]) -> list[str]:
    first, second, third = (f"{metric['before'].value} → {metric['after'].value}" for metric in row["metrics"])
    change = row["metrics"][0]
    return [row["name"], str(row["n"]), first, change["difference"], change["p"], second, third]


def _table(heads: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = [list(heads), ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines)


def _plain(text: str) -> str:
    """Escapes what markdown or HTML would read as markup, and puts the text on one line."""
    return re.sub(r"([\\`*\[\]<>|#!])", r"\\\1", " ".join(text.split()))
