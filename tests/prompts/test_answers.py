"""Columns of answers by language, and the sources of other packages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.prompts import PROMPT_SOURCES
from mpo_core.contract.tables import REFERENCE_ANSWERS, prompt_id
from mpo_core.prompts.load import Loaded, load_prompts
from mpo_core.settings import PromptSettings

HEADER = "text,good,good_sw,bad,bad_sw\n"
COLUMNS = {"chosen_column": {"en": "good", "sw": "good_sw"}, "rejected_column": {"en": "bad", "sw": "bad_sw"}}


def load(tmp_path: Path, content: str, **settings: Any) -> Loaded:
    path = tmp_path / "a.csv"
    path.write_text(content)
    source = PROMPT_SOURCES.parse({"source": "csv", "path": str(path), "kind": "harmless"} | COLUMNS | settings)
    return load_prompts(PromptSettings(sources=[source]), dominant="en", seed=0)


def test_answers_by_language(tmp_path: Path) -> None:
    loaded = load(tmp_path, HEADER + "Bake bread.,Mix flour.,Changanya unga.,No.,Hapana.\n")
    assert loaded.quarantine.num_rows == 0
    assert (loaded.prompts["chosen"].to_pylist(), loaded.prompts["rejected"].to_pylist()) == ([None], [None])
    key = prompt_id("en", "Bake bread.")
    assert list(loaded.answers) == ["en", "sw"]
    assert all(table.schema.equals(REFERENCE_ANSWERS.schema) for table in loaded.answers.values())
    assert loaded.answers["en"].to_pylist() == [
        {"prompt_id": key, "language": "en", "chosen": "Mix flour.", "rejected": "No."}
    ]
    assert loaded.answers["sw"].to_pylist() == [
        {"prompt_id": key, "language": "sw", "chosen": "Changanya unga.", "rejected": "Hapana."}
    ]


def test_an_empty_answer_rejects_the_answers_of_its_language(tmp_path: Path) -> None:
    loaded = load(tmp_path, HEADER + "A,a,a sw,b,\nB,a,a sw,b,b sw\nC,a,a sw, ,b sw\n")
    assert loaded.prompts["text"].to_pylist() == ["A", "B", "C"]  # the prompts stay
    ids = {text: prompt_id("en", text) for text in "ABC"}
    assert loaded.answers["en"]["prompt_id"].to_pylist() == [ids["A"], ids["B"]]
    assert loaded.answers["sw"]["prompt_id"].to_pylist() == [ids["B"]]
    assert [(r["row_id"], r["language"], r["reason"]) for r in loaded.quarantine.to_pylist()] == [
        ("a.csv/0/sw", "sw", "empty_answer"),
        ("a.csv/2/en", "en", "empty_answer"),
        ("a.csv/2/sw", "sw", "no_dominant_answer"),
    ]
    assert loaded.quarantine["detail"].to_pylist()[0] == "column 'bad_sw' is empty"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chosen_column": {"en": "good", "sw": "x"}}, r"no column 'x' \(chosen_column\.sw\)\. Columns present: text"),
        ({"rejected_column": {"en": "bad", "sw": "x"}}, r"no column 'x' \(rejected_column\.sw\)"),
        (
            {"chosen_column": {"en": "good", "xx": "good_sw"}, "rejected_column": {"en": "bad", "xx": "bad_sw"}},
            r"prompts\.sources\.0\.chosen_column: unknown language 'xx'",
        ),
        (
            {"chosen_column": {"sw": "good_sw"}, "rejected_column": {"sw": "bad_sw"}},
            r"prompts\.sources\.0\.chosen_column: columns are given for sw, but none for the dominant .* 'en'\. Add en",
        ),
    ],
)
def test_bad_columns(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        load(tmp_path, HEADER + "A,a,a sw,b,b sw\n", **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rejected_column": {"en": "bad"}}, "`rejected_column` names no column of 'sw': both answers"),
        ({"chosen_column": None}, "`chosen_column` names no column of 'en': both answers"),
        ({"chosen_column": "good"}, "`chosen_column` names no column of 'en': both answers"),
        ({"chosen_column": 5}, "chosen_column"),
    ],
)
def test_columns_of_one_side_are_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(tmp_path, HEADER, **settings)


@pytest.mark.parametrize("columns", [COLUMNS, {"chosen_column": "good", "rejected_column": "bad"}])
def test_answers_with_a_chat_template_are_rejected(tmp_path: Path, columns: dict[str, Any]) -> None:
    start, end = "<|assistant_start|>", "<|im_end|>"
    content = HEADER + f"A,{start}a,a sw,{start}b,b sw\nB,b{end},b sw,c{end},c sw\n"
    loaded = load(tmp_path, content, **columns)
    [row] = [row for row in loaded.quarantine.to_pylist() if row["reason"] != "no_dominant_answer"]
    assert (row["row_id"].split("/")[1], row["reason"]) == ("0", "template_marks")
    table = loaded.answers.get("en", loaded.prompts)  # what ends the turn is no part of an answer
    assert [(row["chosen"], row["rejected"]) for row in table.to_pylist()] == [("b", "c")]


@pytest.mark.parametrize("columns", [COLUMNS, {"chosen_column": "good", "rejected_column": "bad"}])
def test_an_answer_that_is_only_the_end_of_a_turn_is_empty(tmp_path: Path, columns: dict[str, Any]) -> None:
    loaded = load(tmp_path, HEADER + "A,a,a sw,</s>,b sw\nB,b,b sw,c,c sw\n", **columns)
    if "en" in loaded.answers:
        assert loaded.quarantine["reason"].to_pylist() == ["empty_answer", "no_dominant_answer"]
    else:
        assert loaded.prompts["rejected"].to_pylist() == [None, "c"]
