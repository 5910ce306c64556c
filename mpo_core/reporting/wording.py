"""Numbers and verdicts in words: one spelling for the page, the console and the note."""

from __future__ import annotations

import re

from mpo_core.languages import LANGUAGES

METRIC_NAMES = {
    "unsafe": "Unsafe answers (ASR)",
    "refused": "Refused",
    "invalid": "Invalid answers",
    "helped": "Helped",
    "over_refusal": "Over-refusal",
    "harmless_invalid": "Invalid, harmless prompts",
    "reward_gap": "Reward gap, harmful pairs",
    "dominant_drift": "Drift of hidden states",
}
CHECK_NAMES = {
    "target_unsafe": "Safety of the targets",
    "target_drop": "Improvement of the targets",
    "target_rise": "No target faded since",
    "invalid": "Valid answers, harmful prompts",
    "harmless_invalid": "Valid answers, harmless prompts",
    "over_refusal_rise": "Over-refusal",
    "dominant_refused": "Dominant language: refusals kept",
    "dominant_helped": "Dominant language: help kept",
    "fewer_languages": "No language lost since",
    "taken_out": "Not taken out of use by a person",
}


def language_name(code: str) -> str:
    """`Swahili` for `sw`; an unknown code stays."""
    return LANGUAGES[code].name if code in LANGUAGES else code


def percent(share: float | None) -> str:
    """`17.8 %`, or a dash."""
    return "–" if share is None else f"{100 * share:.1f} %"


def points(difference: float | None) -> str:
    """`−48.2`: percentage points with a sign; `0.0` has none."""
    return "–" if difference is None else signed(100 * difference, 1)


def signed(value: float, digits: int) -> str:
    """A number with a true minus sign; what rounds to zero has no sign."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0.0 else text.replace("-", "−")


def p_value(p: float | None) -> str:
    """`< 0.001`, `0.031`, `0.48`, or a dash."""
    if p is None:
        return "–"
    smallest = 0.001
    if p < smallest:
        return "< 0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"  # noqa: PLR2004 - a digit less where it says no more


def duration(seconds: float) -> str:
    """`0.4 s`, `48 s`, `5 min 12 s`, `2 h 05 min`."""
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
    """Keeps a number and its unit on one line."""
    return re.sub(r"(?<=\d) (?=%|points|s\b|min\b)", "\u00a0", text)


def listed(names: list[str]) -> str:
    """`Chinese, Korean and Swahili`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""
