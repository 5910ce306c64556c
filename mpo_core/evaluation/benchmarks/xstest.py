"""XSTest: English prompts that sound dangerous and are not, with dangerous counterparts."""

from typing import ClassVar, Literal

from pydantic import JsonValue

from mpo_core.contract.benchmark import FileBenchmark


class XSTest(FileBenchmark):
    """XSTest: 250 harmless English prompts that sound dangerous, and 200 harmful counterparts (arXiv 2308.01263)."""

    label: ClassVar[str] = "XSTest"
    licence: ClassVar[str | None] = "CC-BY-4.0"
    hub: ClassVar[str] = "walledai/XSTest"
    dataset_split: ClassVar[str] = "test"

    benchmark: Literal["xstest"]
    """Name of the benchmark."""

    def sources(self, language: str) -> list[dict[str, JsonValue]]:
        """Returns the file for English, and nothing for other languages."""
        if language != "en":
            return []
        return [self.table(text_column="prompt", category_column="type", kind_column="label")]
