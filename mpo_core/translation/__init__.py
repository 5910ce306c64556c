"""Dominant-language text into a target language, by engines asked in order."""

from mpo_core.translation.engines import Engine, build_engines, fingerprint
from mpo_core.translation.memory import MemoryEngine
from mpo_core.translation.microworld import MicroworldEngine
from mpo_core.translation.translate import Text, answer_texts, prompt_texts, translate_texts

__all__ = [
    "Engine",
    "MemoryEngine",
    "MicroworldEngine",
    "Text",
    "answer_texts",
    "build_engines",
    "fingerprint",
    "prompt_texts",
    "translate_texts",
]
