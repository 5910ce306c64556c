"""Shows reward gap against ASR: a line for each language, from model to model, and the correlation over all points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from markupsafe import Markup

from mpo_core.display.svg import AFTER, BEFORE, LINE, MUTED, PAPER, drawable, figure, label, shortened, to_svg
from mpo_core.display.wording import language_name, percent, signed
from mpo_core.evaluation.statistics import FEWEST_CLUSTERS, spearman

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Where a name may stand beside its point, the best place first; in points.
_OFFSETS = tuple(
    (distance * x, distance * y)
    for distance in (1.0, 1.7, 2.6)
    for x, y in ((11, 8), (11, -8), (-11, 8), (-11, -8), (0, 12), (0, -12), (15, 0), (-15, 0))
)
_NEAR = 22  # points between two points that share one name

LIMITS = (
    "It does not show that a larger gap causes safer answers: training moves both. Gaps are measured on pairs and ASR "
    "on the model's own answers to the same prompts, and languages of one model are not independent of each other."
)
"""What no correlation of reward gap and ASR shows."""


class Place(NamedTuple):
    """A point of the picture: the reward gap and the ASR of one model in one language."""

    gap: float
    unsafe: float


class Path(NamedTuple):
    """The points of one language."""

    code: str
    places: Sequence[Place | None]
    """The model before training, checkpoints if there are any, and the model after training; None if not measured."""

    @property
    def measured(self) -> list[Place]:
        """Those points that were measured."""
        return [place for place in self.places if place]

    @property
    def ends(self) -> list[Place]:
        """The points of the models before and after training, where measured."""
        return [place for place in (self.places[0], self.places[-1]) if place]


def place_of(gap: float | None, unsafe: float | None) -> Place | None:
    """Returns the point of a model in a language; None if a figure was not measured, or cannot be drawn."""
    return Place(gap, unsafe) if gap is not None and unsafe is not None and drawable(gap) else None


def correlated(paths: Sequence[Path], models: str) -> str:
    """Returns sentences with Spearman's rank correlation over points of `models`; the interval resamples languages."""
    correlation = spearman([path.measured for path in paths])
    if correlation is None:
        return f"Too few languages (fewer than {FEWEST_CLUSTERS}) or equal figures: no correlation can be computed."
    verdict = (
        "A larger gap goes with fewer unsafe answers, as the method assumes."
        if correlation.high < 0.0
        else "The interval contains 0 or more, so these figures do not support the assumption of the method."
    )
    rho, low, high = (signed(value, 2) for value in correlation)
    return (
        f"Spearman's rank correlation of reward gap and ASR over {len(paths)} languages, {models}: {rho} "
        f"(95 % interval {low} to {high}, bootstrap over languages). {verdict}"
    )


def draw_paths(paths: Sequence[Path], *, name: str) -> Markup:
    """Draws a line per language, from before training over its checkpoints to after training."""
    fig, (ax,) = figure(400)
    for path in paths:
        before, *between, after = path.places
        ax.plot(*zip(*path.measured, strict=True), color=LINE, linewidth=1.4, zorder=1)
        for place in filter(None, between):
            ax.plot(*place, "o", ms=3, mfc=AFTER, mec=AFTER, zorder=2)
        if before:
            ax.plot(*before, "o", ms=6, mfc=PAPER, mec=BEFORE, mew=1.6, zorder=3)
        if after:
            ax.plot(*after, "o", ms=6, mfc=AFTER, mec=AFTER, mew=1.6, zorder=4)
    ax.set_ylim(-0.04, 1.04)
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1.0], ["0 %", "25", "50", "75", "100 %"])
    ax.margins(x=0.08)
    ax.grid(color=LINE, linewidth=0.7)
    label(ax, x="reward gap, nats per token", y="unsafe answers")
    _name_places(fig, ax, paths)
    description = "; ".join(
        f"{language_name(path.code)} "
        + ", then ".join(
            f"gap {signed(place.gap, 2)} with ASR {percent(place.unsafe)}" if place else "not measured"
            for place in path.places
        )
        for path in paths
    )
    return to_svg(fig, name=name, description=f"Reward gap against ASR, before then after: {description}.")


def _name_places(fig: Figure, ax: Any, paths: Sequence[Path]) -> None:
    """Writes each language's code beside its points, where it covers neither a point nor another code."""
    fig.draw_without_rendering()  # settles the layout, so that distances are those of the page
    scale = fig.dpi / 72
    points_of = [(path.code, place) for path in paths for place in path.ends]
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
