"""What the training benchmark trains on: a random-initialised Llama and synthetic pairs.

No text is shipped. `LENGTHS` are deciles of token counts, measured once on the 600 pairs
that the paper's authors released (a byte-level BPE of 16,000 trained on those pairs); token
ids are drawn at random. A row has the shape of an official pair: six target languages to one
dominant pair, in file order.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

LENGTHS = {
    "source_prompt": (7, 13, 16, 19, 24, 28, 37, 42, 50, 56, 102),
    "source_chosen": (7, 8, 15, 18, 23, 31, 38, 54, 79, 175, 206),
    "source_rejected": (4, 50, 79, 96, 114, 140, 153, 167, 195, 225, 462),
    "target_prompt": (0, 10, 14, 18, 23, 29, 35, 41, 49, 80, 281),
    "target_chosen": (27, 282, 295, 309, 336, 362, 394, 413, 431, 459, 760),
    "target_rejected": (2, 138, 274, 291, 303, 329, 370, 407, 436, 479, 698),
}
TARGETS = ("zh", "ja", "ko", "ar", "bn", "sw")
DOZEN = 12
TEMPLATE_TOKENS = 11  # what the template of Llama 3 puts around a request


class Shape(NamedTuple):
    """A model's size without its vocabulary; the default is that of the issue's measurements."""

    hidden: int = 256
    intermediate: int = 704
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2


SMALL = Shape()
LARGE = Shape(2048, 8192, 16, 32, 8)  # 1.5 B parameters at 128,256 tokens, for a CUDA device


def write(folder: Path, *, vocabulary: int, rows: int, scale: float = 1.0, shape: Shape = SMALL, seed: int = 0) -> None:
    """Model, tokenizer and pairs of a measurement, as files: `model/` and `pairs.parquet`.

    Args:
        folder: gets them.
        vocabulary: V; input and output embeddings are untied.
        rows: pairs.
        scale: factor of all lengths.
        shape: of the model.
        seed: of weights, lengths and ids.
    """
    _write_model(folder / "model", vocabulary, shape, seed)
    _write_pairs(folder / "pairs.parquet", vocabulary, rows, scale, seed)


def config_of(shape: Shape, vocabulary: int) -> Any:
    """Returns the config of a Llama of this shape."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=0,
    )


def _write_model(folder: Path, vocabulary: int, shape: Shape, seed: int) -> None:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(seed)
    LlamaForCausalLM(config_of(shape, vocabulary)).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({str(i): i for i in range(vocabulary)}, unk_token="0"))  # noqa: S106
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="1", pad_token="0")  # noqa: S106
    turn = " ".join("2" for _ in range(TEMPLATE_TOKENS))
    tokenizer.chat_template = "{{ messages[0]['content'] }} " + turn
    tokenizer.save_pretrained(folder)


def _write_pairs(path: Path, vocabulary: int, rows: int, scale: float, seed: int) -> None:
    import numpy as np

    from mpo_core.contract.artifacts import write_parquet
    from mpo_core.contract.tables import PAIRS

    draw = np.random.default_rng(seed)
    sources = rows // len(TARGETS) + 1
    lengths = {name: _lengths(name, rows if name.startswith("target") else sources, scale, draw) for name in LENGTHS}

    def texts(side: str, number: int) -> dict[str, str]:
        names = [name for name in LENGTHS if name.startswith(side)]
        return {name: " ".join(map(str, draw.integers(3, vocabulary, lengths[name][number]))) for name in names}

    table = []
    for number in range(rows):
        source, which = divmod(number, len(TARGETS))
        if which == 0:
            dominant = texts("source", source)
        source_id, language = f"{source:016d}", TARGETS[which]
        about = {"kind": "harmful", "split": "train", "source_language": "en", "origin": "imported"}
        names = {"pair_id": f"{source_id}/{language}", "source_id": source_id, "prompt_id": source_id}
        table.append(names | about | {"language": language} | dominant | texts("target", number))
    write_parquet(path, PAIRS, PAIRS.build(table))


def _lengths(field: str, count: int, scale: float, draw: Any) -> list[int]:
    """Of `count` texts; any dozen rows cover the distribution evenly, so that few steps already tell."""
    import numpy as np

    size = DOZEN if field.startswith("target") else DOZEN // len(TARGETS)
    strata = [(draw.permutation(size) + 0.5) / size for _ in range(count // size + 1)]
    deciles = np.linspace(0, 1, len(LENGTHS[field]))
    return [
        max(1, round(length * scale)) for length in np.interp(np.concatenate(strata)[:count], deciles, LENGTHS[field])
    ]


class Row(NamedTuple):
    """A pair's token ids, as training encodes them."""

    source_id: str
    source: Any
    target: Any


def read(folder: Path, *, cutoff: int) -> tuple[list[Row], int]:
    """The pairs that `write` left in the folder, in file order, and the id of the padding."""
    import pyarrow.parquet as pq

    from mpo_core.models import load_tokenizer
    from mpo_core.settings import ModelSettings
    from mpo_core.training.encoding import encode_text
    from mpo_core.training.reference import source_texts, target_texts

    pairs = pq.read_table(folder / "pairs.parquet")
    tokenizer = load_tokenizer(folder / "model", ModelSettings())
    sources, targets = (
        {text.text_id: encode_text(tokenizer, text, cutoff=cutoff, system=None) for text in texts}
        for texts in (source_texts(pairs), target_texts(pairs))
    )
    names = pairs["source_id"].to_pylist()
    rows = [Row(name, sources[name], target) for name, target in zip(names, targets.values(), strict=True)]
    return rows, tokenizer.pad_token_id


def useful_flops(config: Any, rows: list[Row], step_rows: int) -> int:
    """Floating-point operations that optimiser steps over these rows cannot do without.

    Matrix products alone, two per multiply-add, backward counted as twice forward: no
    padding, nothing computed again, a prompt once for both of its answers, a dominant pair once a
    step, causal attention as the triangle it is, logits of answer tokens only.

    Args:
        config: of the model.
        rows: in the order of training.
        step_rows: pairs of an optimiser step.
    """
    d, width = config.hidden_size, config.head_dim * config.num_attention_heads
    kv = config.head_dim * config.num_key_value_heads
    per_token = config.num_hidden_layers * (2 * d * width + 2 * d * kv + 3 * d * config.intermediate_size)
    total = 0
    for start in range(0, len(rows), step_rows):
        step = rows[start : start + step_rows]
        sources = {row.source_id: row.source for row in step}
        for pair in [*(row.target for row in step), *sources.values()]:
            prompt, chosen, rejected = map(len, pair)
            triangles = (prompt + chosen) ** 2 + (prompt + rejected) ** 2 - prompt**2
            # Two products, each of half a square: 2 * (T^2 / 2) multiply-adds a channel.
            total += (prompt + chosen + rejected) * per_token + config.num_hidden_layers * width * triangles
        total += sum((len(row.target.chosen) + len(row.target.rejected)) * d * config.vocab_size for row in step)
    return 3 * 2 * total


def matmul_rate(device: str = "cpu", *, seconds: float = 2.0) -> float:
    """FLOP/s of matrix products, the best of several square sizes: float32 on one thread, bfloat16 on a device."""
    import torch

    best = 0.0
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    for size in (512, 1024, 2048) if device == "cpu" else (4096, 8192):
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        out = torch.mm(a, b)
        until = time.perf_counter() + seconds / 3
        while time.perf_counter() < until:
            started = time.perf_counter()
            torch.mm(a, b, out=out)
            if device != "cpu":
                torch.cuda.synchronize()
            best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best
