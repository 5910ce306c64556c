"""`mpo evaluate` and `mpo train` work with the tasks and the cache of the pipeline."""

import csv
import json
import re

import pyarrow.parquet as pq
import pytest
import yaml

from tests.faults.conftest import write_pairs  # noqa: F401 - a fixture
from tests.flows.conftest import ledger, run_small, small_settings


@pytest.fixture
def evaluate(mpo, prompts_csv, tmp_path):
    """Runs `mpo evaluate` on the CSV file; gives its figures and what it computed."""
    source = {"source": "csv", "path": str(prompts_csv), "kind_column": "kind", "split": "test"}
    profile = tmp_path / "profile.yaml"
    profile.write_text(yaml.safe_dump(small_settings(tmp_path / "root", prompts__sources=[source])))

    def run(*more):
        with ledger() as ran:
            done = mpo("evaluate", profile, "--model", "microworld", "--prompts", prompts_csv, "--json", *more)
        assert done.code == 0, done
        return json.loads(done.out), sorted(ran)

    return run


def test_a_second_evaluation_computes_nothing(prefect_server, evaluate):
    first, ran = evaluate()
    assert "sample-sw-test-model" in ran
    assert evaluate() == (first, [])
    # A model that is compared with itself has answered already, under another name.
    _, ran = evaluate("--against", "microworld")
    assert ran == [
        "compare-before-after",
        "compare-utility-before-after",
        "diverge-en-test-after",
        "evaluate-after",
        "evaluate-before",
        "evaluate-utility-after",
        "evaluate-utility-before",
    ]


def test_a_benchmark_by_name_has_its_answers_page_and_log(prefect_server, mpo, tmp_path, monkeypatch):
    out = tmp_path / "out"
    few = ["--languages", "en,sw", "--limit", 2, "--set", "evaluation.sampling.max_new_tokens=8"]
    given = ["evaluate", "--model", "microworld", "--benchmark", "own_over_refusal", *few]
    with monkeypatch.context() as patched:  # a full disk, say
        patched.setattr("flows.evaluation_folder.write_inspect_log", lambda *_: 1 / 0)
        assert mpo(*given, "--out", out, "--inspect").code == 1
    assert not out.exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".out")]
    with ledger() as ran:
        done = mpo(*given, "--out", out, "--csv", "--inspect", "--json")
    assert (done.code, ran) == (0, []), done
    result = json.loads(done.out)
    assert {row["benchmark"] for row in result["metrics"]} == {"own_over_refusal", "parallel_text"}
    assert result["report"] == str(out / "report.html")
    place = out / "model" / "own_over_refusal"
    answers = pq.read_table(place / "answers.parquet")
    assert sorted(answers["language"].to_pylist()) == ["en", "en", "sw", "sw"]
    assert pq.read_table(place / "verdicts.parquet").num_rows == 4
    with (out / "answers.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["answer"] for row in rows] == answers["text"].to_pylist()
    assert {row["outcome"] for row in rows} <= {"safe_refusal", "safe_help", "unsafe", "invalid", "unjudged"}
    (path,) = (out / "inspect").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\+00-00_own-over-refusal-model_[0-9a-f]{22}\.json", path.name)
    log = json.loads(path.read_text())
    assert [sample["output"]["choices"][0]["message"]["content"] for sample in log["samples"]] == [
        row["answer"] for row in rows
    ]
    assert [sample["scores"]["judge"]["answer"] for sample in log["samples"]] == [row["answer"] for row in rows]
    assert all((path.stat().st_mode & 0o077) == 0 for path in out.rglob("*.*"))
    summary = json.loads((out / "summary.json").read_text())
    assert summary["models"] == {"model": "microworld"}
    assert sum(sum(row["counts"].values()) for row in summary["outcomes"]) == 4
    both = mpo("report", "compare", out, out, "--out", tmp_path / "both.html", "--json")
    assert both.code == 0, both
    assert (tmp_path / "both.html").stat().st_size > 1000


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "nothing to measure is named"),
        (["--benchmark", "unheard_of"], "unknown benchmark. Name one of "),
        (["--benchmark", "multijail"], "this benchmark needs a file. Write multijail=FILE, or "),
        (["--benchmark", "own_over_refusal", "--csv"], "need a folder to write into. Give --out FOLDER."),
        (["--benchmark", "own_over_refusal=x"], "comes with mpo and takes no file"),
    ],
)
def test_what_cannot_be_measured_is_one_clear_error(mpo, given, message):
    done = mpo("evaluate", "--model", "microworld", *given)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert len(done.err.splitlines()) == 1


def test_an_evaluation_that_failed_half_way_goes_on(prefect_server, evaluate, monkeypatch):
    import tasks.judging

    with monkeypatch.context() as patched, ledger() as before:
        patched.setattr(tasks.judging, "judge_responses", lambda *_: 1 / 0)
        with pytest.raises(AssertionError):
            evaluate()
    assert any(name.startswith("sample-") for name in before)
    _, ran = evaluate()
    assert not {name for name in ran if name.startswith("sample-")} & set(before)


def test_prompts_that_a_run_has_sampled_are_not_sampled_again(prefect_server, evaluate, prompts_csv, tmp_path):
    own = {"source": "csv", "path": str(prompts_csv), "kind_column": "kind", "split": "test"}
    train = [{"source": "microworld", "kind": kind, "split": "train", "limit": 6} for kind in ("harmful", "harmless")]
    run_small(tmp_path / "root", prompts__sources=[own, *train])
    _, ran = evaluate()
    assert ran == ["evaluate-model", "evaluate-utility-model"]


def test_a_second_training_copies_the_first(prefect_server, mpo, write_pairs, tmp_path):  # noqa: F811
    pairs = write_pairs(count=6)
    fast = [f"training.{setting}" for setting in ("max_steps=2", "threads=1", "batch_size=2", "tensorboard=true")]
    given = ["train", "--pairs", pairs, "--model", "microworld", "--json", *(p for s in fast for p in ("--set", s))]
    results = []
    for name in ("first", "second"):
        with ledger() as ran:
            done = mpo(*given, "--out", tmp_path / name)
        assert done.code == 0, done
        results.append((json.loads(done.out) | {"model": "", "trainer_state": ""}, bool(ran)))
    assert results == [(results[0][0], True), (results[0][0], False)]
    files = [
        {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in ("first", "second")
    ]
    assert {"trainer_state.json", "quarantine.parquet", "model/model.safetensors"} <= files[0].keys()
    assert any(name.startswith("tensorboard/") for name in files[0])
    assert files[0] == files[1]


def test_a_prompt_with_two_pairs_has_two_references(prefect_server, mpo, write_pairs, tmp_path):  # noqa: F811
    row = pq.read_table(write_pairs()).to_pylist()[0]
    other = {"pair_id": "other", "prompt_id": row["prompt_id"], "source_id": "mine", "source_chosen": "I cannot."}
    pairs = write_pairs({1: row | other})
    fast = ["--set", "training.max_steps=1", "--set", "training.threads=1"]
    done = mpo("train", "--pairs", pairs, "--model", "microworld", "--out", tmp_path / "out", "--json", *fast)
    assert done.code == 0, done
    result = json.loads(done.out)
    assert (result["pairs"], result["quarantined"]) == (4, {})
