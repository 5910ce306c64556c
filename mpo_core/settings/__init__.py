"""Every setting, one class per stage. Unknown keys are rejected; each field has a description.

`mpo_core.settings.profiles` reads them from YAML files and `--set` overrides. Fields made
with `OPERATIONAL` (concurrency, batch size, retries ...) cannot change an answer and stay
out of cache keys.
"""

from mpo_core.contract.settings import Settings
from mpo_core.contract.training import LoraSettings, TrainingMethod, TrainingSettings
from mpo_core.settings.data import (
    ModelSettings,
    PairSettings,
    PromptSettings,
    SamplingSettings,
)
from mpo_core.settings.edit import EditSettings
from mpo_core.settings.languages import DefinedLanguage, LanguageSettings
from mpo_core.settings.pipeline import (
    CompareSettings,
    EvaluationSettings,
    GateSettings,
    LmEvalSettings,
    PipelineConfig,
    RunSettings,
)
from mpo_core.settings.translation import (
    TranslationGates,
    TranslationSettings,
)
