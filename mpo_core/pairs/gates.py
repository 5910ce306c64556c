"""What every pair must pass, and the quarantine rows of those that do not."""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import Any

Row = dict[str, Any]


def similarity(a: str, b: str, *, above: float) -> float:
    """Returns the share of characters in common runs (`difflib`), 1 for equal texts; exact only above `above`.

    The exact ratio is quadratic; its upper bounds are linear and settle nearly every pair.
    """
    a, b = " ".join(a.split()), " ".join(b.split())
    if a == b:
        return 1.0
    # autojunk would call every common letter of a text beyond 200 characters junk.
    matcher = SequenceMatcher(None, a, b, autojunk=False)
    bound = min(matcher.real_quick_ratio(), matcher.quick_ratio())
    return matcher.ratio() if bound > above else bound


def alike(chosen: str, rejected: str, most: float) -> str | None:
    """Says by how much two answers are too alike for a pair, or returns None; equal answers always are."""
    share = similarity(chosen, rejected, above=most)
    if share > most or " ".join(chosen.split()) == " ".join(rejected.split()):
        return f"similarity {share:.3f}, allowed {most:.3f}"
    return None


def quarantine_row(row_id: str, language: str | None, reason: str, detail: str) -> Row:
    """Returns a row of QUARANTINE."""
    return {"row_id": row_id, "language": language, "reason": reason, "detail": detail}
