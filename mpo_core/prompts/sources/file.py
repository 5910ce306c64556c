"""The sources that are tables in files, plain or compressed."""

from pathlib import Path
from typing import Literal, cast

from mpo_core.contract.settings import Delimiter, UserPath
from mpo_core.files.records import Form, Records, open_records
from mpo_core.prompts.columns import FIX, ColumnSource, content_digest


class _FileSource(ColumnSource):
    """Base of the sources that are files."""

    path: UserPath
    """Path of the file."""

    @property
    def name(self) -> str:
        """Name of the source in tables and reports: the file's name."""
        return Path(self.path).name

    def records(self, *, key: str, delimiter: str | None = None) -> Records:
        """Opens the file as a table."""
        form = cast("Form", self.source)
        return open_records(Path(self.path), form, fix=FIX, delimiter=delimiter, key=f"{key}.delimiter")

    def digest(self) -> str:
        """Returns the digest of the file's content."""
        return f"{self.source}:{content_digest(Path(self.path))}"


class CsvSource(_FileSource):
    """A CSV file (`.csv` or `.tsv`)."""

    source: Literal["csv"]
    """Name of the source: `csv`."""
    delimiter: Delimiter | None = None
    """Character between the fields, such as ";" or "tab". Default: a comma, or a tab in a `.tsv` file."""

    def records(self, *, key: str, delimiter: str | None = None) -> Records:
        """Opens the file as a table."""
        return super().records(key=key, delimiter=delimiter or self.delimiter)


class JsonSource(_FileSource):
    """A JSON file that holds one list (`.json`)."""

    source: Literal["json"]
    """Name of the source: `json`."""


class JsonLinesSource(_FileSource):
    """A file of one JSON object per line (`.jsonl` or `.ndjson`)."""

    source: Literal["jsonl"]
    """Name of the source: `jsonl`."""


class ParquetSource(_FileSource):
    """A Parquet or Arrow file (`.parquet` or `.arrow`), or a folder of Parquet files."""

    source: Literal["parquet"]
    """Name of the source: `parquet`."""
