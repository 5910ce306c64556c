"""PolyGuardPrompts: harmful and harmless prompts in 17 languages, with labelled answers of other models."""

from typing import ClassVar, Literal

from pydantic import JsonValue

from mpo_core.contract.benchmark import FileBenchmark

_NAMES = {"ar": "arabic", "zh": "chinese", "cs": "czech", "nl": "dutch", "en": "english", "fr": "french"}
_NAMES |= {"de": "german", "hi": "hindi", "th": "thai", "it": "italian", "ja": "japanese", "ko": "korean"}
_NAMES |= {"pl": "polish", "pt": "portuguese", "ru": "russian", "es": "spanish", "sv": "swedish"}


class PolyGuardPrompts(FileBenchmark):
    """PolyGuardPrompts: about 1,700 prompts of both kinds in each of 17 languages (arXiv 2504.04377).

    Only its prompts are used; its labelled answers serve to compare a judge with people (`mpo judge --labels`).
    """

    label: ClassVar[str] = "PolyGuardPrompts"
    licence: ClassVar[str | None] = "CC-BY-4.0"
    hub: ClassVar[str] = "ToxicityPrompts/PolyGuardPrompts"
    dataset_split: ClassVar[str] = "test"
    parallel: ClassVar[bool] = False

    benchmark: Literal["polyguard_prompts"]
    """Name of the benchmark."""

    def sources(self, language: str) -> list[dict[str, JsonValue]]:
        """Returns the rows of a language, as far as the file has it; a prompt that has several answers counts once."""
        if language not in _NAMES:
            return []
        spelling = language if self.revision else self.spelling("language", {language, _NAMES[language]})
        if spelling is None:
            return []
        columns: dict[str, JsonValue] = {"text_column": "prompt", "category_column": "subcategory"}
        return [self.table(kind_column="prompt_harm_label", where={"language": spelling}, **columns)]
