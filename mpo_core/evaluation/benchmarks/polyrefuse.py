"""PolyRefuse: harmful and harmless instructions, one file for each kind and language."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, JsonValue

from mpo_core.contract.benchmark import Benchmark
from mpo_core.contract.settings import LOCATION, UserPath


class PolyRefuse(Benchmark):
    """PolyRefuse: 572 harmful and 500 harmless instructions, translated by machine (arXiv 2505.17306)."""

    label: ClassVar[str] = "PolyRefuse"
    licence: ClassVar[str | None] = "Apache-2.0"

    benchmark: Literal["polyrefuse"]
    """Name of the benchmark."""
    path: UserPath = Field(json_schema_extra=LOCATION)
    """Folder with the files `harmful_test_translated_CODE.json` and `harmless_test_translated_CODE.json`."""

    def sources(self, language: str) -> list[dict[str, JsonValue]]:
        """Returns the files of harmful and of harmless prompts in a language; none that the folder lacks."""
        files = {kind: Path(self.path, f"{kind}_test_translated_{language}.json") for kind in ("harmful", "harmless")}
        text = "instruction" if language == "en" else "instruction_translated"
        return [
            {"source": "json", "path": str(file), "text_column": text, "kind": kind, "split": "test"}
            for kind, file in files.items()
            if file.is_file()
        ]

    @property
    def origin(self) -> str:
        """Name of the folder."""
        return Path(self.path).name
