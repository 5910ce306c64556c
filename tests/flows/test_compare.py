"""Methods side by side, on the real flow."""

import json

import pytest
from typer.testing import CliRunner

from mpo_core.contract.errors import BadInputError
from mpo_core.settings.profiles import parse_config
from tests.flows.conftest import ledger, small_settings

METHODS = {"mpo": {}, "dpo/quick": {"learning_rate": 1e-3, "beta": 0.5}}


def compare(root, **changes):
    from flows.compare import compare_methods

    settings = {"compare": {"methods": METHODS, "seeds": [0, 1], "flipped": [0.0, 0.5]}, **changes}
    with ledger() as ran:
        summary = compare_methods(parse_config(small_settings(root, **settings), where="test"))
    return summary, ran


@pytest.fixture(scope="module")
def compared(prefect_server, tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    return root, *compare(root)


def test_every_method_is_trained_for_every_seed_and_share(compared):
    _, summary, ran = compared
    trained = {name for name in ran if name.startswith("train-")}
    assert len(trained) == 8
    assert "train-dpo/quick-0.5-1-seed1" in trained
    assert summary.names == ["base", "mpo", "dpo/quick"]
    assert {(row.method, row.flipped, row.seed) for row in summary.runs if row.method != "base"} == {
        (method, flipped, seed) for method in METHODS for flipped in (0.0, 0.5) for seed in (0, 1)
    }
    seconds = [row.value for row in summary.runs if row.figure == "seconds"]
    assert len(seconds) == 8
    assert min(seconds) > 0


def test_methods_differ_and_only_low_resource_pairs_are_flipped(compared):
    _, summary, ran = compared
    flipped = {name for name in ran if name.startswith("flip-")}
    assert flipped == {"flip-sw-train-0.5-seed0", "flip-sw-train-0.5-seed1"}  # zh is no low-resource language
    drift = {(row.method, row.flipped, row.seed): row.value for row in summary.runs if row.figure == "dominant_drift"}
    assert len(set(drift.values())) == 8  # no two trainings are the same


def test_a_second_comparison_trains_only_what_is_new(compared):
    root, first, _ = compared
    again, ran = compare(root, compare={"methods": METHODS, "seeds": [0, 1], "flipped": [0.0, 0.5]})
    assert ran == []
    assert again.methods == first.methods
    more = {"methods": {**METHODS, "sft": {}}, "seeds": [0], "flipped": [0.0]}
    _, ran = compare(root, run__name="more", compare=more)
    assert [name for name in ran if name.startswith("train-")] == ["train-sft-0-0-seed0"]


def test_what_goes_beyond_mpo_is_compared_too_and_comes_from_the_cache(compared):
    root, _, _ = compared
    distillation = {"instruction": "{original} {prompt}", "top_k": 8}
    methods = {
        "mpo-consistency": {"consistency": {"width": 8, "every": 1}},
        "mpo-barfi": {"weighting": {"rate": 1.0}},
        "mpo-group_dro": {"weighting": {"kind": "group_dro", "rate": 5.0}},
        "mpo-distillation": {"distillation": distillation},
        "epsilon_mpo": {},
        "balanced_dpo": {},
    }
    changes = {"run__name": "beyond", "compare": {"methods": methods, "seeds": [0], "flipped": [0.0]}}
    trusted = {"source": "microworld", "kind": "harmful", "split": "validation", "limit": 4}
    changes["prompts__sources"] = [*small_settings(root)["prompts"]["sources"], trusted]
    summary, ran = compare(root, **changes)
    assert {name for name in ran if name.startswith("train-")} == {f"train-{name}-0-0-seed0" for name in methods}
    assert {name.partition("-")[0] for name in ran} >= {"teach", "distil"}
    drift = {row.method: row.value for row in summary.runs if row.figure == "dominant_drift"}
    assert drift.keys() == methods.keys()
    assert len(set(drift.values())) == len(methods)
    again, ran = compare(root, **changes)
    assert ran == []
    assert again.methods == summary.methods


def test_page_and_tables_are_written(compared):
    root, summary, _ = compared
    folder = root / "runs" / "small"
    page = (folder / "methods.html").read_text(encoding="utf-8")
    assert page.count("<table>") == 2  # clean pairs, and half of them swapped
    assert "<svg" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "Not tuned" not in page  # the profile is made for mpo, and dpo/quick has settings of its own
    summary_file = json.loads((folder / "methods.json").read_text(encoding="utf-8"))
    assert summary_file["methods"] == [row.model_dump() for row in summary.methods]


def test_the_command(compared):
    from flows.cli import app

    root, summary, _ = compared
    profile = root / "profile.yaml"
    settings = small_settings(root, compare={"methods": METHODS, "seeds": [0, 1], "flipped": [0.0, 0.5]})
    profile.write_text(json.dumps(settings), encoding="utf-8")
    arguments = ["compare", str(profile), "--methods", "mpo", "--seeds", "2", "--flipped", "0.5", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    printed = json.loads(result.stdout)
    assert {row["method"] for row in printed["methods"]} == {"base", "mpo"}
    wanted = next(row for row in printed["methods"] if (row["method"], row["figure"]) == ("mpo", "target_unsafe"))
    assert wanted["mean"] == summary.row("mpo", 0.5, "target_unsafe").mean


def test_a_method_changes_pairs_and_edit_and_languages_without_pairs_are_reported_apart(compared, monkeypatch):
    from mpo_core.editing.edit import edit_folder

    root, plain, _ = compared
    edited = set()

    def edit(folder, model, tokenizer, prompts, *arguments, **options):
        edited.update(row["language"] for row in prompts.translated)
        return edit_folder(folder, model, tokenizer, prompts, *arguments, **options)

    monkeypatch.setattr("mpo_core.editing.edit.edit_folder", edit)
    methods = {"mpo": {}, "mpo-checked": {"pairs.swap_check": "swap_back", "edit": {"max_change": 1e9}}}
    methods["alone"] = {"method": "none", "edit": {"max_change": 1e9}}
    compare_settings = {"methods": methods, "models": ["microworld"], "seeds": [0], "flipped": [0.5]}
    settings = small_settings(root, run__name="bundles", languages__targets=["sw", "zh"], compare=compare_settings)
    settings["languages"]["without_pairs"] = ["zh"]
    from flows.compare import compare_methods

    with ledger() as ran:
        summary = compare_methods(parse_config(settings, where="test"))
    labels = {"mpo-checked-0.5-0-mpo-checked-0.5-0-seed0", "alone-0.5-0-alone-0.5-0-seed0"}
    assert {name for name in ran if name.startswith("edit-")} == {f"edit-{label}" for label in labels}
    assert not any(name.startswith("train-alone") for name in ran)
    assert any(name.startswith("swaps-sw") for name in ran)
    assert edited == {"sw", "zh"}  # an edit needs no pairs
    for name in ("mpo", "mpo-checked", "alone"):
        assert {"target_unsafe", "left_out_unsafe"} <= {row.figure for row in summary.methods if row.method == name}
    assert {row.model for row in summary.runs} == {"microworld"}
    assert summary.row("base", 0.0, "target_unsafe") != plain.row("base", 0.0, "target_unsafe")  # Swahili alone


@pytest.mark.parametrize("key", ["pairs.swap_check", "pairs.nothing", "edit.rank"])
def test_a_wrong_change_of_a_method_is_bad_input_before_anything_runs(tmp_path, key):
    from flows.compare import compare_methods
    from mpo_core.contract.errors import BadInputError

    config = parse_config(small_settings(tmp_path, compare={"methods": {"mpo": {key: -1}}}), where="test")
    with ledger() as ran, pytest.raises(BadInputError, match=r"compare\.methods\.mpo"):
        compare_methods(config)
    assert ran == []


def test_an_edit_without_a_training_has_no_settings_of_pairs_or_training(tmp_path):
    from mpo_core.contract.errors import BadInputError

    def parsed(entry):
        methods = {"mpo": {}, "alone": {"method": "none", **entry}}
        return parse_config(small_settings(tmp_path, compare={"methods": methods}), where="test")

    for entry in ({"edit": {}}, {"edit.rank": 8}):
        config = parsed(entry)
        assert config.compare.training("alone", config.training, 0) is None
    with pytest.raises(BadInputError, match=r"methods\.alone: an edit .* uses no pairs\. Leave out pairs\.swap_check"):
        parsed({"edit": {}, "pairs.swap_check": "drop"})
    for entry in ({"edit": None}, {}, {"edit": {}, "max_steps": 1}):
        with pytest.raises(BadInputError, match="trains on nothing"):
            parsed(entry)


def test_an_unknown_method_is_bad_input(tmp_path):
    from mpo_core.contract.errors import BadInputError

    with pytest.raises(BadInputError, match="method"):
        parse_config(small_settings(tmp_path, compare={"methods": {"ppo": {}}}), where="test")


def test_a_method_that_learns_weights_needs_validation_prompts_before_anything_is_computed(prefect_server, tmp_path):
    from flows.compare import compare_methods

    methods = {"mpo": {}, "weighted": {"method": "mpo", "weighting": {}}}
    settings = small_settings(tmp_path, compare={"methods": methods})  # without prompts of the split `validation`
    with ledger() as ran, pytest.raises(BadInputError, match="validation"):
        compare_methods(parse_config(settings, where="test"))
    assert {name.partition("-")[0] for name in ran} == {"prompts"}
