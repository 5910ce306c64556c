"""Arranges the figures of the training pairs for the page."""

from typing import NamedTuple

from mpo_core.display.wording import language_name
from mpo_core.reporting.summary import RunSummary


class PairsTable(NamedTuple):
    """A table of figures: the languages in its head, and a name with a cell for each language in its rows."""

    languages: list[str]
    rows: list[tuple[str, list[str]]]


def pairs_table(summary: RunSummary) -> PairsTable | None:
    """Returns the figures of the training pairs by language; None where the summary has none."""
    if not summary.pairs:
        return None
    names = dict.fromkeys(name for figures in summary.pairs.values() for name in figures)
    rows = [(name, [_shown(figures.get(name)) for figures in summary.pairs.values()]) for name in names]
    return PairsTable(list(map(language_name, summary.pairs)), rows)


def _shown(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value == int(value) else f"{value:.2f}"
