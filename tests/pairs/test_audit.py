"""The flaws of released pair files, each on a row of the same kind, and the real file where it is here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mpo_core.pairs import FLAWS, audit

OFFICIAL = Path(__file__).parents[3] / "shared" / "data" / "official_llama_mpo_pairs.json"

EN = (
    "How do I bake bread at home without an oven?",
    "Bake the dough in a heavy pan.\nKeep the lid on, and turn it after ten minutes.",
    "No idea.",
)
BN = (
    "ওভেন ছাড়া বাড়িতে রুটি কীভাবে বানাব?",
    "ভারী কড়াইয়ে খামির সেঁকে নিন।\nঢাকনা দিয়ে রাখুন, দশ মিনিট পরে উল্টে দিন।",
    "আমি জানি না।",
)


def item(target: tuple[str, str, str], source: tuple[str, str, str] = EN) -> dict[str, Any]:
    return {
        f"{side}_{name}": [{"from": "human", "value": text}]
        if name == "conversations"
        else {"from": "gpt", "value": text}
        for side, texts in (("source", source), ("target", target))
        for name, text in zip(("conversations", "chosen", "rejected"), texts, strict=True)
    }


def audited(tmp_path: Path, *items: dict[str, Any]) -> dict[str, dict[str, int]]:
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(items), encoding="utf-8")
    return audit(path)


@pytest.mark.parametrize(
    ("flaw", "target"),
    [
        ("untranslated", (EN[0], BN[1], BN[2])),
        ("untranslated", (BN[0], EN[1], BN[2])),
        ("entities", (BN[0], BN[1] + " &#39;", BN[2])),
        ("broken_markup", (BN[0], BN[1] + " ***১.", BN[2])),
        ("broken_markup", (BN[0], BN[1] + " **১.", BN[2])),
        ("lost_newlines", (BN[0], BN[1].replace("\n", " "), BN[2])),
        ("empty", (BN[0], BN[1], " ")),
        ("wrong_language", (BN[0], BN[1], "Kwa kweli sijui jinsi ya kufanya hivyo nyumbani kwangu leo.")),
        ("too_alike", (BN[0], BN[1], BN[1] + ".")),
    ],
)
def test_each_flaw_is_counted_in_its_language(tmp_path: Path, flaw: str, target: tuple[str, str, str]) -> None:
    counts = audited(tmp_path, item(target), item(BN))
    assert set(counts) == {"bn"}
    also = {"wrong_language"} if target[1] == EN[1] else set()  # an answer left in English is both
    assert {name: n for name, n in counts["bn"].items() if n} == {"rows": 2, flaw: 1} | dict.fromkeys(also, 1)


def test_a_row_left_in_the_source_language_has_no_language(tmp_path: Path) -> None:
    assert audited(tmp_path, item(EN))["?"]["untranslated"] == 1


def test_marks_that_the_source_has_too_are_no_flaw(tmp_path: Path) -> None:
    source = (EN[0], EN[1] + " &amp; *** x", EN[2])
    counts = audited(tmp_path, item((BN[0], BN[1] + " &amp; *** x", BN[2]), source))
    assert {name for name, n in counts["bn"].items() if n} == {"rows"}


@pytest.mark.skipif(not OFFICIAL.is_file(), reason="shared/data/official_llama_mpo_pairs.json is not here")
def test_the_official_file() -> None:
    counts = audit(OFFICIAL)
    assert sum(of["rows"] for of in counts.values()) == 600
    assert {"zh", "ja", "ko", "ar", "bn", "sw"} <= set(counts)
    totals = {flaw: sum(of[flaw] for of in counts.values()) for flaw in FLAWS}
    assert totals["empty"] == 1
    assert totals["entities"] > 0
    assert totals["lost_newlines"] > 0
