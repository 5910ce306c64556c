"""The charts of the report. Before is hollow, after is filled: colour never carries meaning alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup

from mpo_core.reporting.summary import MetricRow, RunSummary
from mpo_core.reporting.svg import AFTER, BEFORE, INK, LINE, MUTED, PAPER, figure, label, to_svg
from mpo_core.reporting.wording import METRIC_NAMES, language_name, percent, signed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROW = 27
_NEAR = 22
_MANY_DECADES = 500.0  # highest over lowest value above which only powers of ten are marked
# Where a name may stand beside its point, the best place first; in points.
_OFFSETS = tuple(
    (distance * x, distance * y)
    for distance in (1.0, 1.7, 2.6)
    for x, y in ((11, 8), (11, -8), (-11, 8), (-11, -8), (0, 12), (0, -12), (15, 0), (-15, 0))
)


class Curve(NamedTuple):
    """One line of a training chart: the key of the log, its name, and whether it is the reference's."""

    key: str
    name: str
    muted: bool = False


class _Place(NamedTuple):
    gap: float
    unsafe: float


def dumbbell(summary: RunSummary, metric: str) -> Markup | None:
    """A share per language, before and after, with its intervals; None where nothing was measured."""
    rows = [(code, summary.pair(code, metric)) for code in summary.languages]
    rows = [(code, pair) for code, pair in rows if pair.measured]
    if not rows:
        return None
    drawn, (ax,) = figure(_ROW * len(rows) + 42)
    for y, (_, (before, after)) in enumerate(rows):
        if before is not None and after is not None:
            ax.plot([before.value, after.value], [y, y], color=LINE, linewidth=5, solid_capstyle="butt", zorder=1)
        _dot(ax, before, y - 0.13, colour=BEFORE, face=PAPER)
        _dot(ax, after, y + 0.13, colour=AFTER, face=AFTER)
    ax.set_yticks(range(len(rows)), [language_name(code) for code, _ in rows], color=INK)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(-0.015, 1.015)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0 %", "25", "50", "75", "100 %"])
    ax.grid(axis="x", color=LINE, linewidth=0.7)
    told = "; ".join(
        f"{language_name(code)} {percent(before.value) if before else 'not measured'} before, "
        f"{percent(after.value) if after else 'not measured'} after"
        for code, (before, after) in rows
    )
    return to_svg(drawn, name=metric.replace("_", "-"), description=f"{METRIC_NAMES[metric]} per language: {told}.")


def gap_against_asr(summary: RunSummary) -> Markup | None:
    """Reward gap against attack success rate, a language a line from before to after."""
    found = [(code, *_places(summary, code)) for code in summary.languages]
    found = [place for place in found if place[1] or place[2]]
    if not found:
        return None
    drawn, (ax,) = figure(400)
    for _, before, after in found:
        if before and after:
            ax.plot(*zip(before, after, strict=True), color=LINE, linewidth=1.4, zorder=1)
        if before:
            ax.plot(*before, "o", ms=6, mfc=PAPER, mec=BEFORE, mew=1.6, zorder=3)
        if after:
            ax.plot(*after, "o", ms=6, mfc=AFTER, mec=AFTER, mew=1.6, zorder=4)
    ax.set_ylim(-0.04, 1.04)
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1.0], ["0 %", "25", "50", "75", "100 %"])
    ax.margins(x=0.08)
    ax.grid(color=LINE, linewidth=0.7)
    label(ax, x="reward gap, nats per token", y="unsafe answers")
    _name_places(drawn, ax, found)
    told = "; ".join(
        f"{language_name(code)} "
        + ", then ".join(f"gap {signed(p[0], 2)} with ASR {percent(p[1])}" if p else "not measured" for p in places)
        for code, *places in found
    )
    return to_svg(drawn, name="gap-asr", description=f"Reward gap against ASR, before then after: {told}.")


def curves(
    log: Sequence[dict[str, float | None]], lines: Sequence[Curve], *, name: str, unit: str, logarithmic: bool = False
) -> Markup | None:
    """Figures of the training log by step; the validation's, if any, dashed."""
    found = [(curve, _points(log, curve.key), _points(log, f"eval_{curve.key}")) for curve in lines]
    found = [entry for entry in found if entry[1] or entry[2]]
    if not found:
        return None
    drawn, (ax,) = figure(215)
    told = []
    ends = [(training or validation)[-1][1] for _, training, validation in found]
    for curve, training, validation in found:
        colour = MUTED if curve.muted else AFTER
        ended = training or validation
        for series, style in ((training, "-"), (validation, "--")):
            if series:
                marks = {"marker": "o", "ms": 3} if len(series) == 1 or style == "--" else {}
                ax.plot(*zip(*series, strict=True), style, color=colour, linewidth=1.6, **marks)
        if len(found) > 1:
            ax.annotate(
                curve.name,
                ended[-1],
                xytext=(0, 9 if ended[-1][1] == max(ends) else -14),
                textcoords="offset points",
                ha="right",
                va="center",
                color=colour,
                fontsize=12,
                bbox={"boxstyle": "square,pad=0.1", "fc": PAPER, "ec": "none"},
            )
        told.append(f"{curve.name} from {ended[0][1]:.3g} at step {ended[0][0]:g} to {ended[-1][1]:.3g}")
    values = [value for _, *both in found for series in both for _, value in series]
    if logarithmic and any(value > 0 for value in values):
        _logarithmic(ax)
    ax.grid(axis="y", color=LINE, linewidth=0.7)
    ax.margins(x=0.02, y=0.14)
    label(ax, x="step", y=unit)
    return to_svg(drawn, name=name, description=f"By training step: {'; '.join(told)}.")


def _logarithmic(ax: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    ax.set_yscale("log", nonpositive="mask")
    low, high = ax.get_ylim()
    subs = (1.0, 2.0, 5.0) if high / low < _MANY_DECADES else (1.0,)
    ax.yaxis.set_major_locator(LogLocator(subs=subs, numticks=7))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _places(summary: RunSummary, code: str) -> tuple[_Place | None, _Place | None]:
    gaps, unsafe = summary.pair(code, "reward_gap"), summary.pair(code, "unsafe")
    before, after = (
        _Place(gap.value, share.value) if gap and share else None for gap, share in zip(gaps, unsafe, strict=True)
    )
    return before, after


def _name_places(drawn: Figure, ax: Any, found: list[tuple[str, _Place | None, _Place | None]]) -> None:
    """Writes each language's code beside its points, where it covers neither a point nor another code."""
    drawn.draw_without_rendering()  # settles the layout, so that distances are those of the page
    scale = drawn.dpi / 72
    named = [(code, place) for code, *places in found for place in places if place]
    points = [ax.transData.transform(place) / scale for _, place in named]
    taken: list[Any] = []
    for (code, place), point in zip(named, points, strict=True):
        if any(known == code and math.dist(point, at) < _NEAR for known, at in taken):
            continue  # before and after nearly coincide: one name serves both
        crowd = [other for other in points if other is not point] + [at for _, at in taken]
        offset = max(_OFFSETS, key=lambda move: min((_room(point + move, other) for other in crowd), default=1.0))
        taken.append((code, point + offset))
        ax.annotate(
            code,
            place,
            xytext=offset,
            textcoords="offset points",
            ha="center",
            va="center",
            color=MUTED,
            fontsize=11.5,
            zorder=5,
        )


def _room(one: Any, other: Any) -> float:
    """Free space between two things of a label's shape, which is wider than high; enough is enough."""
    return min(max(float(abs(one[0] - other[0])) / 18, float(abs(one[1] - other[1])) / 12), 1.0)


def _dot(ax: Any, row: MetricRow | None, y: float, *, colour: str, face: str) -> None:
    if row is None:
        return
    ax.plot([row.low, row.high], [y, y], color=colour, linewidth=1.5, solid_capstyle="butt", zorder=2)
    ax.plot([row.value], [y], "o", ms=6.5, mfc=face, mec=colour, mew=1.7, zorder=3, clip_on=False)


def _points(log: Sequence[dict[str, float | None]], key: str) -> list[tuple[float, float]]:
    """(step, value) wherever the log has both, as finite numbers."""
    found = [(entry.get("step"), entry.get(key)) for entry in log]
    return [(step, value) for step, value in found if step is not None and value is not None and math.isfinite(value)]
