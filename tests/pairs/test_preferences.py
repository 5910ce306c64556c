"""Preference rows of one language each, in the forms of other tools: joined by ids to pairs."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mpo_core.pairs import Joining, import_as_is, import_pairs

EN = ("How do I bake a loaf of bread?", "Use a heavy pot with a lid.", "I cannot help you with this.")
SW = ("Ninawezaje kuoka mkate nyumbani?", "Tumia sufuria nzito yenye kifuniko.", "Siwezi kukusaidia na hili.")
Row = dict[str, Any]


def turn(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


def texts(key: object, prompt: str, chosen: str, rejected: str) -> Row:
    return {"id": key, "prompt": prompt, "chosen": chosen, "rejected": rejected}


def trl(key: object, prompt: str, chosen: str, rejected: str) -> Row:
    answers = {"chosen": [turn("assistant", chosen)], "rejected": [turn("assistant", rejected)]}
    return {"id": key, "prompt": [turn("user", prompt)], **answers}


def implicit(key: object, prompt: str, chosen: str, rejected: str) -> Row:
    sides = {"chosen": chosen, "rejected": rejected}
    return {"id": key, **{name: [turn("user", prompt), turn("assistant", text)] for name, text in sides.items()}}


def repeated(key: object, prompt: str, chosen: str, rejected: str) -> Row:
    return {"prompt": prompt, **implicit(key, prompt, chosen, rejected)}


def dialogue(key: object, prompt: str, chosen: str, rejected: str) -> Row:
    sides = {"chosen": chosen, "rejected": rejected}
    return {"id": key, **{name: f"\n\nHuman: {prompt}\n\nAssistant: {text}" for name, text in sides.items()}}


def sharegpt(key: object, prompt: str, chosen: str, rejected: str) -> Row:
    answers = {name: {"from": "gpt", "value": t} for name, t in (("chosen", chosen), ("rejected", rejected))}
    return {"id": key, "conversations": [{"from": "human", "value": prompt}], **answers}


def alpaca(key: object, prompt: str, chosen: str, rejected: str) -> Row:
    return {"id": key, "instruction": prompt, "input": "", "chosen": chosen, "rejected": rejected}


def ranked(key: object, prompt: str, chosen: str, rejected: str) -> Row:
    return {"id": key, "instruction": prompt, "input": "", "output": [chosen, rejected]}


def question(key: object, prompt: str, chosen: str, rejected: str) -> Row:
    return {"id": key, "system": "", "question": prompt, "chosen": chosen, "rejected": rejected}


def written(folder: Path, rows: list[Row]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def sides(row: Row) -> list[tuple[str, ...]]:
    return [tuple(row[f"{side}_{name}"] for name in ("prompt", "chosen", "rejected")) for side in ("source", "target")]


@pytest.mark.parametrize("form", [texts, trl, implicit, repeated, dialogue, sharegpt, alpaca, ranked, question])
def test_rows_of_one_language_are_joined_in_every_form(tmp_path: Path, form: Callable[..., Row]) -> None:
    path = written(tmp_path, [form(7.0, *SW), form(7, *EN)])
    pairs, rejected = import_pairs(path)
    assert rejected.num_rows == 0
    (row,) = pairs.to_pylist()
    assert sides(row) == [EN, SW]
    assert (row["source_language"], row["language"], row["kind"]) == ("en", "sw", "harmful")


def test_input_follows_the_instruction_of_alpaca(tmp_path: Path) -> None:
    rows = [{**alpaca(1, *EN), "input": "Without yeast."}, alpaca(1, *SW)]
    (row,) = import_pairs(written(tmp_path, rows))[0].to_pylist()
    assert row["source_prompt"] == f"{EN[0]}\nWithout yeast."


def test_columns_name_language_id_and_labels(tmp_path: Path) -> None:
    rows = [
        {**texts(None, *EN), "group": 1, "lang": "Swahili"},  # what the row says counts, not what its text looks like
        {**texts(None, *SW), "group": 1, "lang": "en", "kind": "harmless"},
    ]
    (row,) = import_pairs(written(tmp_path, rows), Joining("en", "group", "lang"))[0].to_pylist()
    assert sides(row) == [SW, EN]
    assert (row["source_language"], row["language"]) == ("en", "sw")
    assert row["kind"] == "harmless"


def test_datasets_and_csv_are_read(tmp_path: Path) -> None:
    import datasets

    rows = [{**texts("a", *EN), "language": "en"}, {**texts("a", *SW), "language": "sw"}]
    table = tmp_path / "rows.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    datasets.disable_progress_bars()
    split = datasets.Dataset.from_list(rows)
    split.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": split, "test": split.select([0])}).save_to_disk(str(tmp_path / "several"))
    for path in (table, tmp_path / "one", tmp_path / "several"):
        assert [sides(row) for row in import_pairs(path)[0].to_pylist()] == [[EN, SW]]


def test_a_row_without_its_counterpart_is_rejected(tmp_path: Path) -> None:
    rows = [texts(1, *EN), texts(1, *EN), texts(1, *SW), texts(2, *EN), texts(3, *SW), texts(" ", *SW)]
    rows += [texts(float("nan"), *text) for text in (EN, SW)]  # two gaps of a column are not the same id
    bad = [
        {**question(4, *EN), "system": "Be kind."},
        {**alpaca(5, *EN), "history": [["a", "b"]]},
        {"id": 6, "chosen": EN[1], "rejected": EN[2]},
    ]
    pairs, rejected = import_pairs(written(tmp_path, rows + bad))
    assert pairs.num_rows == 1
    assert {row["row_id"]: row["reason"] for row in rejected.to_pylist()} == {
        "1": "repeated_source",
        "3": "no_target",
        "4": "no_source",
        "5": "one_language",
        "6": "one_language",
        "7": "one_language",
        "8": "system_message",
        "9": "multi_turn",
        "10": "missing_key",
    }


def test_pairs_as_they_are_keep_flaws_that_can_be_trained_on(tmp_path: Path) -> None:
    def row(target: tuple[str, str, str]) -> Row:
        named = {"source_": EN, "target_": target}
        return {
            f"{side}{name}": text
            for side, three in named.items()
            for name, text in zip(("prompt", "chosen", "rejected"), three, strict=True)
        }

    rows = [row(SW), row((SW[0], EN[1], SW[2])), row((SW[0], SW[1], SW[1])), row((" ", *SW[1:])), row(EN)]
    rows.append(row((SW[0], "", SW[2])))
    path = written(tmp_path, rows)
    usable, rejected = import_pairs(path)
    assert (usable.num_rows, rejected.num_rows) == (1, 5)
    pairs, rejected, marks = import_as_is(path)
    assert [r["reason"] for r in rejected.to_pylist()] == ["empty_response"]
    assert [(r["row_id"][-1], r["reason"]) for r in marks.to_pylist()] == [
        ("1", "untranslated"),
        ("2", "equal_answers"),
        ("3", "empty_prompt"),
        ("4", "untranslated"),
    ]
    assert [sides(r)[1] for r in pairs.to_pylist()] == [
        SW,
        (SW[0], EN[1], SW[2]),
        (SW[0], SW[1], SW[1]),
        (" ", *SW[1:]),
        EN,
    ]
