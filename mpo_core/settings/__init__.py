"""Every setting, one model per stage. Unknown keys are refused; each field is described.

`mpo_core.profiles` reads them from YAML files and `--set` overrides. Fields made
with `OPERATIONAL` (concurrency, batch size, retries ...) cannot change an answer and stay
out of cache keys.
"""

from mpo_core.settings.base import Settings
from mpo_core.settings.data import (
    JudgingSettings,
    ModelSettings,
    PairSettings,
    PromptSettings,
    PromptSource,
    SamplingSettings,
    TranslationSettings,
    TranslationSource,
)
from mpo_core.settings.languages import DefinedLanguage, LanguageSettings
from mpo_core.settings.pipeline import (
    CompareSettings,
    EvaluationSettings,
    GateSettings,
    PipelineConfig,
    RealignSettings,
    RunSettings,
)
from mpo_core.settings.training import LoraSettings, RetentionSettings, TrainingSettings

__all__ = [
    "CompareSettings",
    "DefinedLanguage",
    "EvaluationSettings",
    "GateSettings",
    "JudgingSettings",
    "LanguageSettings",
    "LoraSettings",
    "ModelSettings",
    "PairSettings",
    "PipelineConfig",
    "PromptSettings",
    "PromptSource",
    "RealignSettings",
    "RetentionSettings",
    "RunSettings",
    "SamplingSettings",
    "Settings",
    "TrainingSettings",
    "TranslationSettings",
    "TranslationSource",
]
