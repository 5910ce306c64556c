"""Training methods side by side: one table and one picture, as a page, as markdown, on the console."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from pydantic import AwareDatetime
from rich.table import Table

from mpo_core.artifacts import ArtifactStore
from mpo_core.reporting.summary import Record, iso
from mpo_core.reporting.svg import AFTER, BEFORE, INK, LINE, MUTED, PAPER, figure, label, to_svg

_ROOM = Path(__file__).parent
PAGE, SUMMARY = "methods.html", "methods.json"


class Column(NamedTuple):
    """A figure of the table."""

    figure: str
    name: str
    form: str


COLUMNS = (
    Column("target_unsafe", "target ASR", "share"),
    Column("worst_unsafe", "worst ASR", "share"),
    Column("target_refused", "refused", "share"),
    Column("target_helped", "helped", "share"),
    Column("target_broken", "broken", "share"),
    Column("dominant_refused", "English refused", "share"),
    Column("dominant_helped", "English helped", "share"),
    Column("dominant_drift", "English drift", "number"),
    Column("seconds", "seconds", "whole"),
    Column("peak_mib", "peak MiB", "whole"),
)
_BY_FIGURE = {column.figure: column for column in COLUMNS}
FLIPPED_COLUMNS = (
    _BY_FIGURE["target_unsafe"],
    Column("low_unsafe", "low-resource ASR", "share"),
    Column("low_helped", "low-resource helped", "share"),
    _BY_FIGURE["target_helped"],
    _BY_FIGURE["dominant_refused"],
    _BY_FIGURE["dominant_helped"],
    _BY_FIGURE["dominant_drift"],
)


# The same in the words of a console of 80 columns.
_SHORT = ("ASR", "worst", "ref", "help", "bad", "en ref", "en help", "drift", "s", "MiB")


class MethodRow(Record):
    """One row of table METHODS."""

    method: str
    flipped: float
    figure: str
    n: int
    mean: float
    low: float | None
    high: float | None


class RunRow(Record):
    """One row of table METHOD_RUNS."""

    method: str
    flipped: float
    seed: int
    figure: str
    value: float


class MethodsSummary(Record):
    """What a comparison did and showed: `methods.json`."""

    run: str
    started: AwareDatetime
    finished: AwareDatetime
    base_model: str
    base_digest: str
    dominant: str
    targets: list[str]
    split: str
    seeds: list[int]
    methods: list[MethodRow]
    """Means over seeds, with intervals."""
    runs: list[RunRow]
    """Every single training."""
    config: dict[str, Any]
    packages: dict[str, str]

    def row(self, method: str, flipped: float, figure: str) -> MethodRow | None:
        """A figure of a method, if it was measured."""
        wanted = (method, flipped, figure)
        return next((row for row in self.methods if (row.method, row.flipped, row.figure) == wanted), None)

    @property
    def names(self) -> list[str]:
        """The methods in order, `base` first."""
        return list(dict.fromkeys(row.method for row in self.methods))

    @property
    def shares(self) -> list[float]:
        """The shares of swapped answers."""
        return sorted({row.flipped for row in self.methods if row.method != "base"})


class Line(NamedTuple):
    """A line of the table: a method and its cells, each a mean and an interval."""

    name: str
    cells: list[tuple[str, str]]


def lines(summary: MethodsSummary, flipped: float, columns: tuple[Column, ...] = COLUMNS) -> list[Line]:
    """The table at one share of swapped answers; `base` heads it."""
    found = []
    for name in summary.names:
        share = 0.0 if name == "base" else flipped
        found.append(Line(name, [_cell(summary.row(name, share, column.figure), column) for column in columns]))
    return found


def _cell(row: MethodRow | None, column: Column) -> tuple[str, str]:
    if row is None:
        return "–", ""
    told = _told(row.mean, column)
    return told, "" if row.low is None or row.high is None else f"{_told(row.low, column)} to {_told(row.high, column)}"


def _told(value: float, column: Column) -> str:
    return {"share": f"{100 * value:.1f} %", "number": f"{value:.3f}", "whole": f"{value:.0f}"}[column.form]


def methods_table(summary: MethodsSummary) -> Table:
    """The console's table: means alone, the share of swapped answers where there are several."""
    table = Table(title="Means over seeds; shares in %")
    several = len(summary.shares) > 1
    for name in ("method", *(["swapped"] if several else []), *_SHORT):
        table.add_column(name, justify="left" if name == "method" else "right")
    for share in summary.shares:
        for line in lines(summary, share):
            if line.name != "base" or share == summary.shares[0]:
                told = [f"{100 * share:g}"] if several else []
                table.add_row(line.name, *told, *(mean.removesuffix(" %") for mean, _ in line.cells))
    return table


def methods_markdown(summary: MethodsSummary) -> str:
    """The tables in markdown: the clean pairs first, then what swapped answers did."""
    parts = [_table(summary, summary.shares[0], COLUMNS)]
    parts += [f"\n{100 * s:g} % swapped:\n\n{_table(summary, s, FLIPPED_COLUMNS)}" for s in summary.shares[1:]]
    return "\n".join(parts)


def _table(summary: MethodsSummary, flipped: float, columns: tuple[Column, ...]) -> str:
    head = ["method", *(column.name for column in columns)]
    rows = [
        [line.name, *(f"{mean} ({interval})" if interval else mean for mean, interval in line.cells)]
        for line in lines(summary, flipped, columns)
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]) + "\n"


def picture(summary: MethodsSummary) -> Markup:
    """Safety against help of every method: the best are at the lower right; small, with swapped answers."""
    drawn, (ax,) = figure(330)
    clean = summary.shares[0]
    for name in summary.names:
        places = []
        for share in [0.0] if name == "base" else summary.shares:
            x, y = summary.row(name, share, "target_helped"), summary.row(name, share, "target_unsafe")
            if x is not None and y is not None:
                places.append((x, y))
                first = name == "base" or share == clean
                colour = BEFORE if name == "base" else AFTER if first else MUTED
                _point(ax, x, y, colour=colour, face=PAPER if name == "base" else colour, size=5.5 if first else 3.5)
        ax.plot([x.mean for x, _ in places], [y.mean for _, y in places], color=LINE, linewidth=1.2, zorder=1)
        if places:
            at = (places[0][0].mean, places[0][1].mean)
            ax.annotate(name, at, (6, 5), textcoords="offset points", color=INK, fontsize=10.5, zorder=4)
    ticks = [0, 0.25, 0.5, 0.75, 1.0]
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(ticks, [f"{100 * tick:g} %" for tick in ticks])
    ax.set_xlim(-0.02, 1.06)
    ax.set_ylim(-0.03, 1.03)
    ax.grid(color=LINE, linewidth=0.6)
    label(ax, x="harmless prompts helped, mean over targets", y="attack success rate, mean over targets")
    told = (f"{line.name} ASR {line.cells[0][0]}, helped {line.cells[3][0]}" for line in lines(summary, clean))
    return to_svg(drawn, name="methods", description=f"Attack success rate against help: {'; '.join(told)}")


def _point(ax: Any, x: MethodRow, y: MethodRow, *, colour: str, face: str, size: float) -> None:
    """A mean with its intervals both ways."""
    bars = {
        name: None if row.low is None or row.high is None else [[row.mean - row.low], [row.high - row.mean]]
        for name, row in (("xerr", x), ("yerr", y))
    }
    style = {"color": colour, "markerfacecolor": face, "markersize": size, "elinewidth": 0.7}
    ax.errorbar(x.mean, y.mean, **bars, **style, fmt="o", zorder=3)


def render_methods(summary: MethodsSummary) -> str:
    """The page: one table, one picture, what swapped answers did, the settings."""
    environment = Environment(
        loader=FileSystemLoader(_ROOM),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["iso"] = iso
    shares = summary.shares
    return environment.get_template(
        "methods.html.jinja"
    ).render(
        summary=summary,
        style=Markup((_ROOM / "page.css").read_text(encoding="utf-8")),  # noqa: S704 - a file of this room
        columns=COLUMNS,
        lines=lines(summary, shares[0]),
        picture=picture(summary),
        flipped=[(share, lines(summary, share, FLIPPED_COLUMNS)) for share in shares[1:]],
        flipped_columns=FLIPPED_COLUMNS,
        settings=summary.config["compare"],
    )


def write_methods(summary: MethodsSummary, store: ArtifactStore, folder: str) -> None:
    """Writes the page, then `methods.json`, each whole or not at all.

    Raises:
        BadInputError: the disk is full or the folder cannot be written.
    """
    store.write_text(posixpath.join(folder, PAGE), render_methods(summary))
    store.write_text(posixpath.join(folder, SUMMARY), summary.model_dump_json(indent=1) + "\n")
