"""Summaries that a report can meet: broken figures, strange names, other versions. None may show nonsense or fail."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mpo_core.contract.artifacts import ArtifactStore
from mpo_core.contract.errors import BadInputError
from mpo_core.reporting import RunSummary, before_after_tables, markdown, read, render
from mpo_core.reporting.findings import cautions
from mpo_core.reporting.view import full_rows

NAN, INFINITY = float("nan"), float("inf")
LONG = "Ж" * 3000
MARKUP = "a|b <script>alert(1)</script> [x](y) $\\frac{"


def metric(**changes: Any) -> dict[str, Any]:
    row = {"model": "after", "language": "sw", "metric": "unsafe", "count": 1, "n": 2}
    return row | {"value": 0.5, "low": 0.1, "high": 0.9} | changes


def change(**changes: Any) -> dict[str, Any]:
    row = {"language": "sw", "metric": "unsafe", "n": 2, "gained": 0, "lost": 1}
    return row | {"difference": -0.5, "p_value": 1.0} | changes


def summary_data(**changes: Any) -> dict[str, Any]:
    """The smallest run with a figure, as `summary.json` has it."""
    moment = datetime(2026, 1, 1, tzinfo=UTC).isoformat()
    data = {"run": "small", "started": moment, "finished": moment, "seconds": 1.0, "dominant": "en", "targets": ["sw"]}
    data |= {"config": {}, "base_model": "base", "base_digest": "0", "metrics": [metric(), metric(model="before")]}
    return data | {"comparisons": [change()]} | changes


CASES: dict[str, dict[str, Any]] = {
    "value NaN": {"metrics": [metric(value=NAN)]},
    "value null, as NaN is written": {"metrics": [metric(value=None)]},
    "gap infinite": {"metrics": [metric(metric="reward_gap", value=INFINITY, high=INFINITY)]},
    "interval NaN": {"metrics": [metric(metric="reward_gap", low=NAN, high=NAN)]},
    "p NaN": {"comparisons": [change(p_value=NAN)]},
    "since NaN": {"since": [change(difference=NAN)], "since_version": "v1"},
    "gap huge": {"metrics": [metric(metric="reward_gap", value=1e308), metric()]},
    "loss infinite": {"training": [{"step": 1.0, "loss/gap": INFINITY}, {"step": 2.0, "loss/gap": 1.0}]},
    "loss huge": {"training": [{"step": 1.0, "reward_gap/target": 1e308}, {"step": 2.0, "reward_gap/target": -1e308}]},
    "loss zero at the only step": {"training": [{"step": 1.0, "loss/retention": 0.0}]},
    "one prompt": {"metrics": [metric(n=1, value=1.0, low=0.2, high=1.0)]},
    "no metrics": {"metrics": [], "comparisons": []},
    "no targets": {"targets": [], "metrics": [], "comparisons": []},
    "a target twice": {"targets": ["sw", "sw"]},
    "only the target measured": {"metrics": [metric()]},
    "unknown metric": {"metrics": [metric(metric="other_share")]},
    "unknown metric since": {"since": [change(metric="other_share")], "since_version": "v1"},
    "no settings of a section": {"config": {"evaluation": None, "judging": None}},
    "settings without values": {"config": {"evaluation": {"confidence": None}, "judging": {"judge": None}}},
    "settings of another version": {"config": {"judging": {"judge": "refusal_rules", "split_samples": 3}}},
    "unreadable settings of a judge": {"config": {"judging": {"judge": "microworld", "max_repetition": "often"}}},
    "field of a newer version": {"colour": "blue", "metrics": [metric(shade="dark")]},
    "markup in names": {"run": MARKUP, "targets": [MARKUP], "metrics": [metric(language=MARKUP)]},
    "long names": {"run": LONG, "base_model": LONG, "targets": [LONG], "metrics": [metric(language=LONG)]},
    "right-to-left names": {"run": "تجربة", "base_model": "\u202eabc", "inputs": ["نموذج"]},
}


def printed(summary: RunSummary) -> str:
    """Returns the console's table of a run."""
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(before_after_tables(summary))
    return console.export_text()


@pytest.mark.parametrize("name", CASES)
def test_every_summary_gives_a_page_without_nonsense(name: str, tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    store.write_text("runs/small/summary.json", json.dumps(summary_data(**CASES[name])))
    summary = read(store, "runs/small")
    page, note, table = render(summary), markdown(summary), printed(summary)
    assert not re.search(r"\b(nan|inf|None)\b", page + note + table)
    assert "<script" not in page
    assert "<script" not in note.replace("\\<", "")
    written = summary.model_dump_json()
    store.write_text("runs/small/summary.json", written)
    assert read(store, "runs/small").model_dump_json() == written


@pytest.mark.parametrize("value", [NAN, INFINITY, -INFINITY, None])
def test_a_figure_that_is_not_finite_is_named_and_counts_as_not_measured(value: float | None) -> None:
    summary = RunSummary.model_validate(summary_data(metrics=[metric(value=value), metric(model="before")]))
    assert summary.metric("after", "sw", "unsafe") is None
    assert any("after: unsafe in sw" in caution for caution in cautions(summary))


def test_a_metric_that_the_report_does_not_know_is_shown() -> None:
    summary = RunSummary.model_validate(summary_data(metrics=[metric(metric="other_share")]))
    assert [row["metric"] for row in full_rows(summary)] == ["other share"]


def test_drift_is_no_percentage() -> None:
    drift = metric(metric="dominant_drift", language="en", value=0.031, low=0.03, high=0.032)
    (row,) = full_rows(RunSummary.model_validate(summary_data(metrics=[drift])))
    assert row["change"]["after"] == ("0.031", "0.030 to 0.032")


def test_the_names_of_a_runs_own_languages_are_shown(tmp_path: Path) -> None:
    facts = {"code": "dv", "name": "Dhivehi", "script": "Thaa", "right_to_left": True}
    data = summary_data(config={"languages": {"defined": [facts]}}, targets=["dv"], metrics=[metric(language="dv")])
    store = ArtifactStore(str(tmp_path))
    store.write_text("runs/small/summary.json", json.dumps(data))
    assert "Dhivehi" in render(read(store, "runs/small"))


BROKEN: dict[str, Callable[[dict[str, Any]], str | bytes]] = {
    "metrics: Input should be a valid array": lambda data: json.dumps(data | {"metrics": 3}),
    "metrics.0.value: Input should be a valid number": lambda data: json.dumps(data | {"metrics": [metric(value="x")]}),
    "base_model: Field required": lambda data: json.dumps({key: data[key] for key in data if key != "base_model"}),
    "the file: Invalid JSON": lambda data: json.dumps(data)[:-20],
    "the file: Input should be an object": lambda _: "[]",
    "the file: ": lambda _: b"\xff\xfe\x00",
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_broken_summary_is_refused_with_the_place(message: str, tmp_path: Path) -> None:
    content = BROKEN[message](summary_data())
    file = tmp_path / "runs" / "small" / "summary.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(BadInputError, match=re.escape(f"this is not the summary of a run: {message}")) as error:
        read(ArtifactStore(str(tmp_path)), "runs/small")
    assert "\n" not in str(error.value)
