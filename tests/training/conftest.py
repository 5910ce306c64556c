"""A tiny model, its tokenizer, and harmless pairs, all made here."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mpo_core.contract.tables import PAIRS
from mpo_core.contract.training import TRAINING_METHODS, TrainingMethod
from mpo_core.models import load_model, load_tokenizer, model_digest
from mpo_core.settings import ModelSettings
from mpo_core.training.launch import TrainingJob
from mpo_core.training.reference import gaps, source_texts, target_texts

torch.set_num_threads(1)
MODEL = ModelSettings(device="cpu")

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|turn|>{{ m['role'] }}\n{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
TOPICS = ["tea", "bread", "the river", "a garden", "the moon", "old maps", "chess", "rain", "a violin", "bees"]


def pairs_table(sources: int = 6, kinds: tuple[str, ...] = ("harmful", "harmless"), split: str = "train") -> pa.Table:
    """`sources` dominant pairs, each with two target languages; texts are harmless inventions."""
    rows = []
    for number in range(sources):
        topic = f"{TOPICS[number % len(TOPICS)]} {number}"
        source_id = hashlib.sha256(f"{split}{number}".encode()).hexdigest()[:16]
        for language, about in (("sw", "kuhusu"), ("ko", "에 대해")):
            rows.append(
                {
                    "pair_id": f"{source_id}/{language}",
                    "source_id": source_id,
                    "prompt_id": source_id,
                    "kind": kinds[number % len(kinds)],
                    "split": split,
                    "source_language": "en",
                    "language": language,
                    "source_prompt": f"Tell me about {topic}.",
                    "source_chosen": f"I would rather not talk about {topic} today.",
                    "source_rejected": f"Gladly: {topic} is a long story, and it begins at dawn.",
                    "target_prompt": f"{about} {topic}?" + " please" * number,
                    "target_chosen": f"hapana {about} {topic}",
                    "target_rejected": f"ndiyo {about} {topic}" + " na zaidi" * (number % 4),
                    "origin": "translated",
                }
            )
    return PAIRS.build(rows)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama with a byte-level BPE trained on the spot, in transformers format."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    texts = [value for row in pairs_table(20).to_pylist() for key, value in row.items() if "_" in key and value]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<|bos|>", "<|turn|>", "<|end|>", "<|pad|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|bos|>",  # noqa: S106 - no password
        eos_token="<|end|>",  # noqa: S106
        pad_token="<|pad|>",  # noqa: S106
        additional_special_tokens=["<|turn|>"],
        chat_template=TEMPLATE,
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.1,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    path = tmp_path_factory.mktemp("model")
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def tokenizer(folder: Path) -> Any:
    return load_tokenizer(folder, MODEL)


@pytest.fixture
def model(folder: Path) -> Any:
    return load_model(folder, MODEL)


def references_for(
    model: Any,
    tokenizer: Any,
    *tables: pa.Table,
    digest: str = "",
    pooling: str = "mean",
    precision: str = "float32",
) -> pa.Table:
    """GAPS of the dominant and of the target pairs."""
    texts = [text for table in tables for text in (*source_texts(table), *target_texts(table))]
    options: dict[str, Any] = {"pooling": pooling, "precision": precision, "digest": digest}
    return gaps(model, tokenizer, texts, cutoff=1024, system=None, **options)[0]


def settings(**changes: Any) -> TrainingMethod:
    base: dict[str, Any] = {
        "method": "mpo",
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "warmup": 0.0,
        "batch_size": 2,
        "gradient_accumulation": 1,
        "max_steps": 4,
        "device": "cpu",
        "threads": 1,
        "save_every": 100,
    }
    flat = base | {name: value for name, value in changes.items() if not name.startswith("retention.")}
    nested = {name.partition(".")[2]: value for name, value in changes.items() if name.startswith("retention.")}
    return TRAINING_METHODS.parse(flat | ({"retention": nested} if nested else {}))


def make_job(
    root: Path, folder: Path, training: TrainingMethod, pairs: pa.Table, validation: pa.Table | None = None
) -> TrainingJob:
    """A job on disk with its references, computed with the weights and the precision of the training."""
    root.mkdir(parents=True, exist_ok=True)
    model, tokenizer = load_model(folder, MODEL, dtype=training.weights), load_tokenizer(folder, MODEL)
    tables = [pairs] if validation is None else [pairs, validation]
    pq.write_table(pairs, root / "pairs.parquet")
    if validation is not None:
        pq.write_table(validation, root / "validation.parquet")
    references = references_for(
        model,
        tokenizer,
        *tables,
        digest=model_digest(folder, MODEL),
        pooling=training.pooling,
        precision=training.precision,
    )
    pq.write_table(references, root / "references.parquet")
    return TrainingJob(
        model_folder=folder,
        pairs=root / "pairs.parquet",
        references=root / "references.parquet",
        validation=None if validation is None else root / "validation.parquet",
        model=MODEL,
        training=training,
        out=root / "out",
        work=root / "work",
    )


@pytest.fixture
def build(folder: Path, tokenizer: Any, tmp_path: Path) -> Any:
    """Makes a trainer on the tiny model, in this process: `build({"beta": 1.5})`."""
    from mpo_core.training.adapters import add_adapters
    from mpo_core.training.collator import join
    from mpo_core.training.trainer import MPOTrainer

    def make(
        changes: dict[str, Any] | None = None,
        *,
        pairs: Any = None,
        rows: int = 12,
        validation: Any = None,
    ) -> MPOTrainer:
        training = settings(**(changes or {}))
        pairs = pairs_table() if pairs is None else pairs
        model = load_model(folder, MODEL, dtype=training.weights)
        references = references_for(model, tokenizer, *[t for t in (pairs, validation) if t is not None])
        train_rows, held_out = (
            join(table, references=references, tokenizer=tokenizer, settings=training, system=None)[0]
            if table is not None
            else None
            for table in (pairs, validation)
        )
        if training.lora is not None:
            torch.manual_seed(0)
            model = add_adapters(model, training.lora)
        return MPOTrainer(
            model,
            train_rows[:rows],
            validation=held_out,
            pad_id=tokenizer.pad_token_id,
            settings=training,
            folder=tmp_path / "checkpoints",
        )

    return make


@pytest.fixture(scope="session")
def world() -> SimpleNamespace:
    """The helpers above, for tests (a conftest cannot be imported)."""
    return SimpleNamespace(
        pairs_table=pairs_table, references_for=references_for, settings=settings, make_job=make_job, MODEL=MODEL
    )
