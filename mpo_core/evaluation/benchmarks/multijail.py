"""MultiJail: 315 harmful prompts with human translations."""

from typing import ClassVar, Literal

from pydantic import JsonValue

from mpo_core.contract.benchmark import FileBenchmark

_LANGUAGES = ("en", "zh", "it", "vi", "ar", "ko", "th", "bn", "sw", "jv")


class MultiJail(FileBenchmark):
    """MultiJail: 315 harmful prompts in English, translated by people into nine languages (arXiv 2310.06474)."""

    label: ClassVar[str] = "MultiJail"
    licence: ClassVar[str | None] = "MIT"
    hub: ClassVar[str] = "DAMO-NLP-SG/MultiJail"
    columns: ClassVar[tuple[str, ...]] = ("id", "source", "tags", *_LANGUAGES)

    benchmark: Literal["multijail"]
    """Name of the benchmark."""

    def sources(self, language: str) -> list[dict[str, JsonValue]]:
        """Returns the file with the language's column as text; nothing for a language that it lacks."""
        if language not in _LANGUAGES:
            return []
        return [self.table(text_column=language, category_column="tags", kind="harmful")]
