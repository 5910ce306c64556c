"""Settings of translation: engines, and the gates that every translation passes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from mpo_core.contract.settings import Fraction, Settings
from mpo_core.contract.translation import ENGINES, TranslationEngine

GateName = Literal[
    "empty_translation",
    "echo",
    "error_page",
    "wrong_language",
    "protected_lost",
    "repetition",
    "refusal",
    "truncated",
    "sentences_lost",
    "shared",
    "back_translation",
    "ending_lost",
    "entities",
    "markup_lost",
    "lines_lost",
    "length_ratio",
]


def _as_any_of(schema: dict[str, Any]) -> None:
    """Prefect's form reads `anyOf`, and knows nothing of `oneOf` and `discriminator`."""
    schema["anyOf"] = schema.pop("oneOf")
    del schema["discriminator"]


if TYPE_CHECKING:
    TranslationSource = TranslationEngine
else:  # the engines of other packages are known at run time only
    TranslationSource = Annotated[ENGINES.union(), Field(json_schema_extra=_as_any_of)]


class BackTranslationSettings(Settings):
    """Translating back, to see whether the meaning survived. Costs a request more per text."""

    engine: TranslationSource
    """Who translates back; better another one than the first."""
    min_chrf: float = Field(40.0, ge=0.0, le=100.0)
    """Least chrF (0 to 100) of the text and its way there and back."""


class TranslationGates(Settings):
    """What a translation must pass. Changing one judges anew without asking an engine again."""

    hard: list[GateName] = Field(
        [
            "empty_translation",
            "echo",
            "error_page",
            "wrong_language",
            "protected_lost",
            "repetition",
            "refusal",
            "truncated",
            "sentences_lost",
            "shared",
            "back_translation",
        ]
    )
    """Gates that reject a translation; the others only mark it."""
    marked: Literal["keep", "weigh", "drop"] = "weigh"
    """What happens to a marked translation: used in full, used with `weight`, or rejected. Default: `weigh`."""
    weight: Fraction = 0.5
    """Weight (0 to 1) of a pair with a marked translation in training, with `marked: weigh`. Default: 0.5."""
    max_length_factor: float = Field(2.0, gt=1.0)
    """`length_ratio`: so many times longer or shorter than is usual for the two languages."""
    max_repetition: Fraction = 0.5
    """`repetition`: largest repeated share beyond the source's own."""
    back_translation: BackTranslationSettings | None = None
    """Translates back and compares, for the gate `back_translation`. Default: off."""


class TranslationSettings(Settings):
    """Dominant-language text into the targets."""

    engines: list[TranslationSource] = Field(min_length=1)
    """Asked in this order; the first whose translation passes the gates wins. Such as {"engine": "memory", "path": …},
    {"engine": "deep_translator", "service": "google"}, {"engine": "seq2seq", "path": …}, {"engine": "openai", "model":
    …}, {"engine": "microworld"}; each has more keys (docs/settings.md)."""
    gates: TranslationGates = TranslationGates()
    """What a translation must pass."""
    attempt: int = Field(1, ge=1)
    """Raise it to ask the engines again for rejected texts, as after an outage. Default: 1."""
