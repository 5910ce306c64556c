"""Several runs side by side."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from mpo_core.reporting import RunSummary, compare_runs, runs_table
from tests.reporting.test_report import Page


def test_runs_stand_side_by_side_with_what_keeps_them_apart(summary: RunSummary, make: Any) -> None:
    fewer = [row for row in summary.metrics if row.language != "sw"]
    other = summary.model_copy(update={"metrics": fewer, "judge": {"judge": "guard"}, "base_model": "<b>x</b>"})
    page = compare_runs([summary, other], ["first", "<i>second"])
    parsed = Page(page)
    assert parsed.open == []
    assert "<b>x" not in page
    assert "<i>second" not in page
    text = " ".join(parsed.text)
    assert "different judges" in text
    assert "other languages or other numbers of prompts" in text
    assert "22.7 %" in text
    same = compare_runs([summary, make()], ["first", "second"])
    assert "Read this before" not in same

    console = Console(width=160, file=io.StringIO(), record=True)
    console.print(runs_table([summary, other], ["first", "second"]))
    lines = console.export_text().splitlines()
    assert next(line for line in lines if line.strip().startswith("first")).split()[1:3] == ["15.3", "%"]
