"""Arranges the trainings of a study: means over seeds, paired changes against the first variant, and the picture."""

import statistics
from collections.abc import Sequence
from typing import ClassVar

import pyarrow as pa
from markupsafe import Markup

from mpo_core.contract.analysis import AnalysedRun, Findings, Study, Variant
from mpo_core.contract.metric import HELPED, REWARD_GAP, UNSAFE
from mpo_core.contract.tables import METHOD_RUNS
from mpo_core.display.svg import AFTER, BEFORE, INK, LINE, PAPER, figure, label, shortened, to_svg
from mpo_core.display.wording import listed, percent, points
from mpo_core.evaluation.methods import BASE, SHARES, method_figures
from mpo_core.evaluation.statistics import Interval, mean_interval

_COLUMNS = (
    ("worst_unsafe", "worst_asr"),
    ("dominant_refused", "dominant_refused"),
    ("dominant_helped", "dominant_helped"),
    ("dominant_kl", "dominant_kl"),
    ("target_bits_per_byte", "bits_per_byte"),
)
_ASR, _HELPED = "target_unsafe", "target_helped"
_ROW = 27
_LIMITS = (
    "Each variant was trained {seeds}: other training prompts and another order, the same held-out prompts. "
    "Intervals say how much trainings differ, not how much prompts do, and are not adjusted for many variants. "
    "The figures hold for this model, these data and these settings; each variant was trained with the settings that "
    "were chosen for the first one."
)


def study_figures(metrics: pa.Table, *, dominant: str, targets: Sequence[str]) -> dict[str, float]:
    """Returns the figures of one training that studies show: a comparison's, and some by language: `unsafe/sw`."""
    figures = method_figures(metrics, dominant=dominant, targets=targets)
    for metric in (UNSAFE.name, HELPED.name, REWARD_GAP.name):
        of_metric = [row for row in metrics.to_pylist() if row["metric"] == metric]
        figures |= {f"{metric}/{row['language']}": row["value"] for row in of_metric}
    return figures


def by_share(words: str, field: str, *shares: float) -> tuple[Variant, ...]:
    """Returns a variant for each share that a field of `Variant` may have, named `40 %` and the words."""
    return tuple(Variant.model_validate({"name": f"{100 * share:g} % {words}", field: share}) for share in shares)


class Trainings:
    """The figures of a study's trainings, by variant and seed."""

    def __init__(self, runs: pa.Table) -> None:
        self._values: dict[tuple[str, str], dict[int, float]] = {}
        for row in METHOD_RUNS.check(runs).to_pylist():
            self._values.setdefault((row["method"], row["figure"]), {})[row["seed"]] = row["value"]

    def values(self, variant: str, figure: str) -> dict[int, float]:
        """Returns a figure of each training of a variant, by seed."""
        return self._values.get((variant, figure), {})

    def mean(self, variant: str, figure: str) -> float | None:
        """Returns the mean over seeds; None where it was not measured."""
        values = self.values(variant, figure).values()
        return statistics.fmean(values) if values else None

    def interval(self, variant: str, figure: str) -> Interval | None:
        """Returns Student's interval of the mean of a share, cut at 0 and 1; None for a single seed."""
        values = list(self.values(variant, figure).values())
        if len(values) < 2:  # noqa: PLR2004
            return None
        low, high = mean_interval(values, 0.95)
        return Interval(max(low, 0.0), min(high, 1.0))

    def change(self, variant: str, other: str, figure: str) -> tuple[float, Interval | None]:
        """Returns the mean change of a figure from `other` to a variant, paired by seed, with Student's interval."""
        first, second = self.values(other, figure), self.values(variant, figure)
        changes = [second[seed] - first[seed] for seed in first if seed in second]
        return statistics.fmean(changes), mean_interval(changes, 0.95) if len(changes) > 1 else None


class TargetStudy(Study):
    """Base of the studies whose variants are compared by the ASR of the targets."""

    limits: ClassVar[str]
    """What this study does not show, beside what none does."""
    second: ClassVar[tuple[str, str]] = ("target_helped", "helped")
    """The figure that the picture shows beside ASR, and its title there."""
    trained: ClassVar[tuple[Variant, ...]]
    """Its variants; the first is the one to compare the others with."""

    def variants(self, targets: Sequence[str]) -> list[Variant]:
        """Returns the variants, which are the same for all targets."""
        del targets
        return list(self.trained)

    def analyse(self, run: AnalysedRun) -> Findings | None:
        """Returns ASR and help of the targets, and figures of the dominant language, by variant."""
        if run.trainings is None:
            return None
        trainings, variants = Trainings(run.trainings), self.variants(run.targets)
        names = [BASE, *(variant.name for variant in variants)]
        seeds = len(trainings.values(variants[0].name, _ASR))
        return Findings(
            pa.Table.from_pylist([_row(trainings, name) for name in names]),
            _picture(trainings, names, self.analysis.replace("_", "-"), self.second),
            _supports(trainings, variants),
            f"{self.limits} {_LIMITS.format(seeds='once' if seeds == 1 else f'with {seeds} seeds')}",
        )


def _row(trainings: Trainings, variant: str) -> dict[str, object]:
    row: dict[str, object] = {"variant": variant, "seeds": len(trainings.values(variant, _ASR))}
    for figure_name, column in ((_ASR, "asr"), (_HELPED, "helped")):
        interval = trainings.interval(variant, figure_name)
        row[column] = trainings.mean(variant, figure_name)
        row |= {
            f"{column}_low": interval.low if interval else None,
            f"{column}_high": interval.high if interval else None,
        }
    return row | {column: trainings.mean(variant, figure_name) for figure_name, column in _COLUMNS}


def _supports(trainings: Trainings, variants: Sequence[Variant]) -> str:
    first, *others = variants
    start = trainings.mean(first.name, _ASR)
    sentences = [f"Target ASR with {first.name}: {percent(start)} (base model {percent(trainings.mean(BASE, _ASR))})."]
    clear: list[str] = []
    unclear: list[str] = []
    for variant in others:
        change, interval = trainings.change(variant.name, first.name, _ASR)
        if interval is None:
            unclear.append(f"{variant.name} {points(change)}")
            continue
        spelled = f"{variant.name} {points(change)} ({points(interval.low)} to {points(interval.high)})"
        (clear if interval.low > 0 or interval.high < 0 else unclear).append(spelled)
    if clear:
        sentences.append(f"Change in points against it, paired by seed, with 95 % intervals: {listed(clear)}.")
    if unclear:
        sentences.append(f"No change that these trainings can show: {listed(unclear)}.")
    return " ".join(sentences)


def _picture(trainings: Trainings, names: Sequence[str], name: str, second: tuple[str, str]) -> Markup:
    """Draws ASR and a second figure by variant: the mean over seeds with its interval, and each training."""
    drawn, axes = figure(_ROW * len(names) + 60, columns=2)
    described = []
    for ax, (figure_name, title) in zip(axes, ((_ASR, "ASR"), second), strict=True):
        share = figure_name in SHARES
        for y, variant in enumerate(names):
            mean = trainings.mean(variant, figure_name)
            if mean is None:
                continue
            values, interval = trainings.values(variant, figure_name), trainings.interval(variant, figure_name)
            if interval:
                ax.plot([interval.low, interval.high], [y, y], color=LINE, linewidth=5, solid_capstyle="butt", zorder=1)
            colour = BEFORE if variant == BASE else AFTER
            ax.plot(list(values.values()), [y] * len(values), "o", ms=4, mfc=PAPER, mec=colour, mew=1.1, zorder=2)
            ax.plot([mean], [y], "o", ms=6.5, mfc=colour, mec=colour, zorder=3)
            described.append(f"{variant} {title} {percent(mean) if share else f'{mean:.2g}'}")
        if share:
            ax.set_xlim(-0.03, 1.03)
            ax.set_xticks([0, 0.5, 1.0], ["0 %", "50", "100 %"])
        else:
            low, high = 0.0, ax.get_xlim()[1]
            ax.set_xlim(low - 0.03 * high, high)
            middle = f"{high / 2:.1g}"
            ax.set_xticks([low, float(middle)], ["0", middle])
        ax.set_yticks(range(len(names)), [shortened(variant) for variant in names] if ax is axes[0] else [], color=INK)
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.grid(axis="x", color=LINE, linewidth=0.7)
        label(ax, y=title)
    return to_svg(drawn, name=name, description=f"Figures by variant, means over seeds: {'; '.join(described)}.")
