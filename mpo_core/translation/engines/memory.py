"""The engine `memory`: looks translations up in a file of the user's."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import Field

from mpo_core.contract.settings import Delimiter, UserPath
from mpo_core.contract.translation import Backend, Engine, TranslationEngine


@functools.lru_cache(maxsize=2)
def _read(path: str, columns: tuple[tuple[str, str], ...], delimiter: str | None, _identity: str) -> Engine:
    """Reads a translation memory; the last two are cached by content, so that tasks of one process share them."""
    from mpo_core.translation.memory import MemoryEngine

    return MemoryEngine(Path(path), columns=dict(columns), delimiter=delimiter)


class MemorySource(TranslationEngine):
    """A translation memory: a file with the same texts in several languages."""

    argument = ("path", "FILE")

    engine: Literal["memory"]
    """Name of the engine: `memory`."""
    path: UserPath
    """Path of the file: a table (CSV, JSON, Parquet, Arrow) with a column per language, or TMX; plain or compressed."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Column (in TMX: `xml:lang`) by language, such as {sw: Kiswahili}. Default: each language's code."""
    delimiter: Delimiter | None = None
    """Character between the fields of a CSV file, such as ";" or "tab". Default: a comma, or a tab in a `.tsv` file."""

    def open(self, machine: Callable[[Backend], Engine]) -> Engine:
        """Reads the whole file and returns the engine; tasks of one process share it."""
        del machine  # it is no machine translator
        return _read(self.path, tuple(self.columns.items()), self.delimiter, self.identity())

    def identity(self) -> str:
        """Returns the digest of the file."""
        from mpo_core.files.read import digest
        from mpo_core.translation.memory import FIX

        return f"memory:{digest(Path(self.path), fix=FIX)}"

    def files(self) -> list[Path]:
        """Returns the path of the file."""
        return [Path(self.path)]
