"""XSafety: prompts of 14 kinds of harm in ten languages, one file for each."""

import re
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from mpo_core.contract.benchmark import Benchmark, BenchmarkPrompt
from mpo_core.contract.settings import LOCATION, UserPath
from mpo_core.files.first_column import first_column

_FOLDERS = {"es": "sp"}
"""Folders that are not called by the code of their language."""
_ENDING = re.compile(r"_(n|[a-z]{2})$")


class XSafety(Benchmark):
    """XSafety: 2,800 harmful prompts in each of ten languages, translated by people (arXiv 2310.00905)."""

    label: ClassVar[str] = "XSafety"
    licence: ClassVar[str | None] = "Apache-2.0"

    benchmark: Literal["xsafety"]
    """Name of the benchmark."""
    path: UserPath = Field(json_schema_extra=LOCATION)
    """Folder of the repository Jarviswang94/Multilingual_safety_benchmark, with a folder for each language."""

    def prompts(self, language: str) -> list[BenchmarkPrompt]:
        """Returns the rows of all files in the language's folder; the same row of a kind has one id everywhere."""
        folder = Path(self.path, _FOLDERS.get(language, language))
        files = sorted(path for path in folder.glob("*") if path.suffix.lower() in {".csv", ".xlsx"})
        categories = {path: _ENDING.sub("", path.stem).lower() for path in files}
        return [
            BenchmarkPrompt(f"{category}/{row}", text, "harmful", category)
            for path, category in categories.items()
            for row, text in enumerate(first_column(path, fix="Check the folder of the benchmark xsafety."))
        ]

    @property
    def origin(self) -> str:
        """Name of the folder."""
        return Path(self.path).name
