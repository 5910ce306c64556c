"""Opens the templates of the pages, in which every text is escaped."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mpo_core.display.wording import duration, language_name, unbroken
from mpo_core.reporting.summary import iso

_ROOM = Path(__file__).parent


def environment() -> Environment:
    """Returns the Jinja environment of all templates in this folder."""
    templates = Environment(
        loader=FileSystemLoader(_ROOM),
        autoescape=True,  # for every name: text of models goes through here
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters |= {"iso": iso, "duration": duration, "language_name": language_name, "unbroken": unbroken}
    return templates


def style() -> Markup:
    """Returns the style sheet of the pages."""
    return Markup((_ROOM / "page.css").read_text(encoding="utf-8"))  # noqa: S704 - a file of this package
