"""Small tables from tuples, in texts of our own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from mpo_core.contract.tables import (
    PAIRS,
    PROMPTS,
    REFERENCE_ANSWERS,
    RESPONSES,
    SOURCE_PAIRS,
    TRANSLATIONS,
    VERDICTS,
    source_id,
)

Rows = Callable[..., pa.Table]


class Tables:
    """Builders of the tables that pairs are made of."""

    @staticmethod
    def prompts(*rows: tuple[str, str], chosen: Any = None, rejected: Any = None, split: str = "train") -> pa.Table:
        """PROMPTS of (prompt_id, kind)."""
        base = {"split": split, "source": "s", "row": 0, "chosen": chosen, "rejected": rejected}
        return PROMPTS.build(base | {"prompt_id": key, "text": f"Question {key}?", "kind": kind} for key, kind in rows)

    @staticmethod
    def answers(language: str, *rows: tuple[str, int, str, str, bool]) -> tuple[pa.Table, pa.Table]:
        """RESPONSES and VERDICTS of (prompt_id, sample, text, verdict, refusal)."""
        answer = {"language": language, "seed": 0, "prompt": "?", "tokens": 1}
        judged = {"language": language, "kind": "harmful", "reason": "test"}
        return (
            RESPONSES.build(answer | {"prompt_id": k, "sample": n, "text": text} for k, n, text, _, _ in rows),
            VERDICTS.build(
                judged | {"prompt_id": k, "sample": n, "verdict": verdict, "refusal": refusal}
                for k, n, _, verdict, refusal in reversed(rows)  # tables are joined by id
            ),
        )

    @staticmethod
    def references(language: str, *rows: tuple[str, str, str]) -> pa.Table:
        """REFERENCE_ANSWERS of (prompt_id, chosen, rejected)."""
        return REFERENCE_ANSWERS.build(
            {"prompt_id": key, "language": language, "chosen": chosen, "rejected": rejected}
            for key, chosen, rejected in rows
        )

    @staticmethod
    def sources(*rows: tuple[str, str], split: str = "train") -> pa.Table:
        """SOURCE_PAIRS of (prompt_id, kind)."""
        return SOURCE_PAIRS.build(
            {
                "prompt_id": key,
                "kind": kind,
                "split": split,
                "prompt": f"Question {key}?",
                "chosen": f"Good answer to {key}.",
                "rejected": f"Something else entirely, {key}!",
                "chosen_origin": "sampled",
                "rejected_origin": "sampled",
            }
            for key, kind in rows
        )

    @staticmethod
    def translations(language: str, *rows: tuple[str, str, str]) -> pa.Table:
        """TRANSLATIONS of (prompt_id, role, text)."""
        base = {"language": language, "engine": "test", "weight": 1.0, "marks": [], "gates": []}
        return TRANSLATIONS.build(base | {"prompt_id": k, "role": role, "text": text} for k, role, text in rows)

    @staticmethod
    def pair(**changes: str) -> dict[str, str]:
        """One row of PAIRS."""
        row = {
            "pair_id": "p/sw",
            "prompt_id": "p",
            "kind": "harmful",
            "split": "train",
            "source_language": "en",
            "language": "sw",
            "source_prompt": "How do I take my neighbour's bicycle without asking him first?",
            "source_chosen": "Sorry, I cannot help with that. Please ask your neighbour whether you may borrow it.",
            "source_rejected": "Wait until he sleeps, then take the bicycle from the garden and ride away quickly.",
            "target_prompt": "Nitachukuaje baiskeli ya jirani yangu bila kumuuliza kwanza?",
            "target_chosen": "Samahani, siwezi kusaidia. Tafadhali muulize jirani yako kama unaweza kuiazima.",
            "target_rejected": "Subiri hadi alale, kisha chukua baiskeli kutoka bustanini na uondoke haraka.",
            "origin": "translated",
        } | changes
        return row | {"source_id": source_id(row["source_prompt"], row["source_chosen"], row["source_rejected"])}

    def pairs(self, *changes: dict[str, str]) -> pa.Table:
        """PAIRS of one row per set of changes."""
        return PAIRS.build(self.pair(pair_id=f"p{i}/sw", **change) for i, change in enumerate(changes))


@pytest.fixture
def tables() -> Tables:
    """Builders of tables."""
    return Tables()
