"""Dominant-language text into a target language, by engines asked in order and judged by gates."""

from mpo_core.translation.build import build_chain, fingerprint
from mpo_core.translation.engines import Engine, Reply, UnknownLanguageError
from mpo_core.translation.gates import Verdict, verdicts
from mpo_core.translation.machine import Load, MachineEngine
from mpo_core.translation.memory import MemoryEngine
from mpo_core.translation.microworld import MicroworldEngine
from mpo_core.translation.replies import REPLIES_FILE, Replies
from mpo_core.translation.translate import Chain, Text, answer_texts, prompt_texts, translate_texts

__all__ = [
    "REPLIES_FILE",
    "Chain",
    "Engine",
    "Load",
    "MachineEngine",
    "MemoryEngine",
    "MicroworldEngine",
    "Replies",
    "Reply",
    "Text",
    "UnknownLanguageError",
    "Verdict",
    "answer_texts",
    "build_chain",
    "fingerprint",
    "prompt_texts",
    "translate_texts",
    "verdicts",
]
