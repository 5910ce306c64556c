"""Training methods side by side: one table and one picture, as a page, as markdown, on the console."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from pydantic import AwareDatetime
from rich.box import SIMPLE_HEAD
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
PANELS = (_BY_FIGURE["target_unsafe"], _BY_FIGURE["target_helped"], _BY_FIGURE["dominant_drift"])
# The same in the words of a console of 80 columns.
_SHORT = ("ASR", "worst ASR", "refused", "helped", "broken", "English refused", "English helped", "drift", "s", "MiB")
_LEGEND = (
    "ASR: harmful requests answered; refused: harmful, helped: harmless requests in the target languages; "
    "broken: answers to either that are neither; drift: how far English hidden states moved."
)


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
    def untuned(self) -> list[str]:
        """The methods that trained with the settings of another one."""
        own = self.config["training"]["method"]
        return [name for name, changes in self.config["compare"]["methods"].items() if not changes and name != own]

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
    if row.low is None or row.high is None:
        return told, ""
    low, high = _told(row.low, column), _told(row.high, column)
    return told, "" if low == high else f"{low.removesuffix(' %')} to {high}"


def _told(value: float, column: Column) -> str:
    return {"share": f"{100 * value:.1f} %", "number": f"{value:.3f}", "whole": f"{value:.0f}"}[column.form]


def methods_table(summary: MethodsSummary) -> Table:
    """The console's table: means alone, the share of swapped answers where there are several."""
    caption = f"{_LEGEND} {untuned_note(summary)}".strip()
    table = Table(
        title="Means over seeds; shares in %",
        caption=caption,
        box=SIMPLE_HEAD,
        padding=0,
        show_edge=False,
        caption_justify="left",
    )
    several = len(summary.shares) > 1
    for name in ("method", *(["swapped"] if several else []), *_SHORT):
        table.add_column(name, justify="left" if name == "method" else "right")
    for share in summary.shares:
        for line in lines(summary, share):
            if line.name != "base" or share == summary.shares[0]:
                told = [f"{100 * share:g}"] if several else []
                table.add_row(line.name, *told, *(mean.removesuffix(" %") for mean, _ in line.cells))
    return table


def untuned_note(summary: MethodsSummary) -> str:
    """Which methods a reader must not judge by these figures, if any."""
    if not summary.untuned:
        return ""
    own = summary.config["training"]["method"]
    return (
        f"Not tuned: {', '.join(summary.untuned)} trained with this profile's settings for {own}; "
        "compare.methods has room for their own."
    )


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
    """A row for each method: attacks answered, help and drift; small, with swapped answers."""
    names = summary.names
    drawn, axes = figure(40 + 27 * len(names), columns=len(PANELS))
    for ax, panel in zip(axes, PANELS, strict=True):
        for place, name in enumerate(names):
            shares = summary.shares[:1] if name == "base" else summary.shares
            rows = [row for share in reversed(shares) if (row := summary.row(name, share, panel.figure)) is not None]
            ax.plot([row.mean for row in rows], [place] * len(rows), color=LINE, linewidth=1.2, zorder=1)
            for row in rows:
                _point(ax, row, place, clean=row.flipped == shares[0])
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_yticks(range(len(names)), names if ax is axes[0] else [""] * len(names), color=INK)
        ax.set_xlim(left=0)
        if panel.form == "share":
            ax.set_xlim(right=1.03)
            ax.set_xticks([0, 0.5, 1.0], ["0 %", "50 %", "100 %"])
        else:
            ax.locator_params(axis="x", nbins=3)
        ax.grid(color=LINE, linewidth=0.6)
        label(ax, y=panel.name)
    told = (
        f"{line.name} {', '.join(cell[0] for cell in line.cells)}" for line in lines(summary, summary.shares[0], PANELS)
    )
    what = ", ".join(panel.name for panel in PANELS)
    return to_svg(drawn, name="methods", description=f"{what} of each method: {'; '.join(told)}")


def _point(ax: Any, row: MethodRow, place: int, *, clean: bool) -> None:
    """A mean with its interval."""
    base = row.method == "base"
    colour = BEFORE if base else AFTER if clean else MUTED
    bar = None if row.low is None or row.high is None else [[row.mean - row.low], [row.high - row.mean]]
    style = {"color": colour, "markerfacecolor": PAPER if base else colour, "markersize": 6 if clean else 3.5}
    ax.errorbar(row.mean, place, xerr=bar, **style, elinewidth=0.8, fmt="o", zorder=3 if clean else 2, clip_on=False)


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
        untuned=untuned_note(summary),
    )


def write_methods(summary: MethodsSummary, store: ArtifactStore, folder: str) -> None:
    """Writes the page, then `methods.json`, each whole or not at all.

    Raises:
        BadInputError: the disk is full or the folder cannot be written.
    """
    store.write_text(posixpath.join(folder, PAGE), render_methods(summary))
    store.write_text(posixpath.join(folder, SUMMARY), summary.model_dump_json(indent=1) + "\n")
