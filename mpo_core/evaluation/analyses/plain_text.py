"""The analysis `plain_text`: what training did to the model's command of each language."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import pyarrow as pa
from markupsafe import Markup

from mpo_core.contract.analysis import AnalysedRun, Analysis, Findings
from mpo_core.contract.metric import BITS_PER_BYTE, PARALLEL_TEXT
from mpo_core.display.svg import AFTER, INK, LINE, MUTED, figure, label, shortened, to_svg
from mpo_core.display.wording import language_name, listed, signed

_LIMITS = (
    "Plain text says nothing of answers: a model may read as before and answer worse. Figures of two languages cannot "
    "be compared, since scripts differ in bytes per character. A change that is certain can still be too small to "
    "matter: look at its size, in percent."
)


class PlainText(Analysis):
    """Compares the bits that the model needs for plain text before and after training, in every language."""

    title: ClassVar[str] = "Command of each language"
    lead: ClassVar[str] = (
        "Bits that the model needs for a byte of plain text, on the same passages before and after training; lower is "
        "better. If safety was bought with the command of a language, the figure rises there."
    )

    analysis: Literal["plain_text"]
    """Name of the analysis."""

    def analyse(self, run: AnalysedRun) -> Findings | None:
        """Returns bits per byte by language before and after, with the paired change."""
        comparisons = [] if run.comparisons is None else run.comparisons.to_pylist()
        changes = {
            row["language"]: row
            for row in comparisons
            if row["benchmark"] == PARALLEL_TEXT and row["difference_low"] is not None
        }
        values = {
            (row["language"], row["model"]): row["value"]
            for row in run.metrics.to_pylist()
            if row["benchmark"] == PARALLEL_TEXT and row["metric"] == BITS_PER_BYTE.name
        }
        rows = [
            _row(code, values[code, "before"], values[code, "after"], changes[code])
            for code in [run.dominant, *run.targets]
            if code in changes
        ]
        return Findings(pa.Table.from_pylist(rows), _picture(rows), _supports(rows), _LIMITS) if rows else None


def _row(code: str, before: float, after: float, change: dict[str, Any]) -> dict[str, Any]:
    in_percent = {
        name: 100 * change[column] / before
        for name, column in (
            ("change_in_percent", "difference"),
            ("low", "difference_low"),
            ("high", "difference_high"),
        )
    }
    counts = {"passages": change["n"], "worse": change["gained"], "better": change["lost"]}
    return {"language": code, **counts, "before": before, "after": after, **in_percent, "p": change["p_value"]}


def _supports(rows: Sequence[dict[str, Any]]) -> str:
    def spelled(row: dict[str, Any]) -> str:
        low, high = signed(row["low"], 1), signed(row["high"], 1)
        return f"{language_name(row['language'])} {signed(row['change_in_percent'], 1)} % ({low} to {high})"

    worse, better = ([spelled(row) for row in rows if test(row)] for test in (_is_worse, _is_better))
    sentences = [
        f"{direction}, paired by passage, with 95 % intervals: {listed(names)}."
        for direction, names in (("Worse", worse), ("Better", better))
        if names
    ]
    unclear = [language_name(row["language"]) for row in rows if not _is_worse(row) and not _is_better(row)]
    return " ".join([*sentences, *([f"No change that these passages can show: {listed(unclear)}."] if unclear else [])])


def _is_worse(row: dict[str, Any]) -> bool:
    return bool(row["low"] > 0.0)


def _is_better(row: dict[str, Any]) -> bool:
    return bool(row["high"] < 0.0)


def _picture(rows: Sequence[dict[str, Any]]) -> Markup:
    """Draws the change of each language in percent, with its interval."""
    drawn, (ax,) = figure(27 * len(rows) + 60)
    for y, row in enumerate(rows):
        ax.plot([row["low"], row["high"]], [y, y], color=AFTER, linewidth=1.5, solid_capstyle="butt", zorder=2)
        ax.plot([row["change_in_percent"]], [y], "o", ms=6.5, mfc=AFTER, mec=AFTER, zorder=3)
    ax.axvline(0.0, color=MUTED, linewidth=1.0, zorder=1)
    ax.set_yticks(range(len(rows)), [shortened(language_name(row["language"])) for row in rows], color=INK)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.grid(axis="x", color=LINE, linewidth=0.7)
    label(ax, x="change of bits per byte, %")
    described = "; ".join(f"{language_name(row['language'])} {signed(row['change_in_percent'], 1)} %" for row in rows)
    return to_svg(drawn, name="plain-text", description=f"Change of bits per byte by language: {described}.")
