"""CSRT: harmful prompts that switch between languages within a sentence."""

from typing import ClassVar, Literal

from pydantic import JsonValue

from mpo_core.contract.benchmark import FileBenchmark


class Csrt(FileBenchmark):
    """CSRT: 315 harmful prompts, each in a mixture of ten languages (arXiv 2406.15481).

    They count as English: a model that understands the mixture is to answer in English.
    """

    label: ClassVar[str] = "CSRT, code-switched"

    benchmark: Literal["csrt"]
    """Name of the benchmark."""

    def sources(self, language: str) -> list[dict[str, JsonValue]]:
        """Returns the file with its mixed texts for English, and nothing for other languages."""
        if language != "en":
            return []
        return [self.table(text_column="csrt", category_column="category", kind="harmful")]
