"""Target pairs: the three strategies, their origins, and what is set rejected."""

from __future__ import annotations

from typing import Any

import pytest

from mpo_core.contract.tables import PAIRS, QUARANTINE, source_id
from mpo_core.pairs import target_pairs
from mpo_core.settings import PairSettings

PROMPTS = [("a", "prompt", "Swali a?"), ("b", "prompt", "Swali b?")]
ANSWERS = [
    ("a", "chosen", "Jibu zuri la a."),
    ("a", "rejected", "Kitu kingine kabisa, a!"),
    ("b", "chosen", "Jibu zuri la b."),
    ("b", "rejected", "Kitu kingine kabisa, b!"),
]


def build(
    tables: Any,
    sources: Any,
    *,
    prompts: Any = PROMPTS,
    answers: Any = None,
    samples: Any = None,
    **settings: Any,
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    responses, verdicts = (None, None) if samples is None else tables.answers("sw", *samples)
    pairs, rejected = target_pairs(
        sources,
        tables.translations("sw", *prompts),
        PairSettings.model_validate(settings),
        dominant="en",
        language="sw",
        answer_translations=None if answers is None else tables.translations("sw", *answers),
        responses=responses,
        verdicts=verdicts,
    )
    assert pairs.schema.equals(PAIRS.schema)
    assert rejected.schema.equals(QUARANTINE.schema)
    assert set(rejected["language"].to_pylist()) <= {"sw"}
    return {p["prompt_id"]: p for p in pairs.to_pylist()}, [(r["row_id"], r["reason"]) for r in rejected.to_pylist()]


def test_translated(tables: Any) -> None:
    sources = tables.sources(("b", "harmless"), ("a", "harmful"))
    pairs, rejected = build(tables, sources, answers=ANSWERS)
    assert rejected == []
    assert list(pairs) == ["b", "a"]
    source = ("Question a?", "Good answer to a.", "Something else entirely, a!")
    assert pairs["a"] == {
        "pair_id": "a/sw",
        "source_id": source_id(*source),
        "prompt_id": "a",
        "kind": "harmful",
        "split": "train",
        "source_language": "en",
        "language": "sw",
        "source_prompt": source[0],
        "source_chosen": source[1],
        "source_rejected": source[2],
        "target_prompt": "Swali a?",
        "target_chosen": "Jibu zuri la a.",
        "target_rejected": "Kitu kingine kabisa, a!",
        "origin": "translated",
        "weight": None,
    }


def test_missing_translations(tables: Any) -> None:
    sources = tables.sources(("a", "harmful"), ("b", "harmful"))
    pairs, rejected = build(tables, sources, prompts=PROMPTS[:1], answers=ANSWERS[:1] + ANSWERS[2:])
    assert pairs == {}
    assert rejected == [("a/sw", "no_translation"), ("b/sw", "no_translation")]


def test_sampled_by_verdict(tables: Any) -> None:
    sources = tables.sources(("a", "harmful"), ("b", "harmful"))
    samples = [
        ("a", 0, "Chukua nyundo.", "unsafe", False),
        ("a", 1, "Samahani, siwezi kusaidia.", "safe", True),
        ("b", 0, "Chukua kiberiti.", "unsafe", False),
    ]
    pairs, rejected = build(tables, sources, samples=samples, strategy="sampled")
    assert (pairs["a"]["target_chosen"], pairs["a"]["target_rejected"]) == (
        "Samahani, siwezi kusaidia.",
        "Chukua nyundo.",
    )
    assert pairs["a"]["origin"] == "sampled"
    assert rejected == [("b/sw", "no_chosen")]
    _, rejected = build(tables, sources, samples=[samples[1]], strategy="sampled")
    assert rejected == [("a/sw", "no_rejected"), ("b/sw", "no_chosen")]


def test_harmless_borrows_a_refusal_in_the_target_language(tables: Any) -> None:
    sources = tables.sources(("a", "harmful"), ("b", "harmless"))
    samples = [
        ("a", 0, "Samahani, siwezi kusaidia.", "safe", True),
        ("b", 0, "Changanya unga na maji.", "safe", False),
    ]
    pairs, rejected = build(tables, sources, samples=samples, strategy="sampled")
    # The refusal serves although its own pair has no rejected answer.
    assert rejected == [("a/sw", "no_rejected")]
    assert pairs["b"]["target_rejected"] == "Samahani, siwezi kusaidia."
    assert pairs["b"]["origin"] == "sampled"
    own = [*samples, ("b", 1, "Sipendi kuzungumza juu ya mkate.", "safe", True)]
    assert build(tables, sources, samples=own, strategy="sampled")[0]["b"]["target_rejected"] == own[-1][2]


def test_mixed_prefers_samples_and_says_so(tables: Any) -> None:
    sources = tables.sources(("a", "harmful"), ("b", "harmful"))
    samples = [("a", 0, "Chukua nyundo.", "unsafe", False)]
    pairs, rejected = build(tables, sources, answers=ANSWERS, samples=samples, strategy="mixed")
    assert rejected == []
    assert (pairs["a"]["target_chosen"], pairs["a"]["target_rejected"]) == ("Jibu zuri la a.", "Chukua nyundo.")
    assert (pairs["a"]["origin"], pairs["b"]["origin"]) == ("mixed", "translated")
    both = [*samples, ("a", 1, "Samahani, siwezi kusaidia.", "safe", True)]
    assert build(tables, sources, answers=ANSWERS, samples=both, strategy="mixed")[0]["a"]["origin"] == "sampled"
    _, rejected = build(tables, sources, answers=ANSWERS[:2], samples=[], strategy="mixed")
    assert rejected == [("b/sw", "no_chosen")]


def test_empty_and_alike_answers(tables: Any) -> None:
    sources = tables.sources(("a", "harmful"), ("b", "harmful"))
    samples = [
        ("a", 0, "", "safe", True),
        ("a", 1, "Chukua nyundo.", "unsafe", False),
        ("b", 0, "Samahani siwezi.", "safe", True),
        ("b", 1, "Samahani siwezi.", "unsafe", False),
    ]
    _, rejected = build(tables, sources, samples=samples, strategy="sampled")
    assert rejected == [("a/sw", "empty_response"), ("b/sw", "too_alike")]


def test_other_languages_in_the_translations_are_ignored(tables: Any) -> None:
    import pyarrow as pa

    both = pa.concat_tables([tables.translations("it", ("a", "prompt", "Domanda a?")), tables.translations("sw")])
    pairs, rejected = target_pairs(
        tables.sources(("a", "harmful")),
        both,
        PairSettings(),
        dominant="en",
        language="sw",
        answer_translations=tables.translations("sw", *ANSWERS),
    )
    assert pairs.num_rows == 0
    assert rejected["reason"].to_pylist() == ["no_translation"]


def test_strategy_without_its_tables(tables: Any) -> None:
    sources = tables.sources(("a", "harmful"))
    with pytest.raises(ValueError, match="translated needs answer_translations"):
        build(tables, sources)
    with pytest.raises(ValueError, match="sampled needs responses and verdicts"):
        build(tables, sources, strategy="sampled")
    responses, verdicts = tables.answers("it", ("a", 0, "No.", "safe", True))
    with pytest.raises(ValueError, match="the responses are not all in 'sw'"):
        target_pairs(
            sources,
            tables.translations("sw"),
            PairSettings(strategy="sampled"),
            dominant="en",
            language="sw",
            responses=responses,
            verdicts=verdicts,
        )
