"""Texts through the engines; what none of them can do goes to the quarantine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from mpo_core.tables import QUARANTINE, TRANSLATIONS
from mpo_core.translation.engines import Engine
from mpo_core.translation.memory import normalised


class Text(NamedTuple):
    """A text to translate; `role` is prompt, chosen or rejected."""

    prompt_id: str
    role: str
    text: str


def prompt_texts(prompts: pa.Table) -> list[Text]:
    """The requests of a PROMPTS table, in order."""
    return [Text(row["prompt_id"], "prompt", row["text"]) for row in prompts.select(["prompt_id", "text"]).to_pylist()]


def answer_texts(source_pairs: pa.Table) -> list[Text]:
    """The answers of a SOURCE_PAIRS table: chosen and rejected of each pair, in order."""
    rows = source_pairs.select(["prompt_id", "chosen", "rejected"]).to_pylist()
    return [Text(row["prompt_id"], role, row[role]) for row in rows for role in ("chosen", "rejected")]


def translate_texts(
    texts: Sequence[Text], engines: Sequence[Engine], *, source: str, target: str
) -> tuple[pa.Table, pa.Table]:
    """Asks the engines in order; the first translation that passes the gates wins.

    A text that no engine can translate is set aside: `no_translation` (no engine knows it),
    `empty_translation`, or `echo` (the source came back unchanged).

    Args:
        texts: what to translate; (prompt_id, role) is unique.
        engines: asked in this order.
        source: language code of the texts.
        target: language code wanted.

    Returns:
        TRANSLATIONS in the order of `texts`, and QUARANTINE.

    Raises:
        BadInputError: an engine cannot work with these languages.
    """
    done: dict[int, tuple[str, str]] = {}
    reasons = dict.fromkeys(range(len(texts)), "no_translation")
    for engine in engines:
        open_ = [number for number in reasons if number not in done]
        answers = engine.translate([texts[number].text for number in open_], source, target) if open_ else []
        for number, answer in zip(open_, answers, strict=True):
            if answer is None:
                continue
            fault = _fault(texts[number].text, answer)
            if fault is None:
                done[number] = (answer, engine.name)
            else:
                reasons[number] = fault
    rows = [_row(texts[number], target, *done[number]) for number in reasons if number in done]
    asked = ", ".join(engine.name for engine in engines)
    aside = [
        _set_aside(texts[number], target, reason, f"engines asked: {asked}")
        for number, reason in reasons.items()
        if number not in done
    ]
    return TRANSLATIONS.build(rows), QUARANTINE.build(aside)


def _fault(text: str, translation: str) -> str | None:
    if not translation.strip():
        return "empty_translation"
    # A text without letters (a number, a formula) is rightly the same in every language.
    same = normalised(text).casefold() == normalised(translation).casefold()
    return "echo" if same and any(map(str.isalpha, text)) else None


def _row(text: Text, target: str, translation: str, engine: str) -> dict[str, Any]:
    return {
        "prompt_id": text.prompt_id,
        "role": text.role,
        "language": target,
        "text": translation,
        "engine": engine,
    }


def _set_aside(text: Text, target: str, reason: str, detail: str) -> dict[str, Any]:
    return {"row_id": f"{text.prompt_id}/{text.role}", "language": target, "reason": reason, "detail": detail}
