"""Model cards: metadata of the hub, and the figures of the report."""

from __future__ import annotations

from typing import Any

import yaml

from mpo_core.models.find import model_digest
from mpo_core.reporting import RunSummary, model_card, training_card
from mpo_core.settings import ModelSettings


def front(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---")[1])


def test_a_card_has_the_figures_of_the_report(summary: RunSummary) -> None:
    card = model_card(summary)
    data = front(card)
    assert data["language"] == ["en", "zh", "ja", "ko", "ar", "bn", "sw"]
    assert "base_model" not in data  # microworld is no repository of the hub
    results = data["model-index"][0]["results"]
    swahili = next(r for r in results if "Swahili" in r["dataset"]["name"])
    assert swahili["metrics"][0]["value"] == round(34 / 150, 4)
    assert "| Held-out prompts | Swahili | ASR | 70.0 % | 22.7 % | 150 |" in card
    assert "my.csv: licence not stated" in card
    assert model_card(summary) == card
    hub = front(model_card(summary.model_copy(update={"base_model": "me/base"})))
    assert hub["base_model"] == "me/base"


def test_a_card_of_a_training_alone_says_that_nothing_was_measured() -> None:
    card = training_card("me/base", ["en", "sw"], "pairs.parquet", {"method": "mpo"})
    assert front(card)["base_model"] == "me/base"
    assert "It has not been evaluated" in card


def test_a_card_says_what_a_model_was_trained_by(summary: RunSummary) -> None:
    added = {"consistency": {"weight": 0.0}, "distillation": {"weight": 1.0}}
    weighting = {"weighting": {"kind": "barfi", "per": "language"}}
    card = training_card("me/base", ["en", "sw"], "pairs.parquet", {"method": "dpo", **added, **weighting})
    assert (
        "me/base, trained by the method dpo, self-distillation (MSD, after arXiv 2605.02971) and learned weights of "
        "each language (barfi), so that it is as safe in Swahili as in English." in card
    )
    alone = model_card(summary.model_copy(update={"config": {"training": {"method": "none", **added}, "edit": {}}}))
    assert "microworld, trained by self-distillation (MSD, after arXiv 2605.02971), so that" in alone
    assert "a few of its neurons were edited" in alone
    plain = model_card(summary)
    assert "trained by multilingual reward-gap optimisation (MPO, arXiv 2505.16869), so that" in plain
    assert "edited" not in plain


def test_a_card_in_an_artifact_is_no_part_of_the_model(tmp_path: Any) -> None:
    (tmp_path / "config.json").write_text("{}")
    alone = model_digest(tmp_path, ModelSettings())
    (tmp_path / "manifest.json").write_text('{"files": {"config.json": "0"}}')
    (tmp_path / "README.md").write_text("card")
    assert model_digest(tmp_path, ModelSettings()) == alone
