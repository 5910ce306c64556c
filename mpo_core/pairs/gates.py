"""Tests pairs by gates (too alike, wrong language, odd length, repetition), and makes the quarantine rows."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from mpo_core.languages.identify import language_fault
from mpo_core.languages.known import relative_length
from mpo_core.settings import PairSettings

Row = dict[str, Any]
_GRAM = 5
"""Length in characters of the pieces by which whole pairs are compared."""


class Fault(NamedTuple):
    """Why a pair is rejected: a short stable reason, and numbers or names that explain it."""

    reason: str
    detail: str


class Texts(NamedTuple):
    """The three texts of a pair in one language."""

    prompt: str
    chosen: str
    rejected: str


def similarity(a: str, b: str) -> float:
    """Returns the chrF of two texts, 0 to 1 (1: equal): the higher one of both directions."""
    from sacrebleu import sentence_chrf

    a, b = " ".join(a.split()), " ".join(b.split())
    return 1.0 if a == b else max(float(sentence_chrf(x, [y]).score) for x, y in ((a, b), (b, a))) / 100


def alike(chosen: str, rejected: str, limit: float) -> str | None:
    """Returns the similarity and its limit as a text if two answers are too alike for a pair, else None.

    Equal answers are too alike whatever the limit (chrF, 0 to 1) is.
    """
    share = similarity(chosen, rejected)
    if share > limit or " ".join(chosen.split()) == " ".join(rejected.split()):
        return f"chrF {share:.3f}, allowed {limit:.3f}"
    return None


def answers_fault(
    texts: Texts, language: str, settings: PairSettings, *, source: Texts | None = None, dominant: str = ""
) -> Fault | None:
    """Returns the first gate that the two answers fail (`too_alike`, `wrong_language`, `length_outlier`), or None.

    Args:
        texts: the pair.
        language: code of its language.
        settings: the gates and their bounds.
        source: for a target pair, the dominant pair with the same prompt and answers.
        dominant: code of the language of `source`.
    """
    if detail := alike(texts.chosen, texts.rejected, settings.max_similarity):
        return Fault("too_alike", detail)
    sides = {"chosen": texts.chosen, "rejected": texts.rejected}
    if settings.check_language:
        for name, text in sides.items():
            if fault := language_fault(text, language):
                return Fault("wrong_language", f"{name}: {fault}")
    lengths = [("chosen and rejected", len(texts.chosen) / len(texts.rejected), settings.max_length_factor)]
    if source is not None:
        lengths += [
            (f"{name} and its source", relative_length(getattr(source, name), text, dominant, language), limit)
            for name, text in sides.items()
            for limit in [settings.max_source_length_factor]
        ]
    for name, factor, limit in lengths:
        if limit is not None and not 1 / limit <= factor <= limit:
            return Fault("length_outlier", f"{name}: factor {factor:.2f}, allowed 1/{limit:g} to {limit:g}")
    return None


def repeated(pairs: Iterable[tuple[str, Texts]], limit: float) -> dict[str, Fault]:
    """Finds pairs whose prompt and answers together repeat those of an earlier one (`repeated_pair`).

    Their similarity is the share of their pieces of five characters that both have; a piece that occurs several times
    counts once. Equal prompts with other answers, and equal answers to other prompts, are less alike. A pair above
    `limit` (0 to 1) is a repetition; 1 turns the check off. The first of several similar pairs has no fault.
    """
    faults: dict[str, Fault] = {}
    earlier: list[tuple[str, set[str]]] = []
    for key, texts in pairs if limit < 1.0 else ():
        plain = "\n".join(" ".join(text.casefold().split()) for text in texts)
        pieces = {plain[i : i + _GRAM] for i in range(max(1, len(plain) - _GRAM + 1))}
        for other, theirs in earlier:
            fewer, more = sorted((len(pieces), len(theirs)))
            # The sizes alone decide most comparisons.
            if fewer > limit * more and (share := _share(pieces, theirs)) > limit:
                faults[key] = Fault("repeated_pair", f"similarity to {other} {share:.3f}, allowed {limit:.3f}")
                break
        else:
            earlier.append((key, pieces))
    return faults


def _share(a: set[str], b: set[str]) -> float:
    both = len(a & b)
    return both / (len(a) + len(b) - both)


def quarantine_row(row_id: str, language: str | None, reason: str, detail: str) -> Row:
    """Returns a row of QUARANTINE."""
    return {"row_id": row_id, "language": language, "reason": reason, "detail": detail}
