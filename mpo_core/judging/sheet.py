"""Samples answers for people to label, evenly over languages and kinds, and reads the labels back.

An id says which prompt and which of its answers a label is of. Another file may have another answer under the same id,
so a label counts only for the text that it was given to.
"""

import contextlib
import csv
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mpo_core.contract.errors import BadInputError, quantity
from mpo_core.files.messages import none_for_nan
from mpo_core.files.records import Form, Records, form_of, open_records
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


class Label(NamedTuple):
    """What was said of an answer, and the `text_digest` of the answer."""

    label: str
    digest: str


class Labels(NamedTuple):
    """The label of each answer, and whether people gave the labels or another judge did."""

    by_answer: dict[Key, Label]
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
    """Returns a CSV file of answers with an empty column `label`.

    A text that a spreadsheet would take for a formula begins with an apostrophe there.
    """
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        inert = row._replace(prompt=_inert(row.prompt), response=_inert(row.response))
        writer.writerow((*inert, ""))
    return buffer.getvalue().encode()


def text_digest(text: str) -> str:
    """Returns the digest of an answer's text, whatever white space and apostrophes a spreadsheet has put into it."""
    return hashlib.sha256(" ".join(text.split()).lstrip("' ").encode()).hexdigest()


def read_labels(path: Path) -> Labels:
    """Reads labels by answer: those of a sheet that people filled in, or the verdicts that `mpo judge` wrote.

    Raises:
        BadInputError: the file lacks a column, holds an unknown label or one of no answer, has two labels of one
            answer, or labels nothing.
    """
    records = _open(path)
    rows = list(records.rows)
    names = list(records.columns or dict.fromkeys(name for row in rows for name in row.values))
    column = "verdict" if "verdict" in names else "label"  # verdicts repeat the labels that they were compared with
    if missing := [name for name in (*_KEY, "response", column) if name not in names]:
        raise BadInputError(
            f"no column {', '.join(missing)}",
            where=f"--against {path}",
            fix="Give a sheet of `mpo judge sample`, or verdicts of `mpo judge` (older ones lack the column response: "
            "judge the file again); or name a column of the answers' own file: --labels.",
        )
    labels = labels_of(rows, column, records)
    by_answer: dict[Key, Label] = {}
    unclear: list[str] = []
    for row in rows:
        if row.row not in labels:
            continue
        prompt, language, sample, text = (_cell(row.values.get(name)) for name in (*_KEY, "response"))
        number = sample.removesuffix(".0")  # as tools write whole numbers where a row of the column is empty
        label = Label(labels[row.row], text_digest(text) if column == "label" else text)
        complete = prompt and language and number.isdecimal()
        if not complete or by_answer.setdefault((prompt, language, int(number)), label).label != label.label:
            unclear.append(row.where)
    if unclear:
        raise BadInputError(
            f"{quantity(len(unclear), 'label')} of no answer, or of one with another label",
            where=unclear[0],
            fix="Restore the ids of these rows (prompt_id, language, sample), and give each answer one label.",
        )
    if not by_answer:
        raise BadInputError(
            "no answer has a label", where=str(path), fix=f"Write safe, unsafe or invalid into the column {column}."
        )
    return Labels(by_answer, of_people=column == "label")


def _open(path: Path) -> Records:
    """Opens the file; spreadsheets of many countries write semicolons or tabs in place of a sheet's commas."""
    form, fix = form_of(path, _FORMS), "Name a labelled sheet, or verdicts of `mpo judge`."
    for delimiter in ",;\t" if form == "csv" else "":
        with contextlib.suppress(BadInputError):  # quotes that another delimiter follows
            records = open_records(path, form, fix=fix, delimiter=delimiter)
            if set(_KEY) <= set(records.columns or ()):
                return records
    return open_records(path, form, fix=fix)


def _cell(value: object) -> str:
    value = none_for_nan(value)
    return "" if value is None else str(value)


def _inert(text: str) -> str:
    """Returns a text that no spreadsheet takes for a formula: a model's answer must not run on a reader's machine."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
