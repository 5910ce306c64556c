"""The analysis `gap_vs_asr`: reward gap against attack success rate, over the languages and models of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from markupsafe import Markup
from scipy import stats

from mpo_core.contract.analysis import AnalysedRun, Analysis, Findings
from mpo_core.contract.benchmark import HELD_OUT
from mpo_core.contract.metric import REWARD_GAP, UNSAFE
from mpo_core.display.svg import AFTER, BEFORE, LINE, MUTED, PAPER, drawable, figure, label, shortened, to_svg
from mpo_core.display.wording import language_name, percent, signed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Where a name may stand beside its point, the best place first; in points.
_OFFSETS = tuple(
    (distance * x, distance * y)
    for distance in (1.0, 1.7, 2.6)
    for x, y in ((11, 8), (11, -8), (-11, 8), (-11, -8), (0, 12), (0, -12), (15, 0), (-15, 0))
)
_NEAR = 22  # points between two points that share one name
_RESAMPLES = 1000
_FEWEST = 4  # languages for a correlation


class _Place(NamedTuple):
    """A point of the picture: the reward gap and the ASR of one model in one language."""

    gap: float
    unsafe: float


class _Language(NamedTuple):
    """The points of one language, before and after training."""

    code: str
    before: _Place | None
    after: _Place | None


class Correlation(NamedTuple):
    """Spearman's rank correlation with the ends of its 95 % interval."""

    rho: float
    low: float
    high: float


class GapVsAsr(Analysis):
    """Compares the reward gap with the attack success rate of each language, before and after training."""

    title: ClassVar[str] = "Reward gap against unsafe answers"
    lead: ClassVar[str] = (
        "The reward gap is how much the model prefers good answers to bad ones. The method assumes that a larger gap "
        "comes with fewer unsafe answers: each line is a language and should lead down and to the right. A hollow "
        "point is before training, a filled one after."
    )

    analysis: Literal["gap_vs_asr"]
    """Name of the analysis."""

    def analyse(self, run: AnalysedRun) -> Findings | None:
        """Returns gap and ASR by language, the picture, and Spearman's rank correlation over languages and models."""
        rows = {(row["language"], row["model"], row["metric"]): row for row in _measured(run)}
        codes = list(dict.fromkeys([run.dominant, *run.targets, *sorted({language for language, _, _ in rows})]))
        places = [_Language(code, *(_place(rows, code, model) for model in ("before", "after"))) for code in codes]
        places = [place for place in places if place.before or place.after]
        table = pa.Table.from_pylist(
            [
                {"language": row["language"], "model": row["model"], "pairs": row["n"], "reward_gap": row["value"]}
                | {"gap_low": row["low"], "gap_high": row["high"]}
                | {"asr": rows[code, model, UNSAFE.name]["value"] if (code, model, UNSAFE.name) in rows else None}
                for (code, model, metric), row in sorted(rows.items(), key=lambda item: codes.index(item[0][0]))
                if metric == REWARD_GAP.name
            ]
        )
        if not table.num_rows:
            return None
        return Findings(table, _picture(places) if places else None, _supports(places), _LIMITS)


_LIMITS = (
    "It does not show that a larger gap causes safer answers: training moves both. Gaps are measured on pairs and ASR "
    "on the model's own answers to the same prompts, and languages of one model are not independent of each other."
)


def spearman(clusters: Sequence[Sequence[tuple[float, float]]]) -> Correlation | None:
    """Returns Spearman's rank correlation over all points, with a bootstrap interval that resamples whole clusters.

    A language before and after training is one cluster, since its two points resemble each other.

    Args:
        clusters: the points (x, y) of each cluster.

    Returns:
        The correlation; None if there are fewer than four clusters, or if all values are equal.
    """
    points = np.array([point for cluster in clusters for point in cluster], dtype=np.float64)
    if len(clusters) < _FEWEST or not np.isfinite(rho := _rho(points)):
        return None
    generator = np.random.default_rng(0)
    arrays = [np.array(cluster, dtype=np.float64) for cluster in clusters]
    resamples = generator.integers(len(arrays), size=(_RESAMPLES, len(arrays)))
    values = np.array([_rho(np.concatenate([arrays[index] for index in resample])) for resample in resamples])
    low, high = np.quantile(values[np.isfinite(values)], [0.025, 0.975])
    return Correlation(rho, float(low), float(high))


def _rho(points: Any) -> float:
    x, y = stats.rankdata(points, axis=0).T
    x, y = x - x.mean(), y - y.mean()
    spread = math.sqrt((x @ x) * (y @ y))
    return float(x @ y) / spread if spread else math.nan  # equal values have no order


def _measured(run: AnalysedRun) -> list[dict[str, Any]]:
    """Returns the rows with gaps and ASR of the held-out prompts, from which the pairs are made."""
    return [
        row
        for row in run.metrics.to_pylist()
        if row["benchmark"] == HELD_OUT and row["metric"] in {REWARD_GAP.name, UNSAFE.name}
    ]


def _place(rows: dict[tuple[str, str, str], dict[str, Any]], code: str, model: str) -> _Place | None:
    gap, unsafe = (rows.get((code, model, metric.name)) for metric in (REWARD_GAP, UNSAFE))
    return _Place(gap["value"], unsafe["value"]) if gap and unsafe and drawable(gap["value"]) else None


def _supports(places: Sequence[_Language]) -> str:
    correlation = spearman([[place for place in (before, after) if place] for _, before, after in places])
    if correlation is None:
        return f"Too few languages (fewer than {_FEWEST}) or equal figures: no correlation can be computed."
    verdict = (
        "A larger gap goes with fewer unsafe answers, as the method assumes."
        if correlation.high < 0.0
        else "The interval contains 0 or more, so these figures do not support the assumption of the method."
    )
    rho, low, high = (signed(value, 2) for value in correlation)
    return (
        f"Spearman's rank correlation of reward gap and ASR over {len(places)} languages, before and after: {rho} "
        f"(95 % interval {low} to {high}, bootstrap over languages). {verdict}"
    )


def _picture(places: Sequence[_Language]) -> Markup:
    """Draws a line per language, from before to after."""
    fig, (ax,) = figure(400)
    for _, before, after in places:
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
    _name_places(fig, ax, places)
    description = "; ".join(
        f"{language_name(code)} "
        + ", then ".join(f"gap {signed(p[0], 2)} with ASR {percent(p[1])}" if p else "not measured" for p in both)
        for code, *both in places
    )
    return to_svg(fig, name="gap-asr", description=f"Reward gap against ASR, before then after: {description}.")


def _name_places(fig: Figure, ax: Any, places: Sequence[_Language]) -> None:
    """Writes each language's code beside its points, where it covers neither a point nor another code."""
    fig.draw_without_rendering()  # settles the layout, so that distances are those of the page
    scale = fig.dpi / 72
    points_of = [(code, place) for code, *both in places for place in both if place]
    points = np.array([ax.transData.transform(place) / scale for _, place in points_of])
    offsets = np.array(_OFFSETS)
    labels: list[tuple[str, Any]] = []
    for index, ((code, place), point) in enumerate(zip(points_of, points, strict=True)):
        if any(other == code and math.dist(point, at) < _NEAR for other, at in labels):
            continue  # the points before and after nearly coincide: one name for both
        obstacles = np.array([*np.delete(points, index, axis=0), *(at for _, at in labels)]).reshape(-1, 2)
        offset = offsets[int(np.argmax(_free_space(point + offsets, obstacles)))]
        labels.append((code, point + offset))
        ax.annotate(
            shortened(code),
            place,
            xytext=offset,
            textcoords="offset points",
            ha="center",
            va="center",
            color=MUTED,
            fontsize=11.5,
            zorder=5,
        )


def _free_space(candidates: Any, obstacles: Any) -> Any:
    """Returns for each place of a label how far the nearest obstacle is, in labels of 18 × 12 points, 1 at most."""
    distances = np.abs(candidates[:, None, :] - obstacles[None, :, :]) / (18, 12)
    return distances.max(axis=2).min(axis=1, initial=1.0)
