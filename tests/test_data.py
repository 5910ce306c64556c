"""The shipped data: complete, of one piece, and through every gate."""

import csv
import difflib
import importlib.util
import statistics
from collections import Counter
from pathlib import Path

import pytest

from mpo_core.languages.identify import identify, language_fault
from mpo_core.languages.refusals import is_refusal
from mpo_core.languages.sentences import count_sentences
from mpo_core.prompts.load import load_prompts
from mpo_core.settings import TranslationGates
from mpo_core.settings.profiles import load_config
from mpo_core.translation.gates import verdicts

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("check", ROOT / "data" / "safety" / "check.py")
check = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(check)
PARALLEL_TEXT = ROOT / "mpo_core" / "evaluation" / "parallel" / "passages.csv"
ALL = ("en", *check.LANGUAGES)


def shipped(name: str) -> list[dict[str, str]]:
    return read_rows(ROOT / "data" / name)


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def faulty_translations(rows: list[dict[str, str]], language: str) -> list[tuple[str, str]]:
    """Row and gate wherever a text is in another language than its column says, or fails a gate for translations."""
    faults = [
        (row["id"], verdict.gate)
        for row in rows
        if language != "en"
        for verdict in verdicts(
            row["en"], row[language], source="en", target=language, settings=TranslationGates(), measures=True
        )
        if not verdict.passed
    ]
    return faults + [
        (row["id"], "language")
        for row in rows
        if identify(row[language]).code != language or language_fault(row[language], language)
    ]


def test_the_prompts_are_what_the_card_says():
    rows = check.rows("prompts.csv")
    counts = Counter((row["kind"], row["category"]) for row in rows)
    assert len(counts) == 24
    assert set(counts.values()) == {10}
    assert len({row["text"].casefold() for row in rows}) == len({row["id"] for row in rows}) == 240
    harmful, harmless = ([r for r in rows if r["kind"] == kind] for kind in ("harmful", "harmless"))
    assert [r["category"] for r in harmful] == [r["category"] for r in harmless]
    assert [row["en"] for row in check.rows("translations.csv")] == [row["text"] for row in rows]
    assert [row["id"] for row in check.rows("round_trip.csv")] == [row["id"] for row in rows]


@pytest.mark.parametrize("language", check.LANGUAGES)
def test_every_translation_passes_every_gate_and_the_card_has_its_figures(language):
    counts = check.checked(language)
    assert (counts["identified"], counts["different"], counts["gates failed"]) == (240, 240, 0)
    line = "| " + " | ".join(map(str, counts.values())) + " |"
    assert line in (ROOT / "data" / "safety" / "README.md").read_text(encoding="utf-8")


def test_the_profile_reads_them(monkeypatch):
    monkeypatch.chdir(ROOT)
    config = load_config(ROOT / "deployments" / "profiles" / "own-model.yaml")
    prompts, answers, rejected = load_prompts(config.prompts, dominant="en", seed=config.prompts.seed)
    assert {code: table.num_rows for code, table in answers.items()} == dict.fromkeys(("en", *check.LANGUAGES), 240)
    assert (prompts.num_rows, rejected.num_rows) == (240, 0)
    kinds = Counter(zip(prompts["kind"].to_pylist(), prompts["split"].to_pylist(), strict=True))
    assert all(kinds[kind, split] >= 5 for kind in ("harmful", "harmless") for split in ("train", "validation", "test"))


def test_every_prompt_has_reference_answers_in_every_language():
    answers = check.rows("answers.csv")
    expected = [(row["id"], language) for row in check.rows("prompts.csv") for language in ALL]
    assert [(row["id"], row["language"]) for row in answers] == expected
    text = (ROOT / "data" / "safety" / "answers.csv").read_bytes()
    assert text.startswith(b"id,language,chosen,rejected\n")
    assert b"\r" not in text
    assert all(set(row) == {"id", "language", "chosen", "rejected"} for row in answers)
    texts = [row[column] for row in answers for column in ("chosen", "rejected")]
    assert all(value and value == value.strip() and value.isprintable() for value in texts)


@pytest.mark.parametrize("language", ALL)
def test_the_judge_tells_refusals_from_openings_and_helps_and_the_card_has_its_figures(language):
    figures = check.answers_checked(language)
    counts = [figures[name] for name in ("harmful: refusals", "openings", "harmless: refusals", "helps")]
    assert counts == [120] * 4
    assert figures["identified"] == figures["different"] == 480
    line = "| " + " | ".join(map(str, figures.values())) + " |"
    assert line in (ROOT / "data" / "safety" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("language", ALL)
def test_length_does_not_give_an_answer_away(language):
    for kind in ("harmful", "harmless"):
        pairs = [
            (row["chosen"], row["rejected"])
            for row in check.rows("answers.csv")
            if row["language"] == language and row["id"].startswith(f"{kind}-")
        ]
        ratios = [len(chosen) / len(rejected) for chosen, rejected in pairs]
        assert 0.9 < statistics.median(ratios) < 1.1
        assert 0.25 < statistics.mean(ratio > 1 for ratio in ratios) < 0.75
        assert not any(difflib.SequenceMatcher(None, *pair).ratio() > 0.95 for pair in pairs[::10])


def test_openings_have_no_content():
    """An opening ends where the answer would begin, and says little more than its topic."""
    openings = [
        (row["language"], row["rejected"]) for row in check.rows("answers.csv") if row["id"].startswith("harmful-")
    ]
    assert all(text.endswith((":", "：")) for _, text in openings)
    assert not any(character.isdigit() for _, text in openings for character in text)
    assert all(len(text) < 320 for _, text in openings)


def test_the_over_refusal_prompts_are_whole_and_ours_alone():
    rows = shipped("over_refusal/prompts.csv")
    assert list(rows[0]) == ["id", "category", *ALL]
    assert [row["id"] for row in rows] == [f"or-{number:03d}" for number in range(1, 71)]
    card = (ROOT / "data" / "over_refusal" / "README.md").read_text(encoding="utf-8")
    counts = Counter(row["category"] for row in rows)
    assert set(counts.values()) == {7}
    assert all(f"| `{category}` |" in card for category in counts)
    for language in ALL:
        texts = {row[language].casefold() for row in rows}
        assert len(texts) == 70
        assert all(text and text == text.strip() and text.isprintable() for text in texts)
        column = "text" if language == "en" else language
        others = check.rows("prompts.csv" if language == "en" else "translations.csv")
        assert not texts & {row[column].casefold() for row in others}


@pytest.mark.parametrize("language", ALL)
def test_every_over_refusal_prompt_is_in_its_language(language):
    rows = shipped("over_refusal/prompts.csv")
    assert faulty_translations(rows, language) == []
    assert not any(is_refusal(row[language], language) for row in rows)


@pytest.mark.parametrize("language", ALL)
def test_the_parallel_passages_are_whole_and_in_their_language(language):
    rows = read_rows(PARALLEL_TEXT)
    assert list(rows[0]) == ["id", "topic", *ALL]
    assert [row["id"] for row in rows] == [f"par-{number:03d}" for number in range(1, 41)]
    assert len({row["topic"] for row in rows}) == len({row[language] for row in rows}) == 40
    assert all(row[language] == row[language].strip() and row[language].isprintable() for row in rows)
    assert {count_sentences(row[language]) for row in rows} == {2}
    assert faulty_translations(rows, language) == []
