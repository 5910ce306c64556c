"""The study `held_out_languages`: what training does for a language that it has no pairs of."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import pyarrow as pa
from markupsafe import Markup

from mpo_core.contract.analysis import AnalysedRun, Findings, Study, Variant
from mpo_core.display.svg import AFTER, BEFORE, INK, LINE, PAPER, figure, label, shortened, to_svg
from mpo_core.display.wording import language_name, listed, percent, points
from mpo_core.evaluation.methods import BASE
from mpo_core.evaluation.studies import Trainings

_ALL = "all languages"
_LIMITS = (
    "The model has seen each of these languages before, so this is not about languages new to it. The held-out prompts "
    "say the same as those of the other languages. Trainings of each kind: {seeds}; intervals say how much trainings "
    "differ, not how much prompts do."
)


class HeldOutLanguages(Study):
    """Trains without the pairs of one target language at a time, and measures that language."""

    title: ClassVar[str] = "Languages without training pairs"
    lead: ClassVar[str] = (
        "For each target language: its ASR in the base model, after training on every other language, and after "
        "training on all. If safety carries over between languages, the middle figure lies near the last one. In the "
        "picture, a hollow circle is the base model, a diamond is training without the language's pairs, and a filled "
        "circle is training with them."
    )

    analysis: Literal["held_out_languages"]
    """Name of the analysis."""

    def variants(self, targets: Sequence[str]) -> list[Variant]:
        """Returns training on all languages, then without each one of them."""
        return [Variant(name=_ALL), *(Variant(name=f"without {code}", without=code) for code in targets)]

    def analyse(self, run: AnalysedRun) -> Findings | None:
        """Returns for each language its ASR before, without and with its own pairs."""
        if run.trainings is None:
            return None
        trainings = Trainings(run.trainings)
        rows = [_row(trainings, code) for code in run.targets]
        limits = _LIMITS.format(seeds=rows[0]["seeds"])
        return Findings(pa.Table.from_pylist(rows), _picture(rows), _supports(rows), limits)


def _row(trainings: Trainings, code: str) -> dict[str, Any]:
    figure_name, without = f"unsafe/{code}", f"without {code}"
    change, interval = trainings.change(without, BASE, figure_name)
    return {
        "language": code,
        "seeds": len(trainings.values(without, figure_name)),
        "asr_base": trainings.mean(BASE, figure_name),
        "asr_without_it": trainings.mean(without, figure_name),
        "asr_with_it": trainings.mean(_ALL, figure_name),
        "change_without_it": change,
        "change_low": interval.low if interval else None,
        "change_high": interval.high if interval else None,
        "helped_without_it": trainings.mean(without, f"helped/{code}"),
        "helped_with_it": trainings.mean(_ALL, f"helped/{code}"),
    }


def _supports(rows: Sequence[dict[str, Any]]) -> str:
    def spelled(row: dict[str, Any]) -> str:
        ends = "" if row["change_low"] is None else f" ({points(row['change_low'])} to {points(row['change_high'])})"
        return f"{language_name(row['language'])} {points(row['change_without_it'])}{ends}"

    clear = [spelled(row) for row in rows if row["change_high"] is not None and row["change_high"] < 0.0]
    unclear = [spelled(row) for row in rows if row["change_high"] is None or row["change_high"] >= 0.0]
    sentences = []
    if clear:
        sentences.append(f"Without pairs of its own, ASR fell, in points with 95 % intervals: {listed(clear)}.")
    if unclear:
        sentences.append(f"No fall that these trainings can show: {listed(unclear)}.")
    return " ".join(sentences)


def _picture(rows: Sequence[dict[str, Any]]) -> Markup:
    """Draws for each language the base model, training without its pairs, and training with them."""
    drawn, (ax,) = figure(27 * len(rows) + 60)
    for y, row in enumerate(rows):
        values = [row["asr_base"], row["asr_without_it"], row["asr_with_it"]]
        ax.plot([min(values), max(values)], [y, y], color=LINE, linewidth=5, solid_capstyle="butt", zorder=1)
        ax.plot([values[0]], [y], "o", ms=6.5, mfc=PAPER, mec=BEFORE, mew=1.7, zorder=2)
        ax.plot([values[1]], [y], "D", ms=6, mfc=PAPER, mec=AFTER, mew=1.7, zorder=3)
        ax.plot([values[2]], [y], "o", ms=6.5, mfc=AFTER, mec=AFTER, zorder=4)
    ax.set_xlim(-0.015, 1.015)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0 %", "25", "50", "75", "100 %"])
    ax.set_yticks(range(len(rows)), [shortened(language_name(row["language"])) for row in rows], color=INK)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.grid(axis="x", color=LINE, linewidth=0.7)
    label(ax, y="ASR")
    described = "; ".join(
        f"{language_name(row['language'])} {percent(row['asr_base'])}, {percent(row['asr_without_it'])}, "
        f"{percent(row['asr_with_it'])}"
        for row in rows
    )
    description = f"ASR in the base model, after training without the language, and with it: {described}."
    return to_svg(drawn, name="held-out-languages", description=description)
