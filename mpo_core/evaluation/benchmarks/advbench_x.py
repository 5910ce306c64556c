"""AdvBench-x: 520 harmful instructions, translated."""

from typing import ClassVar, Literal

from pydantic import JsonValue

from mpo_core.contract.benchmark import FileBenchmark

_LANGUAGES = frozenset({"en", "zh", "ko", "th", "af", "ne", "sw", "bn", "it", "vi", "ar", "jv"})


class AdvBenchX(FileBenchmark):
    """AdvBench-x: 520 harmful instructions in English and translated into eleven languages."""

    label: ClassVar[str] = "AdvBench-x"
    licence: ClassVar[str | None] = "MIT"

    benchmark: Literal["advbench_x"]
    """Name of the benchmark."""

    def sources(self, language: str) -> list[dict[str, JsonValue]]:
        """Returns the file with the language's column as text; nothing for a language that it lacks."""
        return [self.table(text_column=language, kind="harmful")] if language in _LANGUAGES else []
