"""Draws the charts of the report. A hollow mark is before, a filled one after, so that nothing depends on colour."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from mpo_core.contract.metric import Metric
from mpo_core.display.svg import AFTER, BEFORE, INK, LINE, MUTED, PAPER, drawable, figure, label, shortened, to_svg
from mpo_core.display.wording import language_name, percent
from mpo_core.reporting.summary import MetricRow, Pair, RunSummary

_ROW = 27
_FEW_CURVES = 2  # their names stand at the lines
_NAME_HEIGHT = 0.1  # of a curve's name, as a share of the chart's
_MOST_PANELS = 5
_MANY_DECADES = 500.0  # highest over lowest value above which only powers of ten are marked


class Curve(NamedTuple):
    """A line of a training chart: its key in the log, its name, and whether it is drawn muted."""

    key: str
    name: str
    muted: bool = False


def dumbbell(summary: RunSummary, metric: Metric, benchmark: str, *, name: str) -> Markup | None:
    """Draws a share per language, before and after, with intervals; None where nothing was measured."""
    rows = [(code, summary.pair(code, metric.name, benchmark)) for code in summary.languages]
    rows = [(code, pair) for code, pair in rows if pair.measured]
    if not rows:
        return None
    chart, (ax,) = figure(_ROW * len(rows) + 42)
    _dumbbells(ax, [pair for _, pair in rows])
    ax.set_yticks(range(len(rows)), [shortened(language_name(code)) for code, _ in rows], color=INK)
    return to_svg(chart, name=name, description=f"{metric.label} per language: {_spoken(summary, rows)}.")


def overview(summary: RunSummary) -> Markup | None:
    """Draws every language on every benchmark: its first main metric of each kind, with intervals; at most five.

    None where nothing was measured.
    """
    panels = []
    for card in summary.cards:
        firsts = {metric.kind: metric for metric in reversed(card.metrics) if metric.main and metric.unit == "share"}
        for metric in sorted(firsts.values(), key=lambda metric: metric.kind != "harmful"):
            pairs = {code: summary.pair(code, metric.name, card.name) for code in summary.languages}
            if any(pair.measured for pair in pairs.values()):
                panels.append((card, metric, pairs))
    panels = panels[:_MOST_PANELS]
    if not panels:
        return None
    codes = [code for code in summary.languages if any(pairs[code].measured for _, _, pairs in panels)]
    width = 110 + 190 * len(panels)
    chart, axes = figure(_ROW * len(codes) + 74, columns=len(panels), width=width)
    for number, (ax, (card, metric, pairs)) in enumerate(zip(axes, panels, strict=True)):
        _dumbbells(ax, [pairs[code] for code in codes])
        names = [shortened(language_name(code)) for code in codes] if number == 0 else []
        ax.set_yticks(range(len(names)), names, color=INK)
        ax.set_title(f"{shortened(card.label)}\n{metric.short}", color=INK, fontsize=12, loc="left", pad=8)
        ax.set_xticks([0, 0.5, 1.0], ["0", "50", "100 %"])
    texts = [
        f"{card.label}, {metric.label}: {_spoken(summary, [(c, pairs[c]) for c in codes if pairs[c].measured])}"
        for card, metric, pairs in panels
    ]
    drawn = to_svg(chart, name="overview", description=f"{'. '.join(texts)}.")
    return drawn.replace("<svg", Markup('<svg style="max-width: {}px"').format(round(1.3 * width)), 1)


def _dumbbells(ax: Any, pairs: Sequence[Pair]) -> None:
    """Draws a row for each pair of shares: before hollow, after filled, a line between them."""
    for y, (before, after) in enumerate(pairs):
        if before is not None and after is not None:
            ax.plot([before.value, after.value], [y, y], color=LINE, linewidth=5, solid_capstyle="butt", zorder=1)
        _dot(ax, before, y - 0.13, colour=BEFORE, face=PAPER)
        _dot(ax, after, y + 0.13, colour=AFTER, face=AFTER)
    ax.set_ylim(len(pairs) - 0.4, -0.6)
    ax.set_xlim(-0.015, 1.015)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0 %", "25", "50", "75", "100 %"])
    ax.grid(axis="x", color=LINE, linewidth=0.7)


def _spoken(summary: RunSummary, rows: Sequence[tuple[str, Pair]]) -> str:
    """Says the shares in words, for those who do not see the chart."""
    if summary.alone:
        return "; ".join(f"{language_name(code)} {percent(pair.after.value)}" for code, pair in rows if pair.after)
    return "; ".join(
        f"{language_name(code)} {percent(before.value) if before else 'not measured'} before, "
        f"{percent(after.value) if after else 'not measured'} after"
        for code, (before, after) in rows
    )


def curves(
    log: Sequence[dict[str, float | None]], lines: Sequence[Curve], *, name: str, unit: str, logarithmic: bool = False
) -> Markup | None:
    """Plots values of the training log against the step, validation pairs dashed; None if none was logged."""
    series_by_curve = [(curve, _points(log, curve.key), _points(log, f"eval_{curve.key}")) for curve in lines]
    series_by_curve = [entry for entry in series_by_curve if entry[1] or entry[2]]
    if not series_by_curve:
        return None
    chart, (ax,) = figure(215)
    descriptions = []
    ends = [(training or validation)[-1][1] for _, training, validation in series_by_curve]
    for curve, training, validation in series_by_curve:
        colour = MUTED if curve.muted else AFTER
        ended = training or validation
        for series, style in ((training, "-"), (validation, "--")):
            if series:
                marks = {"marker": "o", "ms": 3} if len(series) == 1 or style == "--" else {}
                ax.plot(*zip(*series, strict=True), style, color=colour, linewidth=1.6, **marks)
        if len(series_by_curve) == _FEW_CURVES:
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
        descriptions.append(f"{curve.name} from {ended[0][1]:.3g} at step {ended[0][0]:g} to {ended[-1][1]:.3g}")
    values = [value for _, *both in series_by_curve for series in both for _, value in series]
    if logarithmic and any(value > 0 for value in values):
        _logarithmic(ax)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.grid(axis="y", color=LINE, linewidth=0.7)
    ax.margins(x=0.02, y=0.14)
    if len(series_by_curve) > _FEW_CURVES:
        names = [curve.name for curve, *_ in series_by_curve]
        last = [(training or validation)[-1] for _, training, validation in series_by_curve]
        _name_at_the_end(ax, list(zip(names, last, strict=True)))
    label(ax, x="step", y=unit)
    return to_svg(chart, name=name, description=f"By training step: {'; '.join(descriptions)}.")


def _name_at_the_end(ax: Any, ends: Sequence[tuple[str, tuple[float, float]]]) -> None:
    """Writes the name of each curve to the right of its end, and moves names apart that would lie on each other."""
    low, high = ax.get_ylim()
    left, right = ax.get_xlim()
    gap, below = _NAME_HEIGHT * (high - low), float("-inf")
    for name, (step, value) in sorted(ends, key=lambda end: end[1][1]):
        below = max(value, below + gap)
        ax.annotate(
            shortened(name),
            (step, value),
            xytext=(right + 0.02 * (right - left), below),
            textcoords="data",
            annotation_clip=False,
            va="center",
            color=INK,
            fontsize=11,
            arrowprops={"arrowstyle": "-", "color": LINE, "shrinkA": 0, "shrinkB": 2},
        )


def _logarithmic(ax: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    ax.set_yscale("log", nonpositive="mask")
    low, high = ax.get_ylim()
    few = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
    subs = few if high / low < 10 else (1.0, 2.0, 5.0) if high / low < _MANY_DECADES else (1.0,)  # noqa: PLR2004
    ax.yaxis.set_major_locator(LogLocator(subs=subs, numticks=7))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _dot(ax: Any, row: MetricRow | None, y: float, *, colour: str, face: str) -> None:
    if row is None:
        return
    ax.plot([row.low, row.high], [y, y], color=colour, linewidth=1.5, solid_capstyle="butt", zorder=2)
    ax.plot([row.value], [y], "o", ms=6.5, mfc=face, mec=colour, mew=1.7, zorder=3, clip_on=False)


def _points(log: Sequence[dict[str, float | None]], key: str) -> list[tuple[float, float]]:
    """Returns (step, value) wherever the log has both and an axis can show the value."""
    entries = [(entry.get("step"), entry.get(key)) for entry in log]
    return [(step, value) for step, value in entries if step is not None and value is not None and drawable(value)]
