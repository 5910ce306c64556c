"""The analysis `categories`: unsafe answers by harm category and language."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import pyarrow as pa
from markupsafe import Markup

from mpo_core.contract.analysis import AnalysedRun, Analysis, Findings
from mpo_core.contract.benchmark import HELD_OUT
from mpo_core.contract.metric import TARGETS
from mpo_core.display.svg import AFTER, INK, LINE, MUTED, figure, shortened, to_svg
from mpo_core.display.wording import language_name, listed, percent

_FEW = 30  # prompts, below which a cell's figure is little more than an anecdote
_MOST_NAMED = 3
_LIMITS = (
    "A category has few prompts, so its interval is wide: compare two categories by their intervals, not by their "
    "shades. Categories are those of the prompts' source; many cells are looked at, so some stand out by chance."
)

Cells = dict[tuple[str, str], dict[str, dict[str, Any]]]
"""The figures by (category, language) and model."""


class Categories(Analysis):
    """Compares the attack success rates of harm categories, in every language."""

    title: ClassVar[str] = "Unsafe answers by harm category"
    lead: ClassVar[str] = (
        "Share of harmful prompts of each category that got an unsafe answer, in percent: before → after training, or "
        "of one model alone. Lower is better. The darker a cell, the more answers are unsafe, after training if there "
        "was one."
    )

    analysis: Literal["categories"]
    """Name of the analysis."""

    def analyse(self, run: AnalysedRun) -> Findings | None:
        """Returns ASR by category and language, with the interval over all targets together, and the heat map."""
        cells: Cells = {}
        rows = [] if run.categories is None else run.categories.to_pylist()
        several = len({row["benchmark"] for row in rows}) > 1
        for row in rows:
            plain = row["benchmark"] == HELD_OUT or not several
            name = row["category"] if plain else f"{row['benchmark']}: {row['category']}"
            # A model that is evaluated alone has the place of the later one.
            model = "after" if row["model"] == "model" else row["model"]
            cells.setdefault((name, row["language"]), {})[model] = row
        if not cells:
            return None
        categories = list(dict.fromkeys(category for category, _ in cells))
        languages = [c for c in (run.dominant, *run.targets, TARGETS) if any((n, c) in cells for n in categories)]
        table = pa.Table.from_pylist([_line(cells, category, languages) for category in categories])
        return Findings(table, _picture(cells, categories, languages), _supports(cells, categories), _LIMITS)


def _alone(cells: Cells) -> bool:
    return not any("before" in models for models in cells.values())


def _line(cells: Cells, category: str, languages: Sequence[str]) -> dict[str, Any]:
    """Returns a line of the table: ASR over all targets, before and after with its interval, and in each language."""
    after = {code: cells.get((category, code), {}).get("after") for code in languages}
    together = cells.get((category, TARGETS), {})
    figures = {"targets": "after"} if _alone(cells) else {"targets_before": "before", "targets": "after"}
    return {
        "category": category,
        "prompts": max((row["n"] for row in after.values() if row), default=0),
        **{name: together[model]["value"] if model in together else None for name, model in figures.items()},
        **{name: together["after"][name] if "after" in together else None for name in ("low", "high")},
        **{code: row["value"] if row else None for code, row in after.items() if code != TARGETS},
    }


def _supports(cells: Cells, categories: Sequence[str]) -> str:
    """Names the categories that are least safe after training over all targets."""
    rows = [(name, cells[name, TARGETS]["after"]) for name in categories if "after" in cells.get((name, TARGETS), {})]
    if not rows:
        return "No category was measured in a target language after training."
    worst = sorted(rows, key=lambda entry: -entry[1]["value"])[:_MOST_NAMED]
    names = [f"{name} {percent(r['value'])} ({percent(r['low'])} to {percent(r['high'])})" for name, r in worst]
    few = sum(row["n"] < _FEW for _, row in rows)
    warning = f" {few} of {len(rows)} categories have fewer than {_FEW} prompts." if few else ""
    when = "" if _alone(cells) else " after training"
    return f"Least safe{when}, over all targets together, with intervals: {listed(names)}.{warning}"


def _picture(cells: Cells, categories: Sequence[str], languages: Sequence[str]) -> Markup:
    """Draws a cell per category and language, shaded by ASR after training; the shade adds nothing to the number."""
    models = ["after"] if _alone(cells) else ["before", "after"]
    drawn, (ax,) = figure(24 * len(categories) + 40)
    for y, category in enumerate(categories):
        for x, code in enumerate(languages):
            both = cells.get((category, code), {})
            texts = [f"{100 * both[model]['value']:.0f}" if model in both else "–" for model in models]
            shade = both["after"]["value"] if "after" in both else 0.0
            place = {"width": 0.96, "height": 0.9, "facecolor": AFTER, "edgecolor": LINE}
            ax.add_patch(_rectangle((x - 0.48, y - 0.45), alpha=0.55 * shade, **place))
            ax.text(x, y, "→".join(texts), ha="center", va="center", fontsize=9.5, color=INK)
    ax.set_xlim(-0.5, len(languages) - 0.5)
    ax.set_ylim(len(categories) - 0.5, -0.5)
    ax.xaxis.tick_top()
    names = ["all" if code == TARGETS else shortened(code) for code in languages]
    ax.set_xticks(range(len(languages)), names, color=MUTED)
    ax.set_yticks(range(len(categories)), [shortened(name) for name in categories], color=INK)
    ax.spines["bottom"].set_visible(False)
    described = "; ".join(
        f"{category} " + ", ".join(f"{language_name(code)} {percent(row['value'])}" for code, row in after)
        for category in categories
        if (
            after := [
                (code, cells[category, code]["after"])
                for code in languages
                if "after" in cells.get((category, code), {})
            ]
        )
    )
    return to_svg(drawn, name="categories", description=f"Unsafe answers by category: {described}.")


def _rectangle(corner: tuple[float, float], **settings: Any) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, **settings)
