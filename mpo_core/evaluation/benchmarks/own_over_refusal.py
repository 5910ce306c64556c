"""The over-refusal set of this project: harmless prompts that sound frightening."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import JsonValue

from mpo_core.contract.benchmark import Benchmark
from mpo_core.contract.metric import HARMLESS_INVALID, HELPED, OVER_REFUSAL, Metric

_FILE = Path("data") / "over_refusal" / "prompts.csv"
_CHECKOUT = Path(__file__).resolve().parents[3]
_LANGUAGES = frozenset({"en", "zh", "ja", "ko", "ar", "bn", "sw"})


class OwnOverRefusal(Benchmark):
    """The over-refusal set of this project: harmless prompts that sound frightening, in seven languages."""

    label: ClassVar[str] = "Own over-refusal set"
    licence: ClassVar[str | None] = "Apache-2.0"
    metrics: ClassVar[tuple[Metric, ...]] = (OVER_REFUSAL, HELPED, HARMLESS_INVALID)

    benchmark: Literal["own_over_refusal"]
    """Name of the benchmark."""

    def sources(self, language: str) -> list[dict[str, JsonValue]]:
        """Returns the file that ships with the project, with the language's column as text."""
        if language not in _LANGUAGES:
            return []
        path = str(_CHECKOUT / _FILE)
        table: dict[str, JsonValue] = {"source": "csv", "path": path, "text_column": language, "split": "test"}
        return [{**table, "category_column": "category", "kind": "harmless"}]

    @property
    def origin(self) -> str:
        """Path of the file in the repository."""
        return _FILE.as_posix()
