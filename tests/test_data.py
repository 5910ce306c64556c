"""The shipped prompts and translations: complete, of one piece, and through every gate."""

import importlib.util
from collections import Counter
from pathlib import Path

import pytest

from mpo_core.prompts.load import load_prompts
from mpo_core.settings.profiles import load_config

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("check", ROOT / "data" / "safety" / "check.py")
check = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(check)


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
    prompts, _, rejected = load_prompts(config.prompts, dominant="en", seed=config.prompts.seed)
    assert (prompts.num_rows, rejected.num_rows) == (240, 0)
    kinds = Counter(zip(prompts["kind"].to_pylist(), prompts["split"].to_pylist(), strict=True))
    assert all(kinds[kind, split] >= 5 for kind in ("harmful", "harmless") for split in ("train", "validation", "test"))
