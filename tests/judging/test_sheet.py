"""Sheets of answers for people: sampled evenly, and read back by the ids of the answers."""

from __future__ import annotations

import csv
import io
import itertools
from collections import Counter
from pathlib import Path

import pytest

from mpo_core.contract.errors import BadInputError
from mpo_core.judging.answers_file import AnswersFile, Columns, read_answers
from mpo_core.judging.sheet import COLUMNS, Label, SheetRow, read_labels, sample_rows, sheet, text_digest

SIZES = {("en", "harmful"): 20, ("en", "harmless"): 2, ("sw", "harmful"): 20, ("sw", "harmless"): 20}


@pytest.fixture
def answers(tmp_path: Path) -> AnswersFile:
    """Answers of four strata, one of them small; each prompt has two answers, with line breaks and quotes."""
    path = tmp_path / "answers.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "response", "language", "kind"])
        for (language, kind), size in SIZES.items():
            writer.writerows([f"Question {n // 2}?", f'Line "{n}",\nthen more.', language, kind] for n in range(size))
    return read_answers(path, Columns("prompt", "response", "language", "kind"))


def test_each_stratum_gives_as_many_as_any_other_until_it_is_empty(answers: AnswersFile) -> None:
    sampled = sample_rows(answers, 32, seed=0)
    strata = Counter((answer.language, answer.kind) for answer in sampled)
    assert strata == {("en", "harmful"): 10, ("en", "harmless"): 2, ("sw", "harmful"): 10, ("sw", "harmless"): 10}
    assert [answer.language for answer in sampled] == ["en"] * 12 + ["sw"] * 20
    assert {*sample_rows(answers, 12, seed=0)} < {*sampled}
    assert sample_rows(answers, 12, seed=1) != sample_rows(answers, 12, seed=0)
    assert len(sample_rows(answers, 1000, seed=0)) == sum(SIZES.values())


def test_labels_of_a_sheet_come_back_to_their_answers(answers: AnswersFile, tmp_path: Path) -> None:
    sampled = sample_rows(answers, 8, seed=0)
    rows = list(csv.DictReader(io.StringIO(sheet(sampled).decode(), newline="")))
    assert tuple(rows[0]) == COLUMNS
    assert [row["response"] for row in rows] == [answer.response for answer in sampled]
    path = tmp_path / "sheet.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(row | {"label": label} for row, label in zip(rows[:3], ("Safe", "UNSAFE", ""), strict=True))
    known = [(answer.prompt_id, answer.language, answer.sample) for answer in sampled]
    labels = read_labels(path)
    assert labels.of_people
    assert labels.by_answer == {
        known[0]: Label("safe", text_digest(sampled[0].response)),
        known[1]: Label("unsafe", text_digest(sampled[1].response)),
    }
    assert {*known} <= {(answer.prompt_id, answer.language, answer.sample) for answer in answers.rows}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt,response\na,b\n", "no column prompt_id, language, sample, label"),
        ("prompt_id,language,sample,label\nx,sw,0,safe\n", "no column response"),
        ("prompt_id,language,sample,response,label\nx,sw,0,a,\n", "no answer has a label"),
        ("prompt_id,language,sample,response,label\nx,sw,0,a,maybe\n", "1 unknown label: 'maybe'"),
        (
            "prompt_id,language,sample,response,label\nx,sw,0,a,爆弾\n",
            r"1 unknown label: a text that is not shown \(1\)",
        ),
        ("prompt_id,language,sample,response,verdict\nx,sw,0,a,unjudged\n", "no answer has a label"),
        ("prompt_id,language,sample,response,label\nx,sw,,a,safe\n", r"line 2: 1 label of no answer"),
        ("prompt_id,language,sample,response,label\n,sw,0,a,safe\nx,,0,a,safe\n", r"line 2: 2 labels of no answer"),
        (
            "prompt_id,language,sample,response,label\nx,sw,0,a,safe\nx,sw,0,a,unsafe\n",
            "line 3: 1 label of no answer, or of one with another label",
        ),
    ],
)
def test_a_file_without_usable_labels_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(BadInputError, match=message):
        read_labels(path)


def test_a_sample_may_be_written_as_a_float(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("prompt_id,language,sample,response,label\nx,sw,1.0,a,safe\nx,sw,1,a,safe\ny,sw,,b,\n")
    assert read_labels(path).by_answer == {("x", "sw", 1): Label("safe", text_digest("a"))}


def test_a_spreadsheet_may_write_semicolons_or_tabs(tmp_path: Path) -> None:
    path, row = tmp_path / "labels.csv", ["x", "sw", "0", "a, b; and\tc", "safe"]
    for delimiter, quoting in itertools.product(";\t,", (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)):
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=delimiter, quoting=quoting)
            writer.writerows([["prompt_id", "language", "sample", "response", "label"], row])
        assert read_labels(path).by_answer == {("x", "sw", 0): Label("safe", text_digest(row[3]))}


def test_a_formula_is_inert_in_a_sheet_and_its_label_still_counts() -> None:
    for text in ("=1+1", "@cmd", "-x", "+x", "\t=1"):
        (row,) = csv.DictReader(
            io.StringIO(sheet([SheetRow("x", "sw", 0, "harmful", text, text)]).decode(), newline="")
        )
        assert row["prompt"] == row["response"] == f"'{text}"
        assert text_digest(row["response"]) == text_digest(text)
