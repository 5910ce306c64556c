"""A translation memory as an engine."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import Field

from mpo_core.contract.settings import Delimiter, UserPath
from mpo_core.contract.translation import Backend, Engine, TranslationEngine


@functools.lru_cache(maxsize=2)
def _read(path: str, columns: tuple[tuple[str, str], ...], delimiter: str | None, _identity: str) -> Engine:
    """Reads a memory once per process and content."""
    from mpo_core.translation.memory import MemoryEngine

    return MemoryEngine(Path(path), columns=dict(columns), delimiter=delimiter)


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
        """Returns the engine, with the whole file read; tasks of one process share it.

        Raises:
            BadInputError: the file is missing or malformed, or lacks a column that is named.
        """
        del machine, with_key  # its answers are its own, and it needs no key
        return _read(self.path, tuple(self.columns.items()), self.delimiter, self.identity())

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
