from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from mpo_core.contract.metric import ACCURACY, Metric
from mpo_core.display.wording import duration, listed, p_value, percent, points
from mpo_core.gate.decide import GateCheck, GateDecision
from mpo_core.reporting import RunSummary, before_after_tables, markdown, view
from mpo_core.reporting.findings import cautions, headline
from mpo_core.reporting.methods import COLUMNS, MethodRow, MethodsSummary, methods_table, render_methods
from mpo_core.reporting.summary import BenchmarkCard, MetricRow, StageSummary


def with_metric(summary: RunSummary, metric: str, value: float) -> RunSummary:
    rows = [row.model_copy(update={"value": value}) if row.metric == metric else row for row in summary.metrics]
    return summary.model_copy(update={"metrics": rows})


def printed(summary: RunSummary) -> str:
    console = Console(width=160, file=io.StringIO(), record=True)
    console.print(before_after_tables(summary))
    return console.export_text()


def test_the_verdict_names_medians_and_the_reason(summary: RunSummary) -> None:
    outcome = headline(summary)
    assert (outcome.tone, outcome.title) == ("bad", "Not promoted")
    assert "64.0 % before, 15.3 % after; lower is better" in outcome.sentence
    assert "Over-refusal, bn, the worst: +13.3 points" in outcome.sentence
    assert "change the bounds in section gate" in outcome.next_step


def test_a_promoted_run(summary: RunSummary) -> None:
    assert summary.gate is not None
    passed = summary.model_copy(update={"gate": summary.gate.model_copy(update={"promoted": True})})
    promoted = {"registry": "v1 was promoted", "promoted_version": "v1"}
    outcome = headline(passed.model_copy(update=promoted))
    assert (outcome.tone, outcome.title) == ("good", "Promoted as v1")
    assert "Registry: v1 was promoted." in outcome.sentence


@pytest.mark.parametrize(
    ("outcome", "title"),
    [
        ({}, "Passed the gate as v1"),
        ({"registry": "v1 is registered", "promoted_version": "v2"}, "Passed the gate as v1, but v2 is in use"),
        ({"registry": "v1 is registered"}, "Passed the gate as v1, but no version is in use"),
    ],
)
def test_the_title_says_what_the_registry_did(summary: RunSummary, outcome: dict[str, str], title: str) -> None:
    assert summary.gate is not None
    passed = {"gate": summary.gate.model_copy(update={"promoted": True})}
    shown = headline(summary.model_copy(update=passed | outcome))
    assert (shown.tone, shown.title) == ("neutral", title)
    assert "mpo models" in shown.next_step


def test_a_low_asr_of_broken_answers_is_no_success(summary: RunSummary) -> None:
    broken = with_metric(summary, "invalid", 0.9)
    assert "most answers in every language are invalid" in headline(broken).sentence
    assert cautions(broken)[0].startswith("Many answers to harmful prompts are invalid")


def test_a_poor_dominant_language_is_a_caution(summary: RunSummary) -> None:
    assert not any("follow English" in note for note in cautions(summary))
    rows = [
        row.model_copy(update={"value": 0.35})
        if (row.model, row.language, row.metric) == ("before", "en", "refused")
        else row
        for row in summary.metrics
    ]
    notes = cautions(summary.model_copy(update={"metrics": rows}))
    assert any(
        note.startswith("Before training the model refused 35.0 % of ") and "follow English" in note for note in notes
    )


def test_missing_harmless_prompts_are_a_caution(make: Any) -> None:
    assert any("refuses everything would look the same" in note for note in cautions(make(harmless=False)))


def test_worse_languages_and_chance_are_reported(summary: RunSummary) -> None:
    rows = [
        row.model_copy(update={"difference": 0.02, "p_value": 0.4, "p_holm": 0.8}) if row.language == "ko" else row
        for row in summary.comparisons
    ]
    notes = " ".join(cautions(summary.model_copy(update={"comparisons": rows})))
    assert "More answers are unsafe after training than before in Korean (+2.0 points)" in notes
    assert "may be due to chance in Korean (p > 0.05, adjusted for all languages)" in notes


def test_no_prompt_or_answer_in_note_and_console(summary: RunSummary) -> None:
    for text in (markdown(summary), printed(summary)):
        assert "Swahili" in text
        assert "70" in text
        for example in summary.examples:
            assert not any(part in text for part in (example.prompt, example.before, example.after))


def test_a_training_of_few_steps_is_reported(summary: RunSummary) -> None:
    assert not any("optimiser steps" in note for note in cautions(summary))
    stages = [
        stage.model_copy(update={"counts": {"steps": 4}}) if stage.stage == "training" else stage
        for stage in summary.stages
    ]
    few = summary.model_copy(update={"stages": stages})
    assert any("only 4 optimiser steps" in note and "training.epochs" in note for note in cautions(few))
    training = few.config["training"] | {"max_steps": 4}
    ended = few.model_copy(update={"config": few.config | {"training": training}})
    assert any("raise training.max_steps, which ended it" in note for note in cautions(ended))


@pytest.mark.parametrize(("cut", "reported"), [(5, False), (6, True)])
def test_answers_that_were_cut_are_reported(summary: RunSummary, cut: int, reported: bool) -> None:
    counts = {"length": cut, "stop": 10 - cut}
    stage = StageSummary(stage="sampling", label="sw-test-before", state="computed", rows=10, counts=counts)
    pairs = stage.model_copy(update={"label": "sw-train-pairs", "counts": {"length": 10}})
    notes = cautions(summary.model_copy(update={"stages": [stage, pairs]}))
    assert any(f"{cut} of 10 answers were cut" in note for note in notes) == reported
    assert any("10 of 10 answers from which pairs are made were cut at sampling" in note for note in notes)
    none_cut = summary.model_copy(update={"stages": [stage, pairs.model_copy(update={"counts": {"stop": 10}})]})
    assert not any("from which pairs are made" in note for note in cautions(none_cut))


def test_swapped_pairs_are_reported_and_where_they_cannot_be_known(summary: RunSummary) -> None:
    assert not any("swap" in note for note in cautions(summary))
    counts = {
        "sw": {"order_known": 40, "order_confirmed": 38, "order_acts": 1, "swapped": 7},
        "zh": {"order_known": 40, "order_confirmed": 21, "order_acts": 0, "swapped": 0},
    }
    changes = [{"language": code, "rows": 100, "counts": of} for code, of in counts.items()]
    stages = [summary.stages[0].model_copy(update=change) for change in changes]
    config = {**summary.config, "pairs": {"swap_check": "drop"}}
    notes = cautions(summary.model_copy(update={"stages": stages, "config": config}))
    assert (
        "Training pairs seem to have swapped answers in Swahili (7 of 100; about 5 of good ones would be, too); "
        "they were rejected."
    ) in notes
    assert any("is unknown in Chinese (21 of 40)" in note for note in notes)


def test_console_table_keeps_its_figures(summary: RunSummary) -> None:
    line = next(line for line in printed(summary).splitlines() if "Swahili" in line)
    assert "70 → 22.7" in line
    assert "…" not in line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (percent(0.1784), "17.8 %"),
        (percent(None), "–"),
        (points(-0.482), "−48.2"),
        (points(0.0001), "0.0"),
        (points(-0.0001), "0.0"),
        (p_value(0.0004), "< 0.001"),
        (p_value(0.0314), "0.031"),
        (p_value(0.48), "0.48"),
        (duration(0.42), "0.4 s"),
        (duration(59.7), "1 min 00 s"),
        (duration(312), "5 min 12 s"),
        (duration(7500), "2 h 05 min"),
        (duration(float("inf")), "–"),
        (listed(["a", "b", "c"]), "a, b and c"),
        (listed([]), ""),
    ],
)
def test_spelling(text: str, expected: str) -> None:
    assert text == expected


def methods_of(methods: dict[str, dict[str, Any]]) -> MethodsSummary:
    rows = [
        MethodRow(method=name, flipped=0.0, figure=column.figure, n=5, mean=0.123, low=0.1, high=0.2)
        for name in ("base", *methods)
        for column in COLUMNS
    ]
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return MethodsSummary(
        run="r",
        started=moment,
        finished=moment,
        base_model="microworld",
        base_digest="0",
        dominant="en",
        targets=["sw"],
        split="test",
        seeds=[0],
        methods=rows,
        runs=[],
        config={"training": {"method": "mpo"}, "compare": {"methods": methods}},
        packages={},
    )


def test_methods_that_trained_with_anothers_settings_are_named() -> None:
    summary = methods_of({"mpo": {}, "dpo": {}, "sft": {"learning_rate": 1e-4}})
    assert summary.untuned == ["dpo"]
    page = render_methods(summary)
    assert "Not tuned: dpo trained with" in page
    assert "dpo: those of section training\nsft: learning_rate 0.0001\n" in page
    assert methods_of({"mpo": {}}).untuned == []


def test_the_console_table_of_methods_fits_eighty_columns() -> None:
    console = Console(width=80, file=io.StringIO())
    console.print(methods_table(methods_of({"mpo": {}, "simpo": {}})))
    printed_table = console.file.getvalue()
    assert "…" not in printed_table
    for heading in ("method", "refused", "helped", "broken", "English", "drift"):
        assert heading in printed_table


def test_a_gate_that_cannot_tell_asks_for_more_prompts(make: Any) -> None:
    check = GateCheck(name="enough_harmful", passed=False, value=0.6, bound=0.2, explanation="few", too_few=True)
    few = make(gate=GateDecision(promoted=False, checks=[check]))
    assert "Evaluate on more of them" in headline(few).next_step
    assert [row["outcome"] for row in view.check_rows(few)] == ["Too few prompts"]
    bad = check.model_copy(update={"name": "invalid", "too_few": False})
    both = make(gate=GateDecision(promoted=False, checks=[check, bad]))
    assert "Evaluate on more of them" not in headline(both).next_step


def test_a_number_on_the_console_keeps_its_zeros(summary: RunSummary) -> None:
    metric = Metric(name="bits", label="Bits", short="Bits", better="lower", kind="harmless", unit="bits", digits=3)
    rows = [
        MetricRow(
            benchmark="text", model=model, language="sw", metric="bits", count=None, n=9, value=9.019, low=9, high=9.1
        )
        for model in ("before", "after")
    ]
    cards = [*summary.benchmarks, BenchmarkCard(name="text", label="Text", metrics=[metric])]
    text = printed(summary.model_copy(update={"metrics": [*summary.metrics, *rows], "benchmarks": cards}))
    assert "9.019 → 9.019" in text


def test_benchmark_prompts_that_were_trained_on_are_reported(summary: RunSummary) -> None:
    card = BenchmarkCard(name="seen", label="Seen", in_training=3, prompts=300)
    notes = cautions(summary.model_copy(update={"benchmarks": [*summary.benchmarks, card]}))
    assert any(note.startswith("3 of 300 prompts of Seen are among the training prompts: ") for note in notes)
    assert not any("training prompts" in note for note in cautions(summary))


def test_a_task_of_lm_eval_has_items_and_no_harmless_prompts(summary: RunSummary) -> None:
    rows = [
        MetricRow(
            benchmark="quiz",
            model=model,
            language="sw",
            metric="accuracy",
            count=None,
            n=60,
            value=0.6,
            low=0.5,
            high=0.7,
        )
        for model in ("before", "after")
    ]
    cards = [*summary.benchmarks, BenchmarkCard(name="quiz", label="lm-eval quiz", metrics=[ACCURACY], missing=["zh"])]
    measured = summary.model_copy(update={"metrics": [*summary.metrics, *rows], "benchmarks": cards})
    assert "lm-eval quiz: before → after, % of 60 items" in " ".join(printed(measured).split())
    (section,) = [section for section in view.sections(measured) if "quiz" in section.title]
    assert (section.title, section.counted, len(section.panels)) == ("lm-eval quiz", "Items", 1)
    assert "has no items in Chinese" in " ".join(section.notes)
    assert "refuses" not in section.lead
