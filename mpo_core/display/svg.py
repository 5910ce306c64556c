"""Draws matplotlib figures as SVG in the fonts and colours of the page, light or dark.

Colours are drawn as placeholders and become CSS variables, so one chart serves both schemes.
Text stays text. Equal figures give equal bytes.
"""

from __future__ import annotations

import io
import math
import re
import threading
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED, LINE, BEFORE, AFTER, PAPER = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
_VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", BEFORE: "before", AFTER: "after", PAPER: "card"}

# Points of the drawing; the page scales it to the column, in which a point is about a CSS pixel.
WIDTH = 460
_FONT_SIZE = 12.5

_LONGEST_NAME = 24
_LARGEST = 1e100  # far above it, differences overflow in matplotlib

# rcParams are global to the process; flows render in threads.
_LOCK = threading.Lock()


def figure(height: int, *, columns: int = 1, width: int = WIDTH) -> tuple[Figure, list[Any]]:
    """Returns an empty figure and its axes, without frame and ticks; sizes in points."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width / 72, height / 72), layout="constrained")
    FigureCanvasAgg(drawn)  # no pyplot, no global state, no display
    drawn.patch.set_visible(False)
    axes = drawn.subplots(1, columns, squeeze=False)[0].tolist()
    for ax in axes:
        ax.patch.set_visible(False)
        for side in ("top", "right", "left"):
            ax.spines[side].set_visible(False)
        ax.spines["bottom"].set_color(LINE)
        ax.tick_params(length=0, colors=MUTED, labelsize=_FONT_SIZE)
        ax.set_axisbelow(True)
    return drawn, axes


def label(ax: Any, *, x: str = "", y: str = "") -> None:
    """Names the axes; the vertical axis is named above it, in horizontal text."""
    ax.set_xlabel(x, color=MUTED, fontsize=_FONT_SIZE, loc="right")
    if y:
        ax.set_title(y, color=MUTED, fontsize=_FONT_SIZE, loc="left", pad=10)


def shortened(name: str) -> str:
    """Shortens a name that is too long for the margin of a chart."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def drawable(value: float) -> bool:
    """Says whether an axis can show a value."""
    return math.isfinite(value) and abs(value) < _LARGEST


def to_svg(drawn: Figure, *, name: str, description: str) -> Markup:
    """Returns the figure as inline SVG.

    `name` is one that no other chart of the page has: ids start with it. `description` is for those who do not see it.
    """
    import matplotlib as mpl

    buffer = io.StringIO()
    settings: Any = {"svg.hashsalt": name, "svg.fonttype": "none", "text.parse_math": False}
    no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with _LOCK, mpl.rc_context(settings):
        drawn.savefig(buffer, format="svg", metadata=no_metadata)
    return Markup(_embed(buffer.getvalue(), name, description))  # noqa: S704 - drawn here; texts escaped by matplotlib


def _embed(svg: str, name: str, description: str) -> str:
    """Strips prolog, global style and unused ids from an SVG, and makes its other ids unique on the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    view_box = re.search(r'viewBox="[^"]+"', svg)
    head = f'<svg class="chart" {view_box[0] if view_box else ""} role="img" aria-label="{escape(description)}">'
    svg = re.sub(r"^<svg[^>]*>", lambda _: head, svg)
    svg = svg.replace("xlink:href", "href")
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda match: f' id="{name}-{match[1]}"' if match[1] in used else "", svg)
    svg = re.sub(r'(href="#|url\(#)([^")]+)', lambda match: f"{match[1]}{name}-{match[2]}", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    # matplotlib names a font in every text; the page's style sheet sets it.
    svg = re.sub(r"font: (?:\w+ )?([\d.]+px) [^;\"]+", r"font-size: \1", svg)
    return shortened_svg(re.sub(r"\n\s*", "\n", svg).strip())


def shortened_svg(svg: str) -> str:
    """Cuts coordinates to hundredths of a point, and gives points that look alike their style together."""
    svg = re.sub(r' (?:d|x|y)="[^"]*"', lambda match: re.sub(r"(\.\d\d)\d+", r"\1", match[0]), svg)
    return re.sub(r"<g( clip-path=[^>]*)>\n((?:<use [^>]*/>\n)+)</g>", _alike, svg)


def _alike(group: re.Match[str]) -> str:
    points, styles = group[2], set(re.findall(r' style="[^"]*"', group[2]))
    if len(styles) != 1:
        return group[0]
    style = styles.pop()
    return f"<g{group[1]}{style}>\n{points.replace(style, '')}</g>"
