"""OR-Bench: English prompts that are wrongly refused."""

from typing import ClassVar, Literal

from pydantic import JsonValue

from mpo_core.contract.benchmark import FileBenchmark


class OrBench(FileBenchmark):
    """OR-Bench: harmless English prompts that models tend to refuse (arXiv 2405.20947); from the hub, its hard 1k."""

    label: ClassVar[str] = "OR-Bench"
    licence: ClassVar[str | None] = "CC-BY-4.0"
    hub: ClassVar[str] = "bench-llm/or-bench"

    benchmark: Literal["or_bench"]
    """Name of the benchmark."""

    def sources(self, language: str) -> list[dict[str, JsonValue]]:
        """Returns the file or dataset for English, and nothing for other languages."""
        if language != "en":
            return []
        subset: dict[str, JsonValue] = {} if self.revision is None else {"subset": "or-bench-hard-1k"}
        return [self.table(text_column="prompt", category_column="category", kind="harmless", **subset)]
