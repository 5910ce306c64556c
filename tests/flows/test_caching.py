"""What is computed again, and what is not, counted on the real flow."""

import json
import os
import re
import shutil
import time

from tasks.judging import judge_answers
from tasks.stage import policy_of
from tests.flows.conftest import run_small


def is_training_and_after(ran, *languages):
    """Training, and every question to the new model; what reads its answers only where they differ."""
    affected = {f"{verb}-{code}-test-after" for code in languages for verb in ("reference", "sample")}
    affected |= {"read-text-after", "diverge-en-test-after"}
    readers = {f"judge-{code}-test-after" for code in languages} | {"compare-before-after"}
    required = {"train-mpo", "evaluate-after", "evaluate-utility-after", "compare-utility-before-after", *affected}
    return required <= set(ran) <= required | readers


def shards(summary, stage, language):
    return [ref for ref in summary.artifacts if ref.stage == stage and ref.language == language and ref.rows]


def test_a_cold_run_computes_every_task_once(warm):
    _, _, ran = warm
    assert len(ran) == len(set(ran))
    assert {"translate-sw-train", "translate-zh-test", "train-mpo", "evaluate-before"} <= set(ran)


def test_what_cannot_change_an_answer_computes_nothing(warm):
    """The order of languages, workers, batch sizes, the run's name, retries and memory."""
    root, first, _ = warm
    changes = {
        "languages__targets": ["zh", "sw"],
        "run__name": "other",
        "run__retries": 3,
        "run__workers": 1,
        "sampling__batch_size": 3,
        "training__logit_memory": 0,
        "training__save_every": 2,
        "training__tokens_per_forward": 300,
        "evaluation__sampling": {"max_new_tokens": 32, "batch_size": 5},
    }
    summary, ran = run_small(root, **changes)
    assert ran == []
    assert {stage.state for stage in summary.stages} == {"cached"}
    assert {ref.sha256 for ref in summary.artifacts} == {ref.sha256 for ref in first.artifacts}


def test_a_training_setting_computes_training_and_after(warm):
    root, _, _ = warm
    summary, ran = run_small(root, training__beta=1.25, training__consistency={"width": 16})
    assert is_training_and_after(ran, "en", "sw", "zh")
    assert ["loss/consistency" in step for step in summary.training if "loss" in step] == [False, True, False, True]


def test_a_new_language_computes_its_own_shards_and_what_joins_them(warm):
    root, _, _ = warm
    _, ran = run_small(root, languages__targets=["sw", "zh", "ar"])
    own = [name for name in ran if "-ar-" in name and not name.endswith("-after")]
    assert sorted({name.split("-ar-")[0] for name in own}) == [
        "judge",
        "pairs",
        "reference",
        "sample",
        "translate",
        "translate-answers",
    ]
    rest = set(ran) - set(own)
    joining = {"evaluate-before", "read-text-before", "evaluate-utility-before"}
    assert joining <= rest
    assert is_training_and_after(rest - joining, "ar", "en", "sw", "zh")


def _delete(path):
    path.unlink()


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_damaged_files_compute_their_shards_only(warm):
    root, summary, _ = warm
    damaged = [
        (_delete, "translation", "sw", "translate"),
        (_truncate, "sampling", "zh", "sample"),
        (_flip, "pairs", "sw", "pairs"),
    ]
    for damage, stage, language, _ in damaged:
        damage(root / shards(summary, stage, language)[0].path)
    _, ran = run_small(root)
    assert len(ran) == len(damaged)
    for _, _, language, verb in damaged:
        assert len([name for name in ran if name.startswith(f"{verb}-{language}-")]) == 1
    assert run_small(root)[1] == []


def test_a_damaged_model_computes_training_only(warm):
    root, summary, _ = warm
    model = next(ref for ref in summary.artifacts if ref.stage == "training" and not ref.path.endswith(".parquet"))
    _flip(root / model.path / "model.safetensors")
    # The same seeds give the same bytes, so nothing after it is computed.
    assert run_small(root)[1] == ["train-mpo"]


def test_a_raised_version_stops_where_bytes_are_equal(warm, monkeypatch):
    root, _, _ = warm
    monkeypatch.setattr(policy_of(judge_answers), "version", policy_of(judge_answers).version + 1)
    _, ran = run_small(root)
    assert ran
    assert {name.split("-")[0] for name in ran} == {"judge"}


def test_a_raised_version_goes_on_where_bytes_changed(warm, monkeypatch):
    import tasks.judging
    from mpo_core.judging import judge_responses

    def renamed(*arguments):
        table = judge_responses(*arguments)
        column = table.schema.get_field_index("reason")
        return table.set_column(column, table.schema.field(column), [["another reason"] * table.num_rows])

    root, _, _ = warm
    monkeypatch.setattr(policy_of(judge_answers), "version", policy_of(judge_answers).version + 2)
    monkeypatch.setattr(tasks.judging, "judge_responses", renamed)
    _, ran = run_small(root)
    # Pairs and metrics read the verdicts and are computed; they come out equal, so nothing after them is.
    assert {name.split("-")[0] for name in ran} == {"judge", "pairs", "evaluate", "compare"}


def test_without_its_records_everything_is_computed_again_to_the_same_files(warm):
    root, first, cold = warm
    shutil.rmtree(root / ".results")
    again, ran = run_small(root)
    assert ran == cold
    assert [ref.path for ref in again.artifacts] == [ref.path for ref in first.artifacts]


def test_a_clock_that_was_moved_computes_nothing(warm):
    """Half of the files are ten years old, the other half come from the future."""
    root, _, _ = warm
    for number, path in enumerate(sorted(root.rglob("*"))):
        moment = time.time() + (-10, 10)[number % 2] * 365 * 86400
        os.utime(path, (moment, moment))
    assert run_small(root)[1] == []


def test_what_an_older_version_left_behind_is_read(warm, mpo):
    """Records without `made_by`, versions without lineage, a summary without `since`."""
    root, first, _ = warm
    records = [path for path in (root / ".results").iterdir() if path.is_file()]
    for path in records:
        path.write_text(re.sub(r',\\?"made_by\\?":\\?"[^"\\]*\\?"', "", path.read_text()))
    assert not any("made_by" in path.read_text() for path in records)
    for path in (root / "registry" / "events").iterdir():
        event = json.loads(path.read_text())
        event.pop("evaluation")
        for name in ("targets", "prompts", "evaluation") if event["entry"] else ():
            event["entry"].pop(name)
        path.write_text(json.dumps(event))
    summary = root / "runs" / "small" / "summary.json"
    fields = json.loads(summary.read_text())
    summary.write_text(json.dumps({name: value for name, value in fields.items() if not name.startswith("since")}))

    assert mpo("report", "small", "--root", root).code == 0
    assert mpo("models", "list", "--root", root).code == 0
    again, ran = run_small(root)
    assert ran == []
    assert again.version == first.version


def test_a_copied_root_stands_alone(warm, tmp_path):
    """What `cp -r` of a root gives is read where it lies: a table that it lacks is computed, for it alone."""
    root, first, _ = warm
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    gone = shards(first, "pairs", "sw")[0]
    (copy / gone.path).unlink()
    _, ran = run_small(copy)
    assert [name.split("-")[0] for name in ran] == ["pairs"]
    assert (copy / gone.path).is_file()
    # The registry, the summaries and the records of the copy name no root either.
    places = [path for path in copy.rglob("*") if path.is_file() and ".locks" not in path.parts]
    assert [str(path) for path in places if str(root).encode() in path.read_bytes()] == []
    assert "root" not in json.loads((copy / "runs" / "small" / "summary.json").read_text())["config"]["run"]
