"""The run as a short markdown note, for Prefect's artifact page. Figures only: no text of prompts or models."""

from __future__ import annotations

from typing import Any

from mpo_core.reporting.findings import cautions, headline
from mpo_core.reporting.summary import RunSummary
from mpo_core.reporting.view import check_rows, language_rows
from mpo_core.reporting.wording import METRIC_NAMES, language_name, percent

_HEADS = ("Language", "Prompts", "Unsafe", "Change", "p", "Invalid", "Refused")
_HARMLESS_HEADS = ("Language", "Prompts", "Helped", "Change", "p", "Over-refusal", "Invalid")


def by_language(metrics: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Rows of METRICS as one row a language: each share in percent, `before → after` where both were measured."""
    found: dict[str, dict[str, str]] = {}
    for row in metrics:
        shares = row["metric"] not in {"reward_gap", "dominant_drift"}
        cells = found.setdefault(row["language"], {"Language": language_name(row["language"])})
        name = METRIC_NAMES[row["metric"]]
        told = percent(row["value"]) if shares else f"{row['value']:.3f}"
        cells[name] = f"{cells[name]} → {told}" if name in cells else told
    return list(found.values())


def markdown(summary: RunSummary) -> str:
    """Verdict, cautions, before/after per language, and the gate's checks."""
    verdict = headline(summary)
    parts = [f"# {verdict.title}", verdict.sentence]
    if notes := cautions(summary):
        parts.append("\n".join(f"- {note}" for note in notes))
    for title, heads, metrics in (
        ("Harmful prompts", _HEADS, ("unsafe", "invalid", "refused")),
        ("Harmless prompts", _HARMLESS_HEADS, ("helped", "over_refusal", "harmless_invalid")),
    ):
        if rows := language_rows(summary, *metrics):
            parts += [f"## {title}, before → after", _table(heads, [_cells(row) for row in rows])]
    if checks := check_rows(summary):
        found = [[check["name"], check["outcome"], check["explanation"]] for check in checks]
        parts += ["## Gate", _table(("Check", "Outcome", "Found"), found)]
    return "\n\n".join(parts) + "\n"


def _cells(row: dict[str, Any]) -> list[str]:
    first, second, third = (f"{metric['before'].value} → {metric['after'].value}" for metric in row["metrics"])
    change = row["metrics"][0]
    return [row["name"], str(row["n"]), first, change["difference"], change["p"], second, third]


def _table(heads: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = [list(heads), ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
