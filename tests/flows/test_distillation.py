"""Self-distillation in the flow, beside consistency, with a language that gets no pairs, and in `mpo train`."""

import json
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from flows import stages
from mpo_core.contract.artifacts import ArtifactRef, ArtifactStore
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.tables import PAIRS, PROMPTS, QUARANTINE, TEACHER, TRANSLATIONS
from mpo_core.settings.profiles import parse_config
from mpo_core.training.launch import train
from tasks.model import ModelFolder, registered_model
from tests.faults.conftest import pair_rows
from tests.flows.conftest import run_small, small_settings

MSD = {"instruction": "{original} {prompt}", "top_k": 8, "languages": "without_pairs"}


def test_a_language_without_pairs_is_distilled_and_its_prompts_of_training_are_compared(warm, monkeypatch):
    root, _, _ = warm
    changes = {"languages__without_pairs": ["zh"], "training__distillation": MSD}
    changes["training__consistency"] = {"width": 16, "every": 1}
    compared, paired, too_long = [], set(), []

    def trained(job, **options):
        compared.extend(pq.read_table(job.translations).to_pylist())
        paired.update(pq.read_table(job.pairs)["language"].to_pylist())
        too_long.append(pq.read_table(job.pairs)["prompt_id"][0].as_py())
        longer = {"text": compared[0]["text"] * 99}
        given = [row | longer if row["prompt_id"] == too_long[0] else row for row in compared]
        pq.write_table(TRANSLATIONS.build(given), job.translations)
        return train(job, **options)

    monkeypatch.setattr("tasks.training.train", trained)
    summary, ran = run_small(root, **changes)
    assert paired == {"sw"}
    assert {row["language"] for row in compared} == {"zh"}
    assert {"-".join(name.split("-")[:2]) for name in ran if name.startswith(("teach", "distil"))} == {
        "teach-zh",
        "distil-zh",
    }
    store = ArtifactStore(str(root))
    refs = [ref for ref in summary.artifacts if ref.stage == "distillation" and "quarantine" not in ref.path]
    columns = [pq.read_schema(root / ref.path).names for ref in refs]
    rows = store.read_tables(
        [ref for ref, names in zip(refs, columns, strict=True) if "top_ids" in names], TEACHER
    ).to_pylist()
    prompts = [ref for ref in summary.artifacts if ref.stage == "prompts" and "quarantine" not in ref.path]
    split = {row["prompt_id"]: row["split"] for ref in prompts for row in store.read_table(ref, PROMPTS).to_pylist()}
    assert {row["prompt_id"] for row in compared} == {name for name, of in split.items() if of == "train"}
    assert all("loss/consistency" in step for step in summary.training if "loss" in step)
    rejected = [ref for ref in summary.artifacts if ref.stage == "training" and "quarantine" in ref.path]
    rejected = store.read_tables(rejected, QUARANTINE).to_pylist()
    assert [(row["row_id"], row["reason"]) for row in rejected] == [(f"{too_long[0]}/zh", "over_long")]
    assert rows
    for row in rows:
        assert len(row["top_ids"]) == len(row["top_log_probs"]) == 8 * len(row["tokens"])
        assert len(row["rest_log_probs"]) == len(row["tokens"])
    assert run_small(root, **changes)[1] == []


def test_a_server_must_have_the_model_that_teaches():
    backend = {"backend": "openai", "url": "http://127.0.0.1:1/v1", "model": "base"}
    settings = small_settings("root", sampling__backend=backend, training__distillation=MSD)
    run = SimpleNamespace(config=parse_config(settings, where="test"))
    ref = ArtifactRef(stage="training", path="training/0", sha256="0" * 64)
    promoted = registered_model(ModelFolder(settings=run.config.model, sha256="1" * 64), ref)
    with pytest.raises(BadInputError, match="the model that the run trains must answer too"):
        stages.teacher(run, promoted, {}, run.config.training)


@pytest.mark.long
def test_prompts_of_a_file_of_pairs_are_distilled(mpo, tmp_path, prefect_server):
    out, pairs = tmp_path / "out", tmp_path / "pairs.parquet"
    given = [row for kind in ("harmful", "harmless") for code in ("sw", "zh") for row in pair_rows(4, code, kind)]
    pq.write_table(PAIRS.build(given), pairs)
    settings = {
        "training.method": "none",
        "training.distillation": '{instruction: "{original} {prompt}", top_k: 8}',
        "training.max_steps": 2,
        "training.threads": 1,
        "judging.judge": "microworld",
    }
    given = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    done = mpo("train", "--pairs", pairs, "--model", "microworld", "--out", out, "--json", *given)
    assert done.code == 0, done.err
    result, rejected = json.loads(done.out), pq.read_table(out / "quarantine.parquet").to_pylist()
    assert result["teacher"] == {"answers": 16 - len(rejected), "rejected": len(rejected)}
    assert len({row["row_id"] for row in rejected}) == len(rejected) > 1
    assert {row["reason"] for row in rejected} == result["quarantined"].keys() <= {"unsafe", "refusal", "invalid"}
    log = json.loads((out / "trainer_state.json").read_text())["log_history"]
    steps = [entry for entry in log if "loss" in entry]
    assert [entry["loss"] for entry in steps] == pytest.approx([entry["loss/distillation"] for entry in steps])
    assert len(steps) == 2
