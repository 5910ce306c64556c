"""Reads the texts of a file without a header: CSV with one column, or an Excel workbook."""

import csv
import io
from pathlib import Path

from mpo_core.contract.errors import BadInputError, installation
from mpo_core.files.read import read_bytes, read_text

_ZIP = b"PK\x03\x04"


def first_column(path: Path, *, fix: str) -> list[str]:
    """Returns the text of every row, in order; blank lines are no rows.

    The content decides whether it is a workbook, not the name. In CSV, a byte-order mark is no text, and a comma
    outside of quotes belongs to the text.

    Raises:
        BadInputError: it cannot be read, or it is a workbook and openpyxl is not installed.
    """
    if read_bytes(path, fix=fix).startswith(_ZIP):
        return _workbook(path)
    try:
        rows = list(csv.reader(io.StringIO(read_text(path, fix=fix).removeprefix("\ufeff"), newline=""), strict=True))
    except csv.Error as error:
        raise BadInputError(f"this is not CSV ({error})", where=str(path), fix="Check the quotes.") from None
    return [",".join(row).strip(" ,") if len(row) > 1 else row[0].strip() for row in rows if row]


def _workbook(path: Path) -> list[str]:
    try:
        from openpyxl import load_workbook
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError:
        raise BadInputError(
            "this is an Excel workbook, and openpyxl is not installed",
            where=str(path),
            fix=installation("xlsx"),
        ) from None
    try:
        with path.open("rb") as file:  # the name may say something else than the content
            sheet = load_workbook(file, read_only=True, data_only=True).worksheets[0]
            cells = [next(iter(row), None) for row in sheet.iter_rows(max_col=1, values_only=True)]
    except (InvalidFileException, OSError, KeyError, ValueError, IndexError) as error:
        raise BadInputError(
            f"the workbook cannot be read ({type(error).__name__})", where=str(path), fix="Save it again as CSV."
        ) from None
    return [str(cell).strip() for cell in cells if cell is not None]
