"""Renders a run as one self-contained HTML page: no network, no script, every text escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mpo_core.languages.known import LANGUAGES
from mpo_core.reporting import charts, view
from mpo_core.reporting.findings import cautions, headline, setting
from mpo_core.reporting.glossary import GLOSSARY
from mpo_core.reporting.summary import RunSummary, iso
from mpo_core.reporting.wording import duration, language_name, unbroken

_ROOM = Path(__file__).parent


def render(summary: RunSummary) -> str:
    """Returns the page of a run. Equal summaries give equal bytes."""
    environment = Environment(
        loader=FileSystemLoader(_ROOM),
        autoescape=True,  # for every name: text of models goes through here
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"iso": iso, "duration": duration, "language_name": language_name, "unbroken": unbroken}
    return environment.get_template("page.html.jinja").render(**_context(summary))


def _context(summary: RunSummary) -> dict[str, Any]:
    return {
        "summary": summary,
        "style": Markup((_ROOM / "page.css").read_text(encoding="utf-8")),  # noqa: S704 - a file of this room
        "headline": headline(summary),
        "cautions": cautions(summary),
        "tiles": view.tiles(summary),
        "checks": view.check_rows(summary),
        "since_rows": view.since_rows(summary),
        "safety_panels": view.panels(summary, "unsafe", "invalid"),
        "help_panels": view.panels(summary, "helped", "over_refusal"),
        "safety_rows": view.language_rows(summary, "unsafe", "invalid", "refused"),
        "help_rows": view.language_rows(summary, "helped", "over_refusal", "harmless_invalid"),
        "full_rows": view.full_rows(summary),
        "gap_chart": charts.gap_against_asr(summary),
        "gap_rows": view.gap_rows(summary),
        "training_panels": view.training_panels(summary),
        "stages": view.stage_rows(summary),
        "settings": view.settings_yaml(summary),
        "examples": _examples(summary),
        "glossary": GLOSSARY,
        "confidence": _confidence(summary),
    }


def _examples(summary: RunSummary) -> list[dict[str, Any]]:
    """Groups the examples by language; text of a right-to-left language is set from right to left."""
    grouped = {code: [e for e in summary.examples if e.language == code] for code in summary.languages}
    for example in summary.examples:
        if example.language not in grouped:
            grouped[example.language] = [e for e in summary.examples if e.language == example.language]
    return [
        {
            "code": code,
            "name": language_name(code),
            "dir": "rtl" if code in LANGUAGES and LANGUAGES[code].right_to_left else "auto",
            "examples": examples,
        }
        for code, examples in grouped.items()
        if examples
    ]


def _confidence(summary: RunSummary) -> str:
    level = setting(summary, "evaluation", "confidence")
    return f"{100 * level:g} %" if isinstance(level, int | float) else "confidence"
