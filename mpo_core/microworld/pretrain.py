"""Pretrains the base model from nothing: next-token prediction over the corpus, on one CPU core."""

import math
from collections.abc import Callable, Iterator
from typing import Final

import torch
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from . import corpus
from . import tokenizer as words
from .small import SMALL
from .worlds import World

BATCH: Final = 64
LEARNING_RATE: Final = 3e-3
WARMUP: Final = 0.05
WEIGHT_DECAY: Final = 0.01
CLIP: Final = 1.0
MAX_POSITION: Final = 256

Progress = Callable[[int, int, float], None]
"""Called with (steps done, steps in all, loss)."""


def new_model(vocabulary: int, seed: int) -> LlamaForCausalLM:
    """Returns an untrained model of about 1.03 M parameters."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=MAX_POSITION,
            tie_word_embeddings=True,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=4,
        )
    )


def encode(tokenizer: Tokenizer, document: corpus.Document) -> list[int]:
    """Returns the token ids of a document; a chat is tokenised exactly as the chat template renders it."""
    if isinstance(document, corpus.Turn):
        text = f"{words.BOS}{words.USER}{document.prompt}{words.END}{words.ASSISTANT}{document.response}{words.END}"
    else:
        text = f"{words.BOS}{document}{words.END}"
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def pretrain(
    tokenizer: Tokenizer, *, seed: int, steps: int, progress: Progress | None = None, world: World = SMALL
) -> tuple[LlamaForCausalLM, float]:
    """Trains a new model for `steps` batches; returns it in evaluation mode, and its last loss (nats per token).

    The result is the same for the same seed, steps (batches of 64 documents) and package versions.
    """
    model = new_model(tokenizer.get_vocab_size(), seed)
    model.train()
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    gains = [weight for weight in model.parameters() if weight.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": gains, "weight_decay": 0.0}],
        lr=LEARNING_RATE,
        betas=(0.9, 0.98),
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    value = math.nan
    for step, batch in enumerate(_batches(tokenizer, seed, steps, world), start=1):
        optimizer.zero_grad(set_to_none=True)
        loss = _loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        schedule.step()
        value = loss.item()
        if progress is not None:
            progress(step, steps, value)
    model.eval()
    return model, value


def _rate(step: int, steps: int) -> float:
    """Returns the learning rate of a step: linear warm-up, then cosine down to a twentieth."""
    warmup = max(1, round(WARMUP * steps))
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return 0.05 + 0.95 * 0.5 * (1.0 + math.cos(math.pi * done))


def _batches(tokenizer: Tokenizer, seed: int, steps: int, world: World) -> Iterator[torch.Tensor]:
    """Yields `[BATCH, T]` ids, padded with 0 on the right.

    Eight batches' worth of documents are sorted by length together, which halves the padding; a fixed interleaving
    keeps short and long batches mixed.
    """
    stream = (encode(tokenizer, document) for document in corpus.documents(steps * BATCH, seed, world))
    remaining = steps
    generator = torch.Generator().manual_seed(seed)
    while remaining > 0:
        count = min(8, remaining)
        window = sorted((next(stream) for _ in range(count * BATCH)), key=len)
        for at in torch.randperm(count, generator=generator).tolist():
            rows = window[at * BATCH : (at + 1) * BATCH]
            width = max(map(len, rows))
            yield torch.tensor([row + [0] * (width - len(row)) for row in rows])
        remaining -= count


def _loss(model: LlamaForCausalLM, ids: torch.Tensor) -> torch.Tensor:
    """Computes the mean next-token cross-entropy over real tokens; the head runs on those only."""
    mask = ids != 0
    hidden = model.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    keep = mask[:, 1:]
    logits = model.lm_head(hidden[:, :-1][keep])
    return functional.cross_entropy(logits, ids[:, 1:][keep])
