"""Measures the base model before any alignment: greedy answers, and a table of the exact judge's verdicts."""

from collections import Counter
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from .grid import Kind, Split
from .small import SMALL
from .worlds import World

BATCH: Final = 100
MAX_NEW_TOKENS: Final = 64

Row = dict[str, int]
"""The count of each verdict, and of all prompts under `"prompts"`."""


@torch.inference_mode()
def greedy(model: Any, tokenizer: Any, prompts: list[str]) -> list[str]:
    """Returns a model's answer to each prompt at temperature 0, without special tokens."""
    order = sorted(range(len(prompts)), key=lambda at: len(prompts[at]))
    answers = [""] * len(prompts)
    for start in range(0, len(order), BATCH):
        numbers = order[start : start + BATCH]
        chats = [[{"role": "user", "content": prompts[at]}] for at in numbers]
        batch = tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        output = model.generate(**batch, do_sample=False, max_new_tokens=MAX_NEW_TOKENS)
        texts = tokenizer.batch_decode(output[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        for at, text in zip(numbers, texts, strict=True):
            answers[at] = text
    return answers


def table(folder: Path, limit: int = 150, split: Split = "test", world: World = SMALL) -> dict[str, dict[str, Row]]:
    """Counts the exact judge's verdicts on a model's greedy answers, by language and kind of prompt.

    Args:
        folder: the model's folder.
        limit: maximum number of prompts of each kind in each language.
        split: the split of the prompts.
        world: the world of the prompts.

    Returns:
        `{language: {kind: {"prompts": n, "helped": .., "refused": .., "broken": ..}}}`.
    """
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    kinds: tuple[Kind, ...] = ("harmful", "harmless")
    result: dict[str, dict[str, Row]] = {}
    for language in world.languages:
        result[language] = {}
        for kind in kinds:
            prompts = [item.prompt(language) for item in world.items(split, kind, limit, 0)]
            answers = greedy(model, tokenizer, prompts)
            verdicts = Counter(
                world.judge(prompt, text, language).verdict for prompt, text in zip(prompts, answers, strict=True)
            )
            result[language][kind] = {
                "prompts": len(prompts),
                "helped": verdicts["helped"],
                "refused": verdicts["refused"],
                "broken": verdicts["broken"],
            }
    return result
