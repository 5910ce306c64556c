"""Renders a run as one self-contained HTML page: no network, no script, every text escaped."""

from __future__ import annotations

from typing import Any

from mpo_core.contract.analysis import ANALYSES
from mpo_core.display.wording import language_name
from mpo_core.languages.known import LANGUAGES
from mpo_core.reporting import view
from mpo_core.reporting.analyses import analysed, analysis_section
from mpo_core.reporting.findings import cautions, headline, setting
from mpo_core.reporting.glossary import GLOSSARY
from mpo_core.reporting.pairs import pairs_table
from mpo_core.reporting.summary import RunSummary
from mpo_core.reporting.templates import environment, style

_ANALYSES = ("categories", "gap_vs_asr", "plain_text", "dominant_language")
"""Those that every page shows, made from the summary alone."""


def render(summary: RunSummary) -> str:
    """Returns the page of a run. Equal summaries give equal bytes."""
    return environment().get_template("page.html.jinja").render(**_context(summary))


def _context(summary: RunSummary) -> dict[str, Any]:
    return {
        "summary": summary,
        "style": style(),
        "headline": headline(summary),
        "cautions": cautions(summary),
        "tiles": view.tiles(summary),
        "checks": view.check_rows(summary),
        "since_rows": view.since_rows(summary),
        "sections": view.sections(summary),
        "analyses": [analysis_section(ANALYSES.parse({"analysis": name}), analysed(summary)) for name in _ANALYSES],
        "full_rows": view.full_rows(summary),
        "pairs": pairs_table(summary),
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
