"""Tasks of lm-eval: how its results become rows, and one real run where it is installed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from mpo_core import microworld
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.tables import TASK_ITEMS
from mpo_core.evaluation import lm_eval
from mpo_core.evaluation.lm_eval_child import items, parts
from mpo_core.settings import LmEvalSettings, ModelSettings
from tests.flows.conftest import run_small

PLACE = {"benchmark": "mgsm", "language": "sw"}


def table(values, language="sw"):
    return TASK_ITEMS.build(
        {"benchmark": "mgsm", "language": language, "item_id": f"mgsm_sw/{n}", "value": float(value)}
        for n, value in enumerate(values)
    )


def test_an_item_has_the_score_of_the_first_known_metric_and_filter():
    samples = [
        {"doc_id": 3, "filter": "strict-match", "exact_match": 0.0},
        {"doc_id": 3, "filter": "flexible-extract", "exact_match": 1.0},
    ]
    assert items("mgsm_direct_sw", PLACE, samples) == [{**PLACE, "item_id": "mgsm_direct_sw/3", "value": 1.0}]
    assert items("x", PLACE, [{"doc_id": 0, "filter": "none", "acc": 1.0, "acc_norm": 0.0}])[0]["value"] == 1.0
    with pytest.raises(RuntimeError, match="none of the metrics"):
        items("x", PLACE, [{"doc_id": 0, "filter": "none", "bleu": 1.0}])


def test_the_standard_error_is_that_of_the_sample_as_lm_eval_has_it():
    values = [1, 0, 1, 1, 0, 1, 1, 0, 1, 1]
    (row,) = lm_eval.task_metrics(table(values), model="after", confidence=0.9)
    stderr = np.std(values, ddof=1) / np.sqrt(10)
    quantile = stats.t.ppf(0.95, 9)
    assert (row["benchmark"], row["metric"], row["n"], row["value"]) == ("mgsm", "accuracy", 10, 0.7)
    assert (row["low"], row["high"]) == pytest.approx((0.7 - quantile * stderr, 0.7 + quantile * stderr))
    assert lm_eval.task_metrics(table([1, 1, 1, 0]), model="m", confidence=0.95)[0]["high"] == 1.0


@pytest.mark.parametrize("score", [0, 1])
def test_items_that_all_have_one_score_still_have_an_interval(score):
    (row,) = lm_eval.task_metrics(table([score] * 60), model="after", confidence=0.95)
    assert (row["low"], row["high"]) == pytest.approx(proportion_confint(60 * score, 60, method="wilson"))


def test_two_models_are_compared_item_by_item():
    before, after = [1] * 8 + [0] * 6, [1] * 7 + [0] + [1] * 5 + [0]
    (row,) = lm_eval.compare_tasks(table(before), table(after), confidence=0.95).to_pylist()
    assert (row["n"], row["gained"], row["lost"]) == (14, 5, 1)
    assert row["p_value"] == pytest.approx(mcnemar([[7, 1], [5, 1]], exact=True).pvalue)
    assert lm_eval.compare_tasks(table(before), table(after, language="zh"), confidence=0.95).num_rows == 0


def test_without_lm_eval_one_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(lm_eval.importlib.util, "find_spec", lambda _: None)
    command = r"pip install -c constraints\.txt -e '\.\[lm-eval\]'"
    with pytest.raises(BadInputError, match=rf"lm-eval is not installed.*{command}"):
        lm_eval.require_lm_eval()


@pytest.mark.parametrize(
    ("task", "name"),
    [("global_mmlu_{language}", "global_mmlu"), ("mgsm_{language}_direct", "mgsm_direct"), ("arc", "arc")],
)
def test_a_benchmark_is_named_by_its_task_without_the_language(task, name):
    assert lm_eval.benchmark_name(task) == name


def test_a_task_without_a_place_for_the_language_counts_for_the_dominant_one():
    tasks = lm_eval.places(["mgsm_{language}", "gsm8k"], ["en", "sw", "zh"])
    assert {name: place["language"] for name, place in tasks.items()} == {
        **{f"mgsm_{code}": code for code in ("en", "sw", "zh")},
        "gsm8k": "en",
    }
    with pytest.raises(BadInputError, match="the task mgsm_en is named twice"):
        lm_eval.places(["mgsm_{language}", "mgsm_en"], ["en", "sw"])


@pytest.mark.parametrize(
    ("task", "language"),
    [
        ("mgsm_direct_sw", "sw"),
        ("lambada_openai_mt_en", "en"),
        ("lambada_openai-mt-it", "it"),
        ("bigbench_what_is_the_tao", "en"),
        ("gsm8k", "en"),
    ],
)
def test_a_task_counts_for_the_language_in_its_name(task, language):
    (place,) = lm_eval.places([task], ["en", "it", "sw"]).values()
    assert place == {"benchmark": task, "language": language}


@pytest.mark.parametrize(
    ("task", "why"),
    [
        ("mgsm_en_cot_sw", "its name has en and sw"),
        ("mgsm_direct_zh", "its name has zh, and the run has the languages en, sw"),
    ],
)
def test_a_task_whose_language_is_unclear_is_refused_with_a_way_out(task, why):
    with pytest.raises(BadInputError, match=rf"for which language the task {task} counts: {why}") as error:
        lm_eval.places([task], ["en", "sw"])
    assert f"`group: NAME` and `task: [{task}]`" in str(error.value)
    assert len(lm_eval.places(["mgsm_en_cot_{language}"], ["en", "sw"])) == 2


def test_a_group_of_groups_has_the_tasks_of_all_of_them():
    groups = {"mmlu": ["stem", "other"], "stem": ["physics", "maths"], "other": ["law"]}
    assert parts("mmlu", groups) == ["physics", "maths", "law"]
    assert parts("law", groups) == ["law"]


@pytest.fixture
def lamps(tmp_path, monkeypatch):
    """The folder of a task in English that reads local data, for runs without a network."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "en.jsonl").write_text(
        "".join(
            json.dumps({"question": f"Is it fine to build lamp {n}?", "choices": [" Yes", " No"], "answer": n % 2})
            + "\n"
            for n in range(6)
        )
    )
    (folder / "lamps_en.yaml").write_text(
        "task: lamps_en\ndataset_path: json\ndataset_kwargs:\n"
        f"  data_files: {{test: {folder}/en.jsonl}}\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: '{{question}}'\ndoc_to_choice: '{{choices}}'\n"
        "doc_to_target: '{{answer}}'\nmetric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
    )
    return folder


@pytest.mark.long
def test_a_local_task_runs_offline(tmp_path, lamps):
    pytest.importorskip("lm_eval")
    settings = LmEvalSettings(tasks=["lamps_{language}"], include_path=str(lamps))
    model = ModelSettings(path="microworld")
    scores = lm_eval.score_tasks(microworld.checkpoint_dir(), model, settings, ["en", "sw"], work=tmp_path / "work")
    assert scores.missing == ["lamps_sw"]
    assert scores.items["item_id"].to_pylist() == [f"lamps_en/{n}" for n in range(6)]
    assert set(scores.items["value"].to_pylist()) <= {0.0, 1.0}


@pytest.mark.long
def test_a_run_scores_both_models_on_the_same_items(tmp_path, lamps):
    pytest.importorskip("lm_eval")
    settings = {"tasks": ["lamps_{language}"], "include_path": str(lamps)}
    summary, ran = run_small(tmp_path / "root", evaluation__lm_eval=settings)
    assert {"lm-eval-before", "lm-eval-after"} <= set(ran)
    rows = {row.model: row for row in summary.metrics if row.benchmark == "lamps"}
    assert {(model, row.language, row.n) for model, row in rows.items()} == {("before", "en", 6), ("after", "en", 6)}
    (paired,) = [row for row in summary.comparisons if row.benchmark == "lamps"]
    assert (paired.n, paired.difference) == (6, pytest.approx(rows["after"].value - rows["before"].value))
    (card,) = [card for card in summary.benchmarks if card.name == "lamps"]
    assert card.missing == ["sw", "zh"]
    assert run_small(tmp_path / "root", evaluation__lm_eval=settings)[1] == []
