"""The gates of the pairs stage: each rejects what it names, with its count, and nothing of what ships."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from mpo_core.pairs import source_pairs, target_pairs
from mpo_core.pairs.gates import Texts, answers_fault, repeated, similarity
from mpo_core.settings import PairSettings

EN = "Please ask your neighbour whether you may borrow the bicycle for an afternoon."
SW = "Tafadhali muulize jirani yako kama unaweza kuiazima baiskeli yake kwa mchana mmoja."
ZH = "请先问问邻居，看看他愿不愿意把自行车借给你用一个下午。"
SHIPPED = Path(__file__).resolve().parents[2] / "data" / "safety"


def fault(chosen: str, rejected: str, language: str = "en", source: Texts | None = None, **settings: Any) -> str | None:
    result = answers_fault(
        Texts("?", chosen, rejected), language, PairSettings.model_validate(settings), source=source, dominant="en"
    )
    return None if result is None else result.reason


def test_similarity_is_chrf() -> None:
    assert similarity(" a  b ", "a b") == 1.0
    assert similarity(EN, SW) < 0.3
    assert similarity(EN, EN + " Thanks.") == similarity(EN + " Thanks.", EN) > 0.9


def test_too_alike() -> None:
    assert fault(EN, EN[:-1] + "!") == "too_alike"
    assert fault(EN, EN[:-1] + "!", max_similarity=1.0) is None
    assert fault(EN, f" {EN}", max_similarity=1.0) == "too_alike"


@pytest.mark.parametrize(
    ("chosen", "rejected", "language", "expected"),
    [(SW, EN, "sw", "wrong_language"), (EN, ZH, "zh", "wrong_language"), (ZH, "当然可以。", "zh", None)],
)
def test_wrong_language(chosen: str, rejected: str, language: str, expected: str | None) -> None:
    assert fault(chosen, rejected, language) == expected
    assert fault(chosen, rejected, language, check_language=False) is None


def test_length_of_one_answer_against_the_other() -> None:
    assert fault(EN, EN[:10]) is None
    assert fault(EN, EN[:10], max_length_factor=7.0) == "length_outlier"
    assert fault(EN[:10], EN, max_length_factor=7.0) == "length_outlier"
    assert fault(EN, EN[:10], max_length_factor=8.0) is None


def test_length_against_the_source_counts_what_is_usual_for_the_languages() -> None:
    source = Texts("?", EN, EN + EN)
    # A third of the characters is usual for Chinese.
    assert fault(ZH, ZH + ZH + "好", "zh", source, max_source_length_factor=1.5) is None
    assert fault(ZH * 3, ZH + ZH, "zh", source, max_source_length_factor=1.5) == "length_outlier"
    assert fault(ZH, ZH[:8], "zh", source, max_source_length_factor=1.5) == "length_outlier"


def test_repeated_pairs_are_found_by_prompt_and_answers_together() -> None:
    pairs = {
        "first": Texts("May I take it?", EN, SW),
        "other prompt": Texts("Is it right to leave a bicycle in the rain for a week?", EN, SW),
        "again": Texts(" may I  take it?", EN, SW),
        "other answer": Texts("May I take it?", EN, ZH),
        "nearly": Texts("May I take it!", EN, SW),
    }
    assert set(repeated(pairs.items(), 0.9)) == {"again", "nearly"}
    assert set(repeated(pairs.items(), 0.99)) == {"again"}
    assert "similarity to first 1.000" in repeated(pairs.items(), 0.99)["again"].detail
    assert repeated(pairs.items(), 1.0) == {}


def test_each_gate_counts_in_the_quarantine_of_both_sides(tables: Any) -> None:
    prompts = tables.prompts(("a", "harmful"), ("b", "harmful"), ("c", "harmful"))
    answers = tables.references("en", ("a", SW, EN), ("b", EN, "Yes, and here is how."), ("c", EN, "Sure, just go on."))
    pairs, rejected = source_pairs(
        prompts, *tables.answers("en"), PairSettings(max_overlap=0.5), dominant="en", reference_answers=answers
    )
    assert [(row["row_id"], row["reason"]) for row in rejected.to_pylist()] == [
        ("a", "wrong_language"),
        ("c", "repeated_pair"),
    ]
    assert pairs["prompt_id"].to_pylist() == ["b"]
    mirrors, rejected = target_pairs(
        tables.sources(("a", "harmful"), ("b", "harmful"), ("c", "harmful")),
        tables.translations("sw", *((key, "prompt", "Je, naweza?") for key in "abc")),
        PairSettings(max_length_factor=20.0),
        dominant="en",
        language="sw",
        reference_answers=tables.references("sw", ("a", EN, SW), ("b", SW, "Ndio"), ("c", SW, "Ndio, chukua tu.")),
    )
    assert [(row["row_id"], row["reason"]) for row in rejected.to_pylist()] == [
        ("a/sw", "wrong_language"),
        ("b/sw", "length_outlier"),
    ]
    assert mirrors["pair_id"].to_pylist() == ["c/sw"]


def shipped(language: str) -> dict[str, Texts]:
    def rows(name: str) -> list[dict[str, str]]:
        with (SHIPPED / name).open(encoding="utf-8") as file:
            return list(csv.DictReader(file))

    translated = {row["en"]: row[language] for row in rows("translations.csv")}
    prompts = {row["id"]: translated[row["text"]] for row in rows("prompts.csv")}
    answers = [row for row in rows("answers.csv") if row["language"] == language]
    return {row["id"]: Texts(prompts[row["id"]], row["chosen"], row["rejected"]) for row in answers}


@pytest.mark.parametrize("language", ["en", "zh", "ja", "ko", "ar", "bn", "sw"])
def test_no_shipped_reference_answer_is_rejected(language: str) -> None:
    texts = shipped(language)
    assert len(texts) == 240
    settings = PairSettings()
    assert [answers_fault(text, language, settings) for text in texts.values()] == [None] * 240
    assert repeated(texts.items(), settings.max_overlap) == {}
