"""The attack success rate by harm category: the table, and the heat map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
from statsmodels.stats.proportion import proportion_confint

from mpo_core.contract.analysis import ANALYSES, AnalysedRun, Findings
from mpo_core.contract.tables import CATEGORIES, METRICS, PROMPTS
from mpo_core.evaluation.categories import NONE, OTHER, category_shares


def prompts(categories: list[str | None]) -> pa.Table:
    """Harmful prompts with these categories, as the fixture `judged` numbers them, and a harmless one with another."""
    rows = [("harmful", number, category) for number, category in enumerate(categories)] + [("harmless", 0, "cooking")]
    return PROMPTS.build(
        {"prompt_id": f"{kind}-{number}", "text": "t", "kind": kind, "split": "test", "category": category}
        | {"source": "s", "row": number}
        for kind, number, category in rows
    )


def shares(categories: list[str | None], verdicts: pa.Table, model: str = "after") -> pa.Table:
    return category_shares(
        prompts(categories), verdicts, benchmark="held_out", model=model, confidence=0.95, pooled=["sw", "bn"]
    )


def values(table: pa.Table) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["category"], row["language"]): row for row in table.to_pylist()}


def test_shares_by_category_and_language(judged: Callable[..., pa.Table]) -> None:
    verdicts = judged(
        sw={"harmful": "u u r r u", "harmless": "h"}, bn={"harmful": "u r r r u"}, en={"harmful": "r r r r r"}
    )
    table = values(shares(["theft", "theft", "theft", "fraud", None], verdicts))
    assert {key[0] for key in table} == {"theft", "fraud", NONE}
    cell = table["theft", "sw"]
    assert (cell["count"], cell["n"], cell["metric"]) == (2, 3, "unsafe")
    assert (cell["low"], cell["high"]) == proportion_confint(2, 3, method="wilson")
    assert table["fraud", "sw"]["value"] == 0.0
    together = table["theft", "targets"]
    assert (together["n"], together["value"]) == (3, (1 + 0.5 + 0) / 3)
    assert sum(row["n"] for (_, language), row in table.items() if language == "sw") == 5


def test_small_categories_count_together(judged: Callable[..., pa.Table]) -> None:
    names: list[str | None] = ["big", "big", *[f"c{number:02}" for number in range(20)]]
    table = values(shares(names, judged(sw={"harmful": " ".join("u" * 22)})))
    categories = {key[0] for key in table}
    assert len(categories) == 15
    assert table["big", "sw"]["n"] == 2
    assert table[OTHER, "sw"]["n"] == 22 - 2 - 13


def test_a_prompt_of_several_categories_counts_in_each(judged: Callable[..., pa.Table]) -> None:
    names: list[str | None] = ["['theft', 'fraud']", "['theft']", "[not a list]", "[]", "[{[]}]"]
    table = values(shares(names, judged(sw={"harmful": "u r u r u"})))
    assert {category: (row["count"], row["n"]) for (category, code), row in table.items() if code == "sw"} == {
        "theft": (1, 2),
        "fraud": (1, 1),
        "[not a list]": (1, 1),
        "[]": (0, 1),
        "[{[]}]": (1, 1),
    }


def test_prompts_without_categories_have_no_figures(judged: Callable[..., pa.Table]) -> None:
    assert shares([None, None], judged(sw={"harmful": "u u"})).num_rows == 0
    assert shares([], judged()).num_rows == 0


def analysed(*tables: pa.Table) -> Findings | None:
    run = AnalysedRun("r", "en", ["sw", "bn"], METRICS.build([]), categories=pa.concat_tables(tables))
    return ANALYSES.parse({"analysis": "categories"}).analyse(run)


def test_the_heat_map_and_its_table(judged: Callable[..., pa.Table]) -> None:
    categories: list[str | None] = ["theft", "theft", "<b>fraud</b>"]
    both = [
        shares(categories, judged(sw={"harmful": letters}, en={"harmful": "r r r"}), model)
        for model, letters in (("before", "u u u"), ("after", "u r r"))
    ]
    findings = analysed(*both)
    assert findings is not None
    lines = {line["category"]: line for line in findings.table.to_pylist()}
    theft = lines["theft"]
    assert (theft["prompts"], theft["targets_before"], theft["sw"], theft["targets"], theft["en"]) == (
        2,
        1,
        0.5,
        0.5,
        0,
    )
    assert theft["low"] < 0.5 < theft["high"]
    assert "bn" not in theft
    assert "100→50" in str(findings.picture)
    assert "<b>" not in str(findings.picture)
    assert "theft 50.0 %" in findings.supports
    assert "2 of 2 categories have fewer than 30 prompts" in findings.supports


def test_a_model_alone_has_a_heat_map_of_its_own_figures(judged: Callable[..., pa.Table]) -> None:
    findings = analysed(shares(["theft", "theft"], judged(sw={"harmful": "u r"}), "model"))
    assert findings is not None
    (line,) = findings.table.to_pylist()
    assert (line["targets"], line["sw"], "targets_before" in line) == (0.5, 0.5, False)
    assert "→" not in str(findings.picture)
    assert "Least safe, over all targets" in findings.supports


def test_a_run_without_categories_has_no_heat_map() -> None:
    assert analysed(CATEGORIES.build([])) is None
