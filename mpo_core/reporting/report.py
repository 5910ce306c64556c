"""Renders a run as one self-contained HTML page: no network, no script, every text escaped."""

from typing import Any

from mpo_core.contract.analysis import ANALYSES
from mpo_core.reporting import cards, view
from mpo_core.reporting.analyses import AnalysisSection, analysed, analysis_section
from mpo_core.reporting.charts import overview
from mpo_core.reporting.findings import cautions, headline, setting
from mpo_core.reporting.glossary import GLOSSARY
from mpo_core.reporting.pairs import pairs_table
from mpo_core.reporting.summary import RunSummary
from mpo_core.reporting.templates import environment, style

_ANALYSES = ("categories", "gap_vs_asr", "plain_text", "dominant_language")
"""Those that every page shows, made from the summary alone."""


def render(summary: RunSummary, *, texts: bool = False) -> str:
    """Returns the page of a run. Equal summaries give equal bytes.

    With `texts` it shows those of harmful prompts and of the answers to them, folded; else they are left out.
    """
    return environment().get_template("page.html.jinja").render(**_context(summary, texts=texts))


def _context(summary: RunSummary, *, texts: bool) -> dict[str, Any]:
    return {
        "summary": summary,
        "style": style(),
        "headline": headline(summary),
        "cautions": cautions(summary),
        "tiles": view.tiles(summary),
        "checks": view.check_rows(summary),
        "since_rows": view.since_rows(summary),
        "sections": view.sections(summary),
        "analyses": _analyses(summary),
        "full_rows": view.full_rows(summary),
        "pairs": pairs_table(summary),
        "training_panels": view.training_panels(summary),
        "stages": view.stage_rows(summary),
        "settings": view.settings_yaml(summary),
        "overview": overview(summary),
        "scope": cards.scope(summary),
        "judge_card": cards.judge_card(summary),
        "data_rows": cards.data_rows(summary),
        "outcome_names": list(cards.OUTCOME_NAMES.values()),
        "examples": cards.example_groups(summary, texts=texts),
        "texts": texts,
        "glossary": GLOSSARY,
        "confidence": _confidence(summary),
    }


def _analyses(summary: RunSummary) -> list[AnalysisSection]:
    """Returns the sections of the analyses; an evaluation shows those alone for which it has figures."""
    names = ["categories"] if summary.alone else _ANALYSES  # the others compare two models
    sections = [analysis_section(ANALYSES.parse({"analysis": name}), analysed(summary)) for name in names]
    return [section for section in sections if section.findings is not None or not summary.models]


def _confidence(summary: RunSummary) -> str:
    level = setting(summary, "evaluation", "confidence")
    return f"{100 * level:g} %" if isinstance(level, int | float) else "confidence"
