"""Dominant-language prompts from files, Hugging Face datasets and the microworld."""

from mpo_core.prompts.blocks import blocks
from mpo_core.prompts.fingerprint import fingerprint
from mpo_core.prompts.load import load_prompts

__all__ = ["blocks", "fingerprint", "load_prompts"]
