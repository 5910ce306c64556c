"""Several runs side by side."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from mpo_core.reporting import BenchmarkCard, RunSummary, compare_runs, differences, runs_table
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
    recorded = [BenchmarkCard(digests={"en": "0" * 64})]
    same = compare_runs([make(benchmarks=recorded), make(benchmarks=recorded)], ["first", "second"])
    assert "Read this before" not in same

    console = Console(width=160, file=io.StringIO(), record=True)
    console.print(runs_table([summary, other], ["first", "second"]))
    lines = console.export_text().splitlines()
    assert next(line for line in lines if line.strip().startswith("first")).split()[1:3] == ["15.3", "%"]


def test_prompts_of_two_files_are_not_taken_for_the_same(make: Any) -> None:
    def of_file(name: str, **digests: str) -> RunSummary:
        return make(benchmarks=[BenchmarkCard(label=name, digests=digests)])

    first, copy, other = of_file("a.csv", en="1", sw="2"), of_file("b.csv", en="1"), of_file("b.csv", en="1", sw="3")
    assert differences([first, copy]) == []
    note = "the runs have other prompts in Swahili, so their figures differ for that too."
    assert differences([first, other]) == [f"a.csv / b.csv: {note}"]
    unknown = "one of the runs does not record its prompts, so it is unknown whether the others have the same."
    assert differences([first, make()]) == [f"a.csv / Held-out prompts: {unknown}"]

    console = Console(width=160, file=io.StringIO(), record=True)
    console.print(runs_table([first, other], ["first", "second"]))
    assert "a.csv / b.csv" in console.export_text()
    assert "<h2>a.csv / b.csv: " in compare_runs([first, other], ["first", "second"])


def test_a_judge_is_its_whole_card_but_not_the_place_of_its_files(make: Any) -> None:
    recorded = [BenchmarkCard(digests={"en": "1"})]
    guard = {"judge": "guard", "controversial answers": "count as safe", "model": "x", "sha256 of its files": "0" * 64}
    first, moved = (make(benchmarks=recorded, judge=guard | {"model": place}) for place in ("x", "y"))
    assert differences([first, moved]) == []
    strict = make(benchmarks=recorded, judge=guard | {"controversial answers": "count as unsafe"})
    (note,) = differences([first, strict])
    assert "different judges (controversial answers: count as safe and count as unsafe)" in note
    other = make(benchmarks=recorded, judge=guard | {"sha256 of its files": "1" * 64})
    assert "sha256 of its files: 000000000000 and 111111111111)" in differences([first, other])[0]

    own = [card.model_copy(update={"judge": "guard", "judge_card": guard}) for card in recorded]
    theirs = [card.model_copy(update={"judge": "guard", "judge_card": strict.judge}) for card in recorded]
    (note,) = differences([make(benchmarks=own), make(benchmarks=theirs)])
    assert note.startswith("Held-out prompts: the runs have different judges (controversial answers: ")
