"""Aya red-teaming: harmful prompts that people wrote in eight languages."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import JsonValue

from mpo_core.contract.benchmark import FileBenchmark

_NAMES = {
    "ar": ("arabic", "arb"),
    "en": ("english", "eng"),
    "fil": ("filipino", "tgl"),
    "fr": ("french", "fra"),
    "hi": ("hindi", "hin"),
    "ru": ("russian", "rus"),
    "sr": ("serbian", "srp"),
    "es": ("spanish", "spa"),
}
"""Split of each language on the hub, and what its file is called after."""


class AyaRedTeaming(FileBenchmark):
    """Aya red-teaming: 7,419 harmful prompts, written by people in eight languages (arXiv 2406.18682)."""

    label: ClassVar[str] = "Aya red-teaming"
    licence: ClassVar[str | None] = "Apache-2.0"
    hub: ClassVar[str] = "CohereLabs/aya_redteaming"
    parallel: ClassVar[bool] = False

    benchmark: Literal["aya_red_teaming"]
    """Name of the benchmark."""

    def sources(self, language: str) -> list[dict[str, JsonValue]]:
        """Returns the rows of a language: a split of the hub, a file of a folder, or rows of one file for all.

        A prompt may have several harm categories; its category is the text of that list.
        """
        if language not in _NAMES:
            return []
        split, code = _NAMES[language]
        columns: dict[str, JsonValue] = {"text_column": "prompt", "category_column": "harm_category", "kind": "harmful"}
        if self.revision is not None:
            return [self.table(dataset_split=split, **columns)]
        own = Path(self.path, f"aya_{code}.jsonl")
        if Path(self.path).is_dir():
            return [{"source": "jsonl", "path": str(own), "split": "test", **columns}] if own.is_file() else []
        spelling = self.spelling("language", {language, split, code})
        return [] if spelling is None else [self.table(where={"language": spelling}, **columns)]
