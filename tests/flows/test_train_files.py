"""`mpo train` from files to files, on the shipped model."""

import json

import pyarrow.parquet as pq
import pytest

from flows.train_files import _summed
from mpo_core.contract.artifacts import ArtifactRef, Shard
from mpo_core.contract.tables import PAIRS, source_id
from tests.faults.conftest import pair_rows, write_pairs  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("prefect_server")  # or each process would start one of its own

DROP = ["--set", "pairs.swap_check=drop"]
FAST = ["--set", "training.max_steps=4", "--set", "training.threads=1", "--set", "training.batch_size=2"]


def test_every_step_tells_the_figures_of_the_method(mpo, write_pairs, tmp_path):  # noqa: F811
    out, pairs = tmp_path / "out", write_pairs(count=6)
    given = ["train", "--pairs", pairs, "--validation", pairs, "--model", "microworld", "--out", out, "--json"]
    more = ["--set", "training.evaluate_every=2", "--set", "training.tensorboard=true"]
    done = mpo(*given, *FAST, *more, "--set", "pairs.swap_check=swap_back")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert result["steps"] == 4
    # Pairs that are trained on too prove nothing.
    assert result["swaps"] == {"sw": {"order_known": 0, "order_confirmed": 0, "order_acts": 0, "swapped": 0}}
    assert result["not used"].startswith("pairs.swap_check in sw, which needs 20 pairs in known order")
    log = json.loads((out / "trainer_state.json").read_text())["log_history"]
    steps = [entry for entry in log if "loss" in entry]
    wanted = {"loss", "loss/gap", "loss/retention", "reward_gap/target", "reward_gap/dominant", "rewards/accuracies"}
    assert [entry["step"] for entry in steps] == [1, 2, 3, 4]
    assert all(wanted <= entry.keys() for entry in steps)
    assert steps[-1]["loss"] == pytest.approx(steps[-1]["loss/gap"] + steps[-1]["loss/retention"], rel=1e-6)
    assert [entry["step"] for entry in log if "eval_loss" in entry] == [2, 4]
    assert list((out / "tensorboard").rglob("events.out.tfevents.*"))
    assert (out / "model" / "model.safetensors").is_file()


def test_accumulation_is_exact_through_the_command(mpo, write_pairs, tmp_path):  # noqa: F811
    pairs, result = write_pairs(count=12), []
    for batch, accumulation in ((1, 8), (8, 1)):
        out = tmp_path / f"{batch}x{accumulation}"
        changes = {"batch_size": batch, "gradient_accumulation": accumulation, "max_steps": 3, "threads": 1}
        given = [part for name, value in changes.items() for part in ("--set", f"training.{name}={value}")]
        done = mpo("train", "--pairs", pairs, "--model", "microworld", "--out", out, *given)
        assert done.code == 0, done.err
        log = json.loads((out / "trainer_state.json").read_text())["log_history"]
        figures = [(entry["loss"], entry["grad_norm"]) for entry in log if "loss" in entry]
        result.append((figures, (out / "model" / "model.safetensors").read_bytes()))
    assert len(result[0][0]) == 3
    assert result[0] == result[1]


@pytest.mark.parametrize(
    ("setting", "more"), [("training.patience=1", "training.evaluate_every=1"), ("training.weighting={}", "edit={}")]
)
def test_what_needs_validation_pairs_asks_for_them(mpo, write_pairs, tmp_path, setting, more):  # noqa: F811
    given = ["train", "--pairs", write_pairs(), "--model", "microworld", "--out", tmp_path / "out"]
    done = mpo(*given, "--set", setting, "--set", more)
    assert done.code == 2
    assert setting.partition("=")[0] in done.err
    assert "--validation" in done.err
    assert not (tmp_path / "out").exists()


def test_languages_that_have_no_pair_are_not_distilled(mpo, write_pairs, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr("flows.train_files.require_server", lambda: pytest.fail("something is measured before"))
    given = ["train", "--pairs", write_pairs(), "--model", "microworld", "--out", tmp_path / "out"]
    done = mpo(*given, "--set", "training.distillation={languages: [zh]}", "--set", "judging.judge=microworld")
    assert done.code == 2
    assert "training.distillation.languages" in done.err
    assert "no prompt of the split `train` is translated into zh" in done.err
    assert not (tmp_path / "out").exists()


def test_counts_of_the_teacher_that_are_0_are_reported():
    rows = ArtifactRef(stage="distillation", path="distillation/0", sha256="0" * 64)
    shards = [Shard(rows=rows, counts={"answers": answers, "rejected": 0}) for answers in (2, 3)]
    assert _summed(shards) == {"answers": 5, "rejected": 0}


def files_with_swaps(tmp_path):
    """Files of training pairs in order and with every third one swapped, of validation pairs, and the swapped ids."""
    rows = [row for kind in ("harmful", "harmless") for row in pair_rows(16, kind=kind)]
    for row in rows:
        if row["kind"] == "harmless":  # the helper gives the refusal first
            for side in ("source", "target"):
                row[f"{side}_chosen"], row[f"{side}_rejected"] = row[f"{side}_rejected"], row[f"{side}_chosen"]
            texts = (row["source_prompt"], row["source_chosen"], row["source_rejected"])
            row["source_id"] = source_id(*texts)
    clean, validation = rows[:6] + rows[16:22], rows[6:16] + rows[22:32]
    ids = {row["pair_id"] for row in clean[::3]}
    swapped = [
        row | {"target_chosen": row["target_rejected"], "target_rejected": row["target_chosen"]}
        if row["pair_id"] in ids
        else row
        for row in clean
    ]
    files = {name: tmp_path / f"{name}.parquet" for name in ("clean", "swapped", "validation")}
    for file, some in zip(files.values(), (clean, swapped, validation), strict=True):
        pq.write_table(PAIRS.build(some), file)
    return files, ids


# The second needs the reference of the target pairs too.
@pytest.mark.parametrize("method", [pytest.param("mpo", marks=pytest.mark.long), "dpo"])
def test_swapped_answers_of_imported_pairs_are_rejected(mpo, tmp_path, method):
    """Twenty validation pairs prove the check, so it acts; the swapped pairs of the file are the ones rejected."""
    files, swapped = files_with_swaps(tmp_path)
    out = tmp_path / "out"
    given = ["train", "--pairs", files["swapped"], "--validation", files["validation"], "--model", "microworld"]
    chosen = ["--set", f"training.method={method}"]
    done = mpo(*given, "--out", out, "--json", *FAST[2:], "--set", "training.max_steps=1", *DROP, *chosen)
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert result["swaps"] == {"sw": {"order_known": 20, "order_confirmed": 20, "order_acts": 1, "swapped": 4}}
    assert (result["pairs"], result["quarantined"]) == (8, {"swapped": 4})
    assert {*pq.read_table(out / "quarantine.parquet")["row_id"].to_pylist()} == swapped
    marked = [row["pair_id"] for row in pq.read_table(out / "swaps.parquet").to_pylist() if row["swapped"]]
    assert {*marked} == swapped


@pytest.mark.long
@pytest.mark.parametrize("method", ["mpo", "dpo"])  # the second needs the reference of the target pairs too
def test_answers_that_are_swapped_back_train_the_model_of_the_right_order(mpo, tmp_path, method):
    files, swapped = files_with_swaps(tmp_path)
    models, results = {}, {}
    for name, pairs, more in (
        ("clean", files["clean"], []),
        ("back", files["swapped"], ["--set", "pairs.swap_check=swap_back"]),
        ("wrong", files["swapped"], ["--set", "pairs.swap_check=mark"]),
    ):
        out = tmp_path / name
        given = ["train", "--pairs", pairs, "--validation", files["validation"], "--model", "microworld"]
        done = mpo(*given, "--out", out, "--json", *FAST, "--set", f"training.method={method}", *more)
        assert done.code == 0, done.err
        results[name] = json.loads(done.out)
        models[name] = (out / "model" / "model.safetensors").read_bytes()
    assert models["back"] == models["clean"]
    assert models["wrong"] != models["clean"]
    for name in ("back", "wrong"):
        counts = {"order_known": 20, "order_confirmed": 20, "order_acts": 1, "swapped": 4}
        assert (results[name]["swaps"], results[name]["pairs"]) == ({"sw": counts}, 12)
        assert results[name]["quarantined"] == {}
        rows = pq.read_table(tmp_path / name / "swaps.parquet").to_pylist()
        assert {row["pair_id"] for row in rows if row["swapped"]} == swapped
