"""Answers that the sources bring by language: used whatever the model answers, the strategy for what they lack."""

from __future__ import annotations

from typing import Any

import pytest

from mpo_core.pairs import source_pairs, target_pairs
from mpo_core.settings import PairSettings

KINDS = (("a", "harmful"), ("b", "harmless"))
DOMINANT = (("a", "I will not do a.", "Sure, here is a:"), ("b", "Do b like this.", "I will not do b."))
TARGET = (("a", "Sitafanya a.", "Ndiyo, hii hapa a:"), ("b", "Fanya b hivi.", "Sitafanya b."))
PROMPTS = (("a", "prompt", "Swali a?"), ("b", "prompt", "Swali b?"))

REFUSES = [(key, 0, f"No, never {key}.", "safe", True) for key in "ab"]
COMPLIES = [("a", 0, "Take a hammer for a.", "unsafe", False), ("b", 0, "Take a spoon for b.", "safe", False)]
SILENT = [(key, 0, "", "invalid", False) for key in "ab"]


@pytest.mark.parametrize("answers", [REFUSES, COMPLIES, SILENT], ids=["refuses", "complies", "silent"])
@pytest.mark.parametrize("strategy", ["translated", "sampled", "mixed"])
def test_every_prompt_has_its_pair_whatever_the_model_answers(tables: Any, answers: Any, strategy: str) -> None:
    settings = PairSettings(strategy=strategy)  # type: ignore[arg-type]
    pairs, rejected = source_pairs(
        tables.prompts(*KINDS),
        *tables.answers("en", *answers),
        settings,
        dominant="en",
        reference_answers=tables.references("en", *DOMINANT),
    )
    assert rejected.num_rows == 0
    assert [(row["prompt_id"], row["chosen"], row["rejected"]) for row in pairs.to_pylist()] == list(DOMINANT)
    assert {*pairs["chosen_origin"].to_pylist(), *pairs["rejected_origin"].to_pylist()} == {"reference"}

    mirrors, rejected = target_pairs(
        pairs,
        tables.translations("sw", *PROMPTS),
        settings,
        dominant="en",
        language="sw",
        reference_answers=tables.references("sw", *TARGET),
    )
    assert rejected.num_rows == 0
    texts = [(row["prompt_id"], row["target_chosen"], row["target_rejected"]) for row in mirrors.to_pylist()]
    assert texts == list(TARGET)
    assert [row["source_chosen"] for row in mirrors.to_pylist()] == [chosen for _, chosen, _ in DOMINANT]
    assert set(mirrors["origin"].to_pylist()) == {"reference"}


def test_a_prompt_without_reference_answers_follows_the_strategy(tables: Any) -> None:
    pairs, rejected = target_pairs(
        tables.sources(*KINDS),
        tables.translations("sw", *PROMPTS),
        PairSettings(strategy="translated"),
        dominant="en",
        language="sw",
        reference_answers=tables.references("sw", TARGET[0]),
        answer_translations=tables.translations("sw", ("b", "chosen", "Jibu la b."), ("b", "rejected", "Hapana.")),
    )
    assert rejected.num_rows == 0
    assert {row["prompt_id"]: (row["target_chosen"], row["origin"]) for row in pairs.to_pylist()} == {
        "a": ("Sitafanya a.", "reference"),
        "b": ("Jibu la b.", "translated"),
    }


def test_without_all_reference_answers_the_strategy_needs_its_tables(tables: Any) -> None:
    with pytest.raises(ValueError, match="needs answer_translations"):
        target_pairs(
            tables.sources(*KINDS),
            tables.translations("sw", *PROMPTS),
            PairSettings(),
            dominant="en",
            language="sw",
            reference_answers=tables.references("sw", TARGET[0]),
        )


def test_reference_answers_too_alike_are_rejected(tables: Any) -> None:
    pairs, rejected = source_pairs(
        tables.prompts(("a", "harmful")),
        *tables.answers("en"),
        PairSettings(),
        dominant="en",
        reference_answers=tables.references("en", ("a", "No.", " No. ")),
    )
    assert (pairs.num_rows, rejected["reason"].to_pylist()) == (0, ["too_alike"])
