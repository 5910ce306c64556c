"""Settings of translation: engines, and the gates that every translation passes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

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


if TYPE_CHECKING:
    TranslationSource = TranslationEngine
else:  # the engines of other packages are known at run time only
    TranslationSource = ENGINES.union()


class BackTranslationSettings(Settings):
    """Translates each translation back and compares it with the original text. It costs another request per text."""

    engine: TranslationSource
    """Engine that translates back; choose one that is not in `translation.engines`."""
    min_chrf: float = Field(40.0, ge=0.0, le=100.0)
    """Minimum chrF (0 to 100, 100: equal) between a text and its translation back. Default: 40."""


class TranslationGates(Settings):
    """Tests of every translation. After a change, stored translations are tested again, without new requests."""

    hard: list[GateName] = Field([*get_args(GateName)[:11]])
    """Gates that reject a translation; the others only mark it. Default: the eleven from `empty_translation` to
    `back_translation`."""
    marked: Literal["keep", "weigh", "drop"] = "weigh"
    """What happens to a translation that fails only gates that are not in `hard`, and is marked for it: used in full
    (`keep`), used with a lower weight in training (`weigh`), or rejected (`drop`). Default: `weigh`."""
    weight: Fraction = 0.5
    """Weight (0 to 1) in training of a pair with a translation that a gate marked, if `marked` is `weigh`. Default:
    0.5."""
    max_length_factor: float = Field(2.0, gt=1.0)
    """Bound of the gate `length_ratio`: factor by which a translation may be longer or shorter than is usual for the
    two languages. Default: 2."""
    max_repetition: Fraction = 0.5
    """Bound of the gate `repetition`: how much the share (0 to 1) of repeated text in a translation may exceed the
    share in its source. Default: 0.5."""
    back_translation: BackTranslationSettings | None = None
    """Translates back and compares, for the gate `back_translation`. Default: off."""


class TranslationSettings(Settings):
    """How texts are translated from the dominant language into the targets."""

    engines: list[TranslationSource] = Field(min_length=1)
    """Translation engines in the order in which they are tried: the first translation that passes the gates is used.
    Such as {"engine": "memory", "path": …}, {"engine": "deep_translator", "service": "google"}, {"engine": "seq2seq",
    "path": …}, {"engine": "openai", "model": …}, {"engine": "microworld"}; each has more keys (docs/settings.md)."""
    gates: TranslationGates = TranslationGates()
    """The gates that a translation must pass."""
    attempt: int = Field(1, ge=1)
    """Number of the translation attempt. Increase it to send texts without an accepted translation to the engines
    again, for example after an outage. Default: 1."""
