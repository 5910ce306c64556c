"""A translation memory as an engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import Field

from mpo_core.contract.settings import Delimiter, UserPath
from mpo_core.contract.translation import Backend, Engine, TranslationEngine


class MemorySource(TranslationEngine):
    """A file of translations."""

    argument = ("path", "FILE")

    engine: Literal["memory"]
    """`memory`."""
    path: UserPath
    """A table (CSV, JSON, Parquet, Arrow) with one column per language, or TMX; plain or compressed."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Column (TMX: `xml:lang`) of a language where it is not the language's code."""
    delimiter: Delimiter | None = None
    """Character between the fields of a CSV file, such as ";" or "tab". Default: a comma, or a tab in a `.tsv` file."""

    def open(self, machine: Callable[[Backend], Engine], *, with_key: bool = True) -> Engine:
        """Returns the engine, with the whole file read.

        Raises:
            BadInputError: the file is missing or malformed, or lacks a column that is named.
        """
        from mpo_core.translation.memory import MemoryEngine

        del machine, with_key  # its answers are its own, and it needs no key
        return MemoryEngine(Path(self.path), columns=self.columns, delimiter=self.delimiter)

    def identity(self) -> str:
        """Returns the digest of the file.

        Raises:
            BadInputError: the file is missing or cannot be read.
        """
        from mpo_core.files.read import digest
        from mpo_core.translation.memory import MEND

        return f"memory:{digest(Path(self.path), fix=MEND)}"

    def files(self) -> list[Path]:
        """Returns the file."""
        return [Path(self.path)]
