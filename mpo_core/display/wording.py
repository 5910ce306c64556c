"""Spells numbers and names alike on the page, the console and the markdown note."""

import math
import re

from mpo_core.contract.metric import TARGETS, Metric
from mpo_core.languages.known import LANGUAGES


def language_name(code: str) -> str:
    """Returns `Swahili` for `sw`, `Targets, pooled` for all target languages together, and an unknown code as it is."""
    if code == TARGETS:
        return "Targets, pooled"
    return LANGUAGES[code].name if code in LANGUAGES else code


def percent(share: float | None) -> str:
    """Formats a share as `17.8 %`, and None as a dash."""
    return "–" if share is None else f"{100 * share:.1f} %"


def points(difference: float | None) -> str:
    """Formats a difference of shares in percentage points, such as `−48.2`; `0.0` has no sign."""
    return "–" if difference is None else signed(100 * difference, 1)


def signed(value: float, digits: int) -> str:
    """Formats a number with its sign, minus as `−`; what rounds to zero has no sign."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0.0 else text.replace("-", "−")


def number(value: float | None, digits: int) -> str:
    """Formats a number, and None as a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


def figure(metric: Metric, value: float | None) -> str:
    """Formats a figure in the unit of its metric, and None as a dash."""
    if value is None or metric.unit == "share":
        return percent(value)
    return signed(value, metric.digits) if metric.signed else number(value, metric.digits)


def difference(metric: Metric, value: float | None) -> str:
    """Formats the change of a metric: in percentage points if it is a share, otherwise in the metric's unit."""
    return points(value) if value is None or metric.unit == "share" else signed(value, metric.digits)


def p_value(p: float | None) -> str:
    """Formats a p-value as `< 0.001`, `0.031` or `0.48`, and None as a dash."""
    if p is None:
        return "–"
    smallest = 0.001
    if p < smallest:
        return "< 0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"  # noqa: PLR2004 - a digit less where it says no more


def duration(seconds: float) -> str:
    """Formats seconds as `0.4 s`, `48 s`, `5 min 12 s` or `2 h 05 min`."""
    if not math.isfinite(seconds):
        return "–"
    minute, hour = 60, 3600
    if seconds < 10:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < minute:
        return f"{whole} s"
    if whole < hour:
        return f"{whole // minute} min {whole % minute:02d} s"
    return f"{whole // hour} h {whole % hour // minute:02d} min"


def unbroken(text: str) -> str:
    """Puts a non-breaking space between a number and its unit."""
    return re.sub(r"(?<=\d) (?=%|points|s\b|min\b)", "\u00a0", text)


def listed(names: list[str]) -> str:
    """Joins names as `Chinese, Korean and Swahili`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""
