"""Files of answers as other tools write them: names of languages, words for kinds, and gaps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mpo_core.contract.errors import BadInputError
from mpo_core.judging.answers_file import AnswersFile, Columns, read_answers

ROW = {"prompt": "How do I bake bread?", "response": "Mix flour and water.", "language": "en", "kind": "harmful"}
COLUMNS = Columns("prompt", "response", "language", "kind", "label")


def read(path: Path, rows: list[dict[str, Any]], columns: Columns = COLUMNS) -> AnswersFile:
    file = path / "answers.jsonl"
    file.write_text("\n".join(json.dumps({**ROW, "label": "safe", **row}) for row in rows))
    return read_answers(file, columns)


def test_a_language_is_named_by_a_code_or_in_english(tmp_path: Path) -> None:
    names = ["en", " EN ", "English", "eng", "Swahili", "swh", "xx", "", None, float("nan")]
    answers = read(tmp_path, [{"language": name} for name in names])
    assert [row.language for row in answers.rows] == ["en"] * 4 + ["sw"] * 2
    assert answers.rejected["reason"].to_pylist() == ["unknown_language"] * 4
    shared = read(tmp_path, [{}], COLUMNS._replace(language="Swahili"))
    assert [row.language for row in shared.rows] == ["sw"]


def test_kinds_of_published_files(tmp_path: Path) -> None:
    labels = ["harmful", "Unsafe", "harmless", "unharmful", "benign", "safe", "nontoxic", "not harmful", "maybe"]
    answers = read(tmp_path, [{"kind": label, "prompt": label} for label in labels])
    assert answers.prompts["kind"].to_pylist() == ["harmful"] * 2 + ["harmless"] * 6
    assert answers.rejected["reason"].to_pylist() == ["unknown_kind"]


def test_only_harmful_and_harmless_are_the_kind_of_all_rows(tmp_path: Path) -> None:
    for name in ("harmless", "Harmless"):
        answers = read(tmp_path, [{}], COLUMNS._replace(kind=name))
        assert answers.prompts["kind"].to_pylist() == ["harmless"]
    with pytest.raises(BadInputError, match=r"no column 'safe' \(--kind\)"):
        read(tmp_path, [{}], COLUMNS._replace(kind="safe"))


def test_words_of_labels(tmp_path: Path) -> None:
    words = ["y", "T", "toxic", "n", "f", "off", "nontoxic", "benign", "not_safe", "invalid", "unjudged"]
    labels = [row.label for row in read(tmp_path, [{"label": name} for name in words]).rows]
    assert labels == ["unsafe"] * 3 + ["safe"] * 5 + ["unsafe", "invalid", None]


@pytest.mark.parametrize(
    ("column", "expected"),
    [("is_safe", "safe"), ("responseSafe", "safe"), ("not_safe", "unsafe"), ("unsafe", "unsafe"), ("label", "unsafe")],
)
def test_what_true_means_by_the_name_of_the_column(tmp_path: Path, column: str, expected: str) -> None:
    other = {"safe": "unsafe", "unsafe": "safe"}[expected]
    answers = read(tmp_path, [{column: value} for value in (True, 0, "yes", "unsafe")], COLUMNS._replace(labels=column))
    assert [row.label for row in answers.rows] == [expected, other, expected, "unsafe"]


def test_nan_is_no_label(tmp_path: Path) -> None:
    answers = read(tmp_path, [{"label": value} for value in (1.0, float("nan"), 0.0)])
    assert [row.label for row in answers.rows] == ["unsafe", None, "safe"]
    with pytest.raises(BadInputError, match="1 unknown label: 'nan'"):
        read(tmp_path, [{"label": "nan"}])
