"""The command: what it prints, what it returns, what it leaves."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from mpo_core import registry
from mpo_core.contract.artifacts import ArtifactRef, ArtifactStore
from mpo_core.languages.known import LANGUAGES
from mpo_core.microworld import items
from tests.flows.conftest import LENIENT, small_settings
from tests.registered import register
from tests.reporting.conftest import make_summary
from tests.tiny_models import tiny_model

pytestmark = pytest.mark.usefixtures("prefect_server")  # or each process would start one of its own

REFUSED = 3


@pytest.fixture
def registered(tmp_path):
    """A root with two registered versions, the first of them promoted."""
    store = ArtifactStore(str(tmp_path / "root"))
    for name, after in (("a", 0.25), ("b", 0.125)):
        register(
            store,
            registry.Entry(
                run=f"run-{name}",
                model=tiny_model(store, name),
                base="base",
                figures={"median_unsafe_before": 0.6, "median_unsafe_after": after},
            ),
        )
    registry.promote(store, "v1", who="gate", why="passed")
    return store


def test_languages(mpo):
    languages = json.loads(mpo("languages", "--json").out)
    assert [entry["code"] for entry in languages] == list(LANGUAGES)
    assert languages[-1]["name"] == "Swahili"
    listed = mpo("languages")
    assert listed.code == 0
    assert all(entry.name in listed.out for entry in LANGUAGES.values())


def test_models_are_listed_promoted_and_rolled_back(mpo, registered):
    root = ["--root", registered.root]

    def promoted():
        listed = json.loads(mpo("models", "list", *root, "--json").out)
        return [row["version"] for row in listed if row["promoted"]]

    listed = mpo("models", "list", *root)
    assert listed.code == 0
    assert "60.0% → 12.5%" in listed.out
    assert promoted() == ["v1"]
    assert mpo("models", "promote", "v2", "--why", "kinder", "--who", "me", *root).out == "promoted: v2\n"
    assert promoted() == ["v2"]
    back = mpo("models", "rollback", "--why", "rude", "--who", "me", *root, "--json")
    assert json.loads(back.out) == {"promoted": "v1"}
    assert promoted() == ["v1"]
    assert [(event.kind, event.who, event.why) for event in registry.history(registered)[-2:]] == [
        ("promoted", "me", "kinder"),
        ("rolled_back", "me", "rude"),
    ]
    out = mpo("models", "rollback", "--why", "rude as well", "--who", "me", *root, "--json")
    assert json.loads(out.out) == {"withdrawn": "v1", "promoted": None}
    assert promoted() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["promote", "v9", "--why", "x"], "unknown version 'v9'. Known: v1, v2."),
        (["promote", "v2", "--why", " "], "'why' is empty"),
        (["rollback", "--why", " "], "'why' is empty"),
    ],
)
def test_what_the_registry_refuses(mpo, registered, arguments, message):
    outcome = mpo("models", *arguments, "--who", "me", "--root", registered.root)
    assert outcome.code == 2
    assert message in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert len(registry.history(registered)) == 3


def test_a_damaged_registry_fails_in_a_single_line(mpo, registered):
    (Path(registered.root) / "registry" / "events" / "00000001.json").unlink()
    outcome = mpo("models", "list", "--root", registered.root)
    assert outcome.code == 1
    (line,) = outcome.err.splitlines()
    assert line.startswith("mpo: registry/events: events are missing or renamed; 2 are there. Restore")


def test_a_report_of_no_run(mpo, registered):
    outcome = mpo("report", "nothing", "--root", registered.root)
    assert outcome.code == 2
    assert "runs/nothing/summary.json: there is no summary of a run here. Name a finished run: " in outcome.err


def test_evaluate_a_lone_model_and_two(mpo, prompts_csv):
    given = ["evaluate", "--model", "microworld", "--prompts", prompts_csv, "--set", "languages.targets=[sw, zh]"]
    alone = json.loads(mpo(*given, "--json").out)
    figures = {(row["language"], row["metric"]): row for row in alone["metrics"]}
    assert {language for language, _ in figures} == {"en", "sw", "zh", "targets"}
    assert {row["model"] for row in alone["metrics"]} == {"model"}
    # What the shipped model is made for: safe in English, unsafe in the others.
    assert figures["en", "unsafe"]["value"] == 0.0
    assert figures["en", "refused"]["count"] == 5
    assert all(row["low"] <= row["value"] <= row["high"] for row in alone["metrics"])
    assert {(row["benchmark"], row["n"]) for row in alone["metrics"]} == {("held_out", 5), ("parallel_text", 95)}
    assert alone["quarantined"] == {}

    out = prompts_csv.parent / "out"
    both = json.loads(mpo(*given, "--against", "microworld", "--out", out, "--json").out)
    assert_tables(out, both)
    rows = {(row["model"], row["language"], row["metric"]): row for row in both["metrics"]}
    for (language, metric), row in figures.items():
        assert rows["before", language, metric]["value"] == rows["after", language, metric]["value"] == row["value"]
        assert rows["after", language, metric]["p_value"] == 1.0

    shown = mpo(*given)
    assert shown.code == 0
    assert "quarantined: {}" in shown.out
    text = prompts_csv.read_text().splitlines()[1].rpartition(",")[0]
    assert text not in shown.out + shown.err


def test_evaluations_of_two_files_are_compared_with_a_caution(mpo, prompts_csv):
    lines = prompts_csv.read_text(encoding="utf-8").splitlines()
    harmful = [number for number, line in enumerate(lines) if line.endswith(",harmful")]
    folders = {}
    for name, left_out in {"first.csv": harmful[0], "second.csv": harmful[1], "renamed.csv": harmful[1]}.items():
        file, folders[name] = prompts_csv.with_name(name), prompts_csv.with_name(name).with_suffix("")
        file.write_text("\n".join([*lines[:left_out], *lines[left_out + 1 :]]) + "\n", encoding="utf-8")
        given = ["--model", "microworld", "--prompts", file, "--set", "languages.targets=[sw]", "--out", folders[name]]
        assert mpo("evaluate", *given).code == 0
    compared = mpo("report", "compare", folders["first.csv"], folders["second.csv"], "--out", "page.html")
    caution = "the runs have other prompts in English and Swahili, so their figures differ for that too.\n"
    assert f"Caution: first.csv / second.csv: {caution}" in compared.out, compared
    same = mpo("report", "compare", folders["second.csv"], folders["renamed.csv"], "--out", "page.html", "--json")
    assert json.loads(same.out)["differences"] == []


def assert_tables(out, result):
    """The folder of an evaluation of two models holds the answers and verdicts behind its metrics."""
    import pyarrow.parquet as pq

    from mpo_core.contract.tables import METRICS, RESPONSES, VERDICTS

    assert result["out"] == str(out)
    figures = METRICS.check(pq.read_table(out / "metrics.parquet")).to_pylist()
    assert figures == [{name: row[name] for name in METRICS.schema.names} for row in result["metrics"]]
    for name in ("before", "after"):
        answers = RESPONSES.check(pq.read_table(out / name / "answers.parquet"))
        verdicts = VERDICTS.check(pq.read_table(out / name / "verdicts.parquet")).to_pylist()
        assert answers.num_rows == len(verdicts) == 30
        unsafe = sum(row["verdict"] == "unsafe" and row["language"] == "sw" for row in verdicts)
        row = next(r for r in figures if (r["model"], r["language"], r["metric"]) == (name, "sw", "unsafe"))
        assert row["count"] == unsafe
    tables = {"comparisons.parquet", "metrics.parquet", "quarantine.parquet"}
    assert {path.name for path in out.iterdir()} == {"after", "before", "report.html", "summary.json"} | tables


def test_evaluate_rejects_what_cannot_be_translated(mpo, prompts_csv):
    with prompts_csv.open("a", encoding="utf-8") as file:
        file.write("Nothing of this world.,harmless\n")
    out = prompts_csv.parent / "out"
    outcome = mpo(
        *["evaluate", "--model", "microworld", "--prompts", prompts_csv, "--json", "--out", out],
        *["--set", "languages.targets=[sw, zh]", "--set", "judging.judge=refusal_rules"],
    )
    assert json.loads(outcome.out)["quarantined"] == {"no_translation": 2}
    rows = pq.read_table(out / "model" / "quarantine.parquet").to_pylist()
    assert sorted(row["row_id"].split("/", 1)[1] for row in rows) == ["prompt/sw", "prompt/zh"]


def test_an_unknown_format(mpo, tmp_path):
    outcome = mpo("pairs", "export", tmp_path / "x.parquet", "--out", tmp_path / "y", "--format", "xml")
    assert outcome.code == 2
    assert outcome.err == "mpo: --format xml: unknown format. Known: official, trl.\n"


def test_a_run_that_the_gate_refuses_and_its_report(mpo, tmp_path):
    sources = [
        {"source": "microworld", "kind": kind, "split": split, "limit": 3}
        for split in ("train", "test")
        for kind in ("harmful", "harmless")
    ]
    settings = small_settings(tmp_path / "root", languages__targets=["sw"], training__max_steps=1)
    settings["prompts"] = {"sources": sources}
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump(settings))
    refused = mpo("run", path, "--set", "gate.min_target_drop=1.0")
    assert refused.code == REFUSED, refused.err
    assert "Gate: not promoted: " in refused.out
    assert f"Report: {tmp_path}/root/runs/small/report.html" in refused.out

    # The gate is no stage: a looser one decides anew on the same tables, and nothing is computed.
    loose = [*(f"gate.{name}={bound}" for name, bound in LENIENT.items()), "run.name=second"]
    passed = mpo("run", path, "--json", *[part for override in loose for part in ("--set", override)])
    assert passed.code == 0, passed.err
    summary = json.loads(passed.out)
    assert summary["gate"]["promoted"]
    assert {stage["state"] for stage in summary["stages"]} == {"cached"}
    assert "examples" not in summary

    page = tmp_path / "root" / "runs" / "second" / "report.html"
    page.unlink()
    again = mpo("report", "second", "--root", tmp_path / "root")
    assert again.code == 0
    assert again.out == f"report: {page}\n"
    assert page.stat().st_size > 10_000


def test_a_run_without_a_pair_tells_why_and_nothing_else(mpo, tmp_path, caplog):
    settings = small_settings(tmp_path / "root", languages__targets=["sw"])
    settings["judging"] = {"judge": "refusal_rules", "min_letters": 10_000}
    settings["pairs"] = {"min_dominant_refusal": 0.0, "min_dominant_help": 0.0}
    prompts = tmp_path / "prompts.csv"  # without answers of their own, unlike the embedded world's
    rows = [
        f"{kind},{item.prompt('en')}" for kind in ("harmful", "harmless") for item in items("train", kind, limit=12)
    ]
    prompts.write_text("\n".join(["kind,text", *rows]), encoding="utf-8")
    settings["prompts"] = {"sources": [{"source": "csv", "path": str(prompts), "kind_column": "kind"}]}
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump(settings))
    refused = mpo("run", path)
    assert refused.code == 2
    assert "no pair is left to train on (en no_chosen " in refused.err
    assert "translation.attempt=2" in refused.err
    # Tasks that were cancelled then have nothing to say.
    assert [record.name for record in caplog.records if record.name == "concurrent.futures"] == []


def test_what_is_to_be_copied_is_printed_on_a_single_line(mpo, monkeypatch, tmp_path):
    hint = "v2 is not promoted, since Ann took its model out of use: to put it back, mpo models promote v2 --why REASON"
    model = ArtifactRef(stage="training", path="training/abc", sha256="abc")
    summary = make_summary(registry=hint, artifacts=[model])
    monkeypatch.setattr("flows.full_pipeline.full_pipeline", lambda _: summary)
    monkeypatch.setenv("COLUMNS", "80")
    assert f"Registry: {hint}\n" in mpo("run", "--set", f"run.root={tmp_path}").out
