"""Dominant-language prompts from files, Hugging Face datasets and the microworld."""

from mpo_core.prompts.blocks import blocks
from mpo_core.prompts.fingerprint import fingerprint
from mpo_core.prompts.load import count_kinds, load_prompts

__all__ = ["blocks", "count_kinds", "fingerprint", "load_prompts"]
