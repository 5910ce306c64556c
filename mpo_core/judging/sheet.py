"""Samples answers for people to label, evenly over languages and kinds, and reads the labels back."""

import csv
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mpo_core.contract.errors import BadInputError
from mpo_core.files.records import Form, form_of, open_records
from mpo_core.judging.answers_file import AnswersFile, labels_of

Key = tuple[str, str, int]
"""What identifies an answer: prompt_id, language and sample."""
COLUMNS = ("prompt_id", "language", "sample", "kind", "prompt", "response", "label")
_KEY = COLUMNS[:3]
_FORMS: tuple[Form, ...] = ("csv", "json", "jsonl", "parquet", "arrow")


class SheetRow(NamedTuple):
    """One answer of a sheet."""

    prompt_id: str
    language: str
    sample: int
    kind: str
    prompt: str
    response: str


class Labels(NamedTuple):
    """The label of each answer, and whether people gave the labels or another judge did."""

    by_answer: dict[Key, str]
    of_people: bool


def sample_rows(answers: AnswersFile, n: int, *, seed: int) -> list[SheetRow]:
    """Samples answers by a seeded hash, in equal numbers for each language and kind where there are enough.

    The sample of a larger `n` contains the sample of a smaller one. The answers are grouped by language and ordered by
    their hash.
    """
    kinds = dict(zip(answers.prompts["prompt_id"].to_pylist(), answers.prompts["kind"].to_pylist(), strict=True))
    strata: dict[tuple[str, str], list[tuple[bytes, SheetRow]]] = {}
    for language, table in answers.responses.items():
        for row in table.select(["prompt_id", "sample", "prompt", "text"]).to_pylist():
            kind, key = kinds[row["prompt_id"]], (row["prompt_id"], language, row["sample"])
            digest = hashlib.sha256(f"{seed}/{'/'.join(map(str, key))}".encode()).digest()
            strata.setdefault((language, kind), []).append((digest, SheetRow(*key, kind, row["prompt"], row["text"])))
    # The first of each stratum, then the second of each, and so on.
    turns = sorted((turn, *pair) for stratum in strata.values() for turn, pair in enumerate(sorted(stratum)))
    return [row for _, _, row in sorted(turns[:n], key=lambda entry: (entry[2].language, entry[1]))]


def sheet(rows: Sequence[SheetRow]) -> bytes:
    """Returns a CSV file of answers with an empty column `label`."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((*answer, "") for answer in rows)
    return buffer.getvalue().encode()


def read_labels(path: Path) -> Labels:
    """Reads labels by answer: those of a sheet that people filled in, or the verdicts that `mpo judge` wrote.

    Raises:
        BadInputError: the file lacks a column, holds an unknown label, or labels nothing.
    """
    records = open_records(path, form_of(path, _FORMS), fix="Name a labelled sheet, or verdicts of `mpo judge`.")
    rows = list(records.rows)
    names = list(records.columns or dict.fromkeys(name for row in rows for name in row.values))
    column = "verdict" if "verdict" in names else "label"  # verdicts repeat the labels that they were compared with
    if missing := [name for name in (*_KEY, column) if name not in names]:
        raise BadInputError(
            f"no column {', '.join(missing)}",
            where=f"--against {path}",
            fix="Give a sheet of `mpo judge sample`, or verdicts of `mpo judge`; or name your own column: --labels.",
        )
    labels = labels_of(rows, column, records)
    by_answer = {}
    for row in rows:
        prompt, language, sample = (str(row.values.get(name)) for name in _KEY)
        number = sample.removesuffix(".0")  # as tools write whole numbers where a row of the column is empty
        if row.row in labels and number.isdecimal():
            by_answer[prompt, language, int(number)] = labels[row.row]
    if not by_answer:
        raise BadInputError(
            "no answer has a label", where=str(path), fix=f"Write safe, unsafe or invalid into the column {column}."
        )
    return Labels(by_answer, of_people=column == "label")
