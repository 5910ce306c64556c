"""Reads one column of texts from a file of the user's row by row, since such a file may be larger than memory."""

from collections.abc import Iterator
from pathlib import Path

from mpo_core.contract.errors import BadInputError
from mpo_core.files.messages import Fault
from mpo_core.files.records import Record, form_of, open_records, require_columns

KEY = "--column"


def read_texts(path: Path, column: str, *, delimiter: str | None = None) -> Iterator[str | Fault]:
    """Yields the text of each row in a column, in order: empty where there is none, or the fault of the row.

    Args:
        path: a file of one of `records.FORMS`; in a `.txt` file each line is a text, and `column` is ignored.
        column: the column (JSON: key) of the text, or of a list of messages with one turn of the user.
        delimiter: delimiter of CSV; by default a comma, or a tab in a `.tsv` file.

    Raises:
        BadInputError: the file is missing, malformed or of another kind, lacks the column, or every row is
            rejected.
    """
    records = open_records(
        path, form_of(path), fix="Name a file of texts.", delimiter=delimiter, key="--delimiter", only=column
    )
    if records.columns is not None:
        require_columns(records, records.columns, {KEY: column})
    present: dict[str, None] = {}
    fault: tuple[Record, Fault] | None = None
    usable = False
    for record in records.rows:
        present.update(dict.fromkeys(record.values))
        text = record.text(column)
        if isinstance(text, Fault):
            fault = fault or (record, text)
        usable = usable or isinstance(text, str)
        yield text
    if records.columns is None and present:
        require_columns(records, list(present), {KEY: column})
    if fault is not None and not usable:
        record, why = fault
        raise BadInputError(
            why.detail, where=record.where, fix="Every row is rejected: fix the rows, or name another --column."
        )
