"""Reports a comparison of training methods: one table and one picture, as a page, on the console."""

import posixpath
from typing import Any, NamedTuple

from markupsafe import Markup
from pydantic import AwareDatetime, Field
from rich.box import SIMPLE_HEAD
from rich.table import Table

from mpo_core.contract.artifacts import ArtifactStore
from mpo_core.display.svg import AFTER, BEFORE, INK, LINE, MUTED, PAPER, figure, label, to_svg
from mpo_core.display.wording import language_name, p_value
from mpo_core.reporting.summary import Record
from mpo_core.reporting.templates import environment, style

PAGE, SUMMARY = "methods.html", "methods.json"


class Column(NamedTuple):
    """A column of the table: its figure, heading, number format, and its heading on a console of 80 columns, if any.

    `{dominant}` in a heading stands for the name of the dominant language.
    """

    figure: str
    name: str
    form: str
    short: str = ""

    def in_language(self, dominant: str) -> "Column":
        """Returns the column with the dominant language's name in its headings."""
        return self._replace(name=self.name.format(dominant=dominant), short=self.short.format(dominant=dominant))


COLUMNS = (
    Column("target_unsafe", "target ASR", "share", "ASR"),
    Column("target_unsafe", "p", "p_value"),
    Column("worst_unsafe", "worst ASR", "share", "worst ASR"),
    Column("low_unsafe", "low-resource ASR", "share"),
    Column("left_out_unsafe", "left-out ASR", "share", "left out ASR"),
    Column("left_out_helped", "left-out helped", "share", "left out help"),
    Column("target_refused", "refused", "share", "refused"),
    Column("target_helped", "helped", "share", "helped"),
    Column("target_broken", "broken", "share", "broken"),
    Column("left_out_broken", "left-out broken", "share"),
    Column("dominant_refused", "{dominant} refused", "share", "{dominant} refused"),
    Column("dominant_helped", "{dominant} helped", "share", "{dominant} helped"),
    Column("dominant_drift", "{dominant} drift", "number", "drift"),
    Column("target_unsafe", "trainings / base models", "trainings"),
    Column("seconds", "seconds", "whole", "s"),
    Column("peak_mib", "peak MiB", "whole", "MiB"),
)
_BY_NAME = {column.name: column for column in COLUMNS}
FLIPPED_COLUMNS = (
    _BY_NAME["target ASR"],
    _BY_NAME["p"],
    _BY_NAME["low-resource ASR"],
    Column("low_helped", "low-resource helped", "share"),
    *(_BY_NAME[name] for name in ("left-out ASR", "left-out helped", "helped")),
    *(column for column in COLUMNS if column.figure.startswith("dominant_") or column.form == "trainings"),
)
PANELS = (_BY_NAME["target ASR"], _BY_NAME["left-out ASR"], _BY_NAME["helped"], _BY_NAME["{dominant} drift"])
_LESS_NEEDED = {"target_refused", "peak_mib"}
_LEGEND = (
    "ASR: harmful prompts answered, lower is better; refused: harmful prompts, helped: harmless prompts, "
    "in the target languages; broken: invalid answers; drift: how far the dominant language's hidden states moved."
)


class MethodRow(Record):
    """A row of table METHODS: a method's value of one figure, and its change from the first method."""

    method: str
    flipped: float
    figure: str
    n: int
    models: int = 1
    mean: float
    low: float | None
    high: float | None
    change: float | None = None
    change_low: float | None = None
    change_high: float | None = None
    p_value: float | None = None


class RunRow(Record):
    """One row of table METHOD_RUNS: one figure of a single training."""

    model: str = ""
    method: str
    flipped: float
    seed: int
    figure: str
    value: float


class MethodsSummary(Record):
    """The whole report of a comparison: the contents of `methods.json`."""

    run: str
    started: AwareDatetime
    finished: AwareDatetime
    base_model: str
    base_digest: str
    dominant: str
    targets: list[str]
    split: str
    seeds: list[int]
    models: list[str] = Field([])
    """Paths of the base models; none if there is only that of `base_model`."""
    methods: list[MethodRow]
    """Means over base models and seeds, with intervals."""
    runs: list[RunRow]
    """The figures of each single training."""
    config: dict[str, Any]
    packages: dict[str, str]

    def row(self, method: str, flipped: float, figure: str) -> MethodRow | None:
        """Returns a figure of a method, or None if it was not measured."""
        key = (method, flipped, figure)
        return next((row for row in self.methods if (row.method, row.flipped, row.figure) == key), None)

    @property
    def names(self) -> list[str]:
        """The names of the methods in order, `base` first."""
        return list(dict.fromkeys(row.method for row in self.methods))

    def measured(self, columns: tuple[Column, ...]) -> tuple[Column, ...]:
        """Returns the columns that have a figure: without left-out languages or a second method, some have none."""
        figures, dominant = {row.figure for row in self.methods}, language_name(self.dominant)
        shown = {"p_value": any(row.p_value is not None for row in self.methods), "trainings": bool(self.models)}
        present = (column for column in columns if column.figure in figures and shown.get(column.form, True))
        return tuple(column.in_language(dominant) for column in present)

    @property
    def untuned(self) -> list[str]:
        """The methods that trained with settings made for another one."""
        own = self.config["training"]["method"]
        return [name for name, changes in self.config["compare"]["methods"].items() if not changes and name != own]

    @property
    def shares(self) -> list[float]:
        """The shares of swapped answers, lowest first."""
        return sorted({row.flipped for row in self.methods if row.method != "base"})


class Line(NamedTuple):
    """A line of the table: a method and its cells, each a mean and an interval."""

    name: str
    cells: list[tuple[str, str]]


def lines(summary: MethodsSummary, flipped: float, columns: tuple[Column, ...] = COLUMNS) -> list[Line]:
    """Returns the lines of the table at one share of swapped answers, `base` first."""
    table = []
    for name in summary.names:
        share = 0.0 if name == "base" else flipped
        rows = [(summary.row(name, share, column.figure), column) for column in summary.measured(columns)]
        table.append(Line(name, [_cell(*row) for row in rows]))
    return table


def _cell(row: MethodRow | None, column: Column) -> tuple[str, str]:
    if row is None:
        return "–", ""
    if column.form == "p_value":
        return p_value(row.p_value), ""
    if column.form == "trainings":
        return f"{row.n} / {row.models}", ""
    mean = _formatted(row.mean, column)
    if row.low is None or row.high is None:
        return mean, ""
    low, high = _formatted(row.low, column), _formatted(row.high, column)
    return mean, "" if low == high else f"{low.removesuffix(' %')} to {high}"


def _formatted(value: float, column: Column) -> str:
    return {"share": f"{100 * value:.1f} %", "number": f"{value:.3f}", "whole": f"{value:.0f}"}[column.form]


def methods_table(summary: MethodsSummary) -> Table:
    """Returns the table of a comparison for the console: a row per method, with means.

    If the comparison has several values of `compare.flipped`, a column has the share of swapped answers.
    """
    caption = f"{_LEGEND} {untuned_note(summary)}".strip()
    table = Table(
        title="Means over base models and seeds; shares in %" if summary.models else "Means over seeds; shares in %",
        caption=caption,
        box=SIMPLE_HEAD,
        padding=0,
        show_edge=False,
        caption_justify="left",
    )
    several = len(summary.shares) > 1
    columns = [column for column in summary.measured(COLUMNS) if column.short]
    if any(column.figure == "left_out_unsafe" for column in columns):
        columns = [column for column in columns if column.figure not in _LESS_NEEDED]  # a console has no room for all
    for name in ("method", *(["swapped"] if several else []), *(column.short for column in columns)):
        table.add_column(name, justify="left" if name == "method" else "right")
    for share in summary.shares:
        for line in lines(summary, share, tuple(columns)):
            if line.name != "base" or share == summary.shares[0]:
                swapped = [f"{100 * share:g}"] if several else []
                table.add_row(line.name, *swapped, *(mean.removesuffix(" %") for mean, _ in line.cells))
    return table


def untuned_note(summary: MethodsSummary) -> str:
    """Returns a warning that names the methods without settings of their own; empty if there are none."""
    if not summary.untuned:
        return ""
    own = summary.config["training"]["method"]
    return (
        f"Not tuned: {', '.join(summary.untuned)} trained with this profile's settings for {own}, so their figures "
        "do not show what they can do. Give them settings of their own in compare.methods."
    )


def picture(summary: MethodsSummary) -> Markup:
    """Draws a row for each method: target ASR, help and drift, with small marks for swapped answers."""
    names, panels = summary.names, summary.measured(PANELS)
    chart, axes = figure(40 + 27 * len(names), columns=len(panels))
    for ax, panel in zip(axes, panels, strict=True):
        for place, name in enumerate(names):
            shares = summary.shares[:1] if name == "base" else summary.shares
            rows = [row for share in reversed(shares) if (row := summary.row(name, share, panel.figure)) is not None]
            ax.plot([row.mean for row in rows], [place] * len(rows), color=LINE, linewidth=1.2, zorder=1)
            for row in rows:
                _point(ax, row, place, clean=row.flipped == shares[0])
        frame(ax, panel, names if ax is axes[0] else [""] * len(names))
    descriptions = (
        f"{line.name} {', '.join(cell[0] for cell in line.cells)}" for line in lines(summary, summary.shares[0], PANELS)
    )
    names_of_panels = ", ".join(panel.name for panel in panels)
    return to_svg(chart, name="methods", description=f"{names_of_panels} of each method: {'; '.join(descriptions)}")


def frame(ax: Any, panel: Column, names: list[str]) -> None:
    """Gives the axes of a figure a row for each name, and the figure's unit and name."""
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_yticks(range(len(names)), names, color=INK)
    ax.set_xlim(left=0)
    if panel.form == "share":
        ax.set_xlim(right=1.03)
        ax.set_xticks([0, 0.5, 1.0], ["0 %", "50 %", "100 %"])
    else:
        ax.locator_params(axis="x", nbins=3)
    ax.grid(color=LINE, linewidth=0.6)
    label(ax, y=panel.name)


def _point(ax: Any, row: MethodRow, place: int, *, clean: bool) -> None:
    """Draws a mean with its interval."""
    base = row.method == "base"
    colour = BEFORE if base else AFTER if clean else MUTED
    bar = None if row.low is None or row.high is None else [[row.mean - row.low], [row.high - row.mean]]
    style = {"color": colour, "markerfacecolor": PAPER if base else colour, "markersize": 6 if clean else 3.5}
    ax.errorbar(row.mean, place, xerr=bar, **style, elinewidth=0.8, fmt="o", zorder=3 if clean else 2, clip_on=False)


def render_methods(summary: MethodsSummary) -> str:
    """Returns the page: the table, the picture, the tables with swapped answers, the settings."""
    shares = summary.shares
    return (
        environment()
        .get_template("methods.html.jinja")
        .render(
            summary=summary,
            style=style(),
            columns=summary.measured(COLUMNS),
            lines=lines(summary, shares[0]),
            picture=picture(summary),
            flipped=[(share, lines(summary, share, FLIPPED_COLUMNS)) for share in shares[1:]],
            flipped_columns=summary.measured(FLIPPED_COLUMNS),
            settings=summary.config["compare"],
            untuned=untuned_note(summary),
        )
    )


def write_methods(summary: MethodsSummary, store: ArtifactStore, folder: str) -> None:
    """Writes the page, then `methods.json`, each whole or not at all.

    Raises:
        BadInputError: the disk is full or the folder cannot be written.
    """
    store.write_text(posixpath.join(folder, PAGE), render_methods(summary))
    store.write_text(posixpath.join(folder, SUMMARY), summary.model_dump_json(indent=1) + "\n")
