"""What every run measures beside answers, and the flows that analyses start."""

import pytest

from mpo_core.contract.analysis import Variant
from mpo_core.contract.errors import BadInputError
from mpo_core.settings.profiles import parse_config
from tests.flows.conftest import ledger, small_settings


def test_every_run_measures_plain_text_and_the_distance_from_the_base_model(warm):
    _, summary, _ = warm
    text = {(row.model, row.language): row for row in summary.metrics if row.benchmark == "parallel_text"}
    assert set(text) == {(model, code) for model in ("before", "after") for code in ("en", "sw", "zh")}
    assert all(row.n == 95 and row.low < row.value < row.high for row in text.values())
    changes = {row.language: row for row in summary.comparisons if row.benchmark == "parallel_text"}
    for code, row in changes.items():
        change = text["after", code].value - text["before", code].value
        assert row.difference == pytest.approx(change, abs=1e-12)
        assert row.gained + row.lost <= 95
    (distance,) = [row for row in summary.metrics if row.metric == "dominant_kl"]
    assert (distance.model, distance.language, distance.n) == ("after", "en", 6)
    assert distance.value > 0.0
    card = next(card for card in summary.benchmarks if card.name == "parallel_text")
    assert (card.origin, card.missing) == ("held-out statements of the microworld", [])


def test_hidden_states_of_a_finished_run_train_nothing(warm):
    from flows.study import prompt_states

    root, _, _ = warm
    with ledger() as ran:
        tables = prompt_states(parse_config(small_settings(root), where="test"))
    assert {name.split("-")[0] for name in ran} == {"states"}
    assert [table.num_rows for table in tables.values()] == [36, 36]
    before, after = (table.sort_by("prompt_id").to_pylist() for table in tables.values())
    assert [row["prompt_id"] for row in before] == [row["prompt_id"] for row in after]
    assert before[0]["state"] != after[0]["state"]


@pytest.mark.parametrize(
    ("named", "left"), [(None, None), (["sw", "zh"], ["zh"]), ("without_pairs", "nothing"), (["sw"], "nothing")]
)
def test_a_language_that_a_variant_leaves_out_is_not_distilled(named, left):
    from flows.study import _without

    settings = small_settings("root", languages__without_pairs=["sw"])
    settings["training"]["distillation"] = {"languages": named}
    config = parse_config(settings, where="test")
    distillation = _without(config.training, config.languages, "sw").distillation
    assert ("nothing" if distillation is None else distillation.languages) == left


def test_a_variant_that_nothing_remains_for_is_refused_before_anything_runs(tmp_path):
    from flows.study import train_variants

    settings = small_settings(tmp_path / "root")
    settings["training"] |= {"method": "none", "distillation": {"languages": ["sw"]}}
    variants = [Variant(name="all"), Variant(name="no sw", without="sw")]
    with pytest.raises(BadInputError, match="without sw, nothing remains to train on"):
        train_variants.fn(parse_config(settings, where="test"), variants, 1)
    assert not (tmp_path / "root").exists()


@pytest.mark.long
def test_a_study_trains_every_variant_and_measures_it_as_a_run_does(warm):
    from flows.study import train_variants

    root, _, _ = warm
    variants = [
        Variant(name="all"),
        Variant(name="less", share=0.5, swapped=0.25, untranslated=0.25),
        Variant(name="no sw", without="sw", training={"retention": {"weight": 0.0}}),
    ]
    with ledger() as ran:
        runs = train_variants(parse_config(small_settings(root), where="test"), variants, 1).to_pylist()
    values = {(row["method"], row["figure"]): row["value"] for row in runs}
    assert {name for name, _ in values} == {"base", "all", "less", "no sw"}
    assert values["all", "dominant_kl"] != values["less", "dominant_kl"]
    assert {figure for name, figure in values if name == "no sw" and "unsafe/" in figure} == {
        "unsafe/sw",
        "unsafe/targets",
    }
    assert values["base", "unsafe/sw"] > 0.3
    assert not any(name.startswith("vary-") and "all" in name for name in ran)
