"""Checks pairs before they train a model, and rejects those that cannot be used."""

from collections.abc import Sequence

import pyarrow as pa

from mpo_core.contract.tables import PAIRS, QUARANTINE
from mpo_core.pairs.gates import Row, quarantine_row
from mpo_core.reply import has_template

_PROMPTS = ("source_prompt", "target_prompt")
_ANSWERS = ("source_chosen", "source_rejected", "target_chosen", "target_rejected")


def empty_fault(row: Row) -> tuple[str, str] | None:
    """Returns `empty_prompt` or `empty_response` with the empty columns; None where no text is empty.

    A mean over the tokens of an empty answer is 0/0: one such row would make the whole loss NaN.
    """
    for reason, columns in (("empty_prompt", _PROMPTS), ("empty_response", _ANSWERS)):
        empty = [name for name in columns if not row[name].strip()]
        if empty:
            return reason, ", ".join(empty)
    return None


def pair_fault(row: Row) -> tuple[str, str] | None:
    """Names what makes a pair useless for training: an empty text, equal answers, or a chat template.

    Equal answers have a reward gap of 0 with every model, so there is nothing to learn from them. Marks of turns in an
    answer would be trained as plain text, beside those that the model's own template puts around it.
    """
    equal = [side for side in ("source", "target") if _plain(row[f"{side}_chosen"]) == _plain(row[f"{side}_rejected"])]
    fault = empty_fault(row) or (("equal_answers", ", ".join(equal)) if equal else None)
    marked = template_marks(row) if fault is None else []
    return ("template_marks", f"{', '.join(marked)}; give the texts without their chat template") if marked else fault


def template_marks(row: Row) -> list[str]:
    """Returns the sides (source, target) to whose answers a chat template was applied."""
    answers = ("chosen", "rejected")
    return [
        side
        for side in ("source", "target")
        if has_template(row[f"{side}_prompt"], [row[f"{side}_{answer}"] for answer in answers])
    ]


def _plain(text: str) -> str:
    return " ".join(text.split())


def of_languages(pairs: pa.Table, dominant: str, targets: Sequence[str]) -> tuple[pa.Table, pa.Table]:
    """Rejects pairs that are not between the dominant language and one of the targets.

    Args:
        pairs: table PAIRS, of any origin.
        dominant: code of the language of the source texts.
        targets: codes of the languages of the target texts.

    Returns:
        The other PAIRS, in order, and QUARANTINE (`other_language`).
    """
    rows = PAIRS.check(pairs).select(["pair_id", "source_language", "language"]).to_pylist()
    usable = [row["source_language"] == dominant and row["language"] in targets for row in rows]
    rejected = [
        quarantine_row(
            row["pair_id"], row["language"], "other_language", f"from {row['source_language']} into {row['language']}"
        )
        for row, is_usable in zip(rows, usable, strict=True)
        if not is_usable
    ]
    return pairs.filter(pa.array(usable, pa.bool_())), QUARANTINE.build(rejected)
