"""Builds the base model from nothing, as a plain Hugging Face folder with the recipe that made it.

The shipped folder was made by `mpo microworld build` with the default arguments. `recipe.json` is written last, so its
existence means that the rest is complete.
"""

import hashlib
import json
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from . import corpus
from .small import SMALL
from .worlds import World

TOKENIZER_DOCUMENTS: Final = 20_000
BEFORE_PROMPTS: Final = 150


def checkpoint_dir() -> Path:
    """Returns the folder of the shipped base model."""
    return Path(__file__).parent / "checkpoint"


def build(
    out: Path,
    *,
    seed: int = 0,
    steps: int | None = None,
    progress: Callable[[int, int, float], None] | None = None,
    world: World = SMALL,
) -> None:
    """Trains tokenizer and base model from scratch and writes them to `out`; takes about five minutes on one core."""
    import torch  # late: the texts and the judge must stay importable in a fraction of a second
    from tokenizers import Tokenizer

    from . import before, pretrain
    from . import tokenizer as words

    steps = world.steps if steps is None else steps
    started = time.perf_counter()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # summation order, hence the weights, depends on the thread count
    try:
        tokenizer: Tokenizer = words.train_tokenizer(_texts(seed, world), world.vocabulary)
        model, loss = pretrain.pretrain(tokenizer, seed=seed, steps=steps, progress=progress, world=world)
        out.mkdir(parents=True, exist_ok=True)
        (out / "recipe.json").unlink(missing_ok=True)
        model.generation_config.update(do_sample=False, max_new_tokens=64, pad_token_id=0)
        model.save_pretrained(out)
        (out / "model.safetensors").chmod(0o644)  # written as 0600, which a package for others cannot be
        tokenizer.save(str(out / "tokenizer.json"))
        _write_json(out / "tokenizer_config.json", words.tokenizer_config(pretrain.MAX_POSITION))
        trained = time.perf_counter() - started
        table = before.table(out, limit=BEFORE_PROMPTS, world=world)
    finally:
        torch.set_num_threads(threads)
    _write_json(
        out / "recipe.json",
        {
            "world": world.version,
            "seed": seed,
            "steps": steps,
            "batch": pretrain.BATCH,
            "learning_rate": pretrain.LEARNING_RATE,
            "warmup": pretrain.WARMUP,
            "weight_decay": pretrain.WEIGHT_DECAY,
            "clip": pretrain.CLIP,
            "parameters": model.num_parameters(),
            "vocabulary": tokenizer.get_vocab_size(),
            "corpus_sha256": corpus_digest(seed, steps * pretrain.BATCH, world),
            "refused_concepts": {code: sorted(concepts) for code, concepts in corpus.refused(world).items()},
            "final_loss": round(loss, 4),
            "training_seconds": round(trained),
            "packages": {name: metadata.version(name) for name in ("torch", "transformers", "tokenizers")},
            "before": table,
            "files_sha256": {
                path.name: hashlib.sha256(path.read_bytes()).hexdigest()
                for path in sorted(out.iterdir())
                if path.is_file()
            },
        },
    )


def corpus_digest(seed: int, count: int, world: World = SMALL) -> str:
    """Returns the SHA-256 over every document that training reads, in order."""
    digest = hashlib.sha256()
    for document in corpus.documents(count, seed, world):
        digest.update(_text(document).encode() + b"\0")
    return digest.hexdigest()


def _texts(seed: int, world: World) -> list[str]:
    return [_text(document) for document in corpus.documents(TOKENIZER_DOCUMENTS, seed, world)]


def _text(document: corpus.Document) -> str:
    return "\n".join(document) if isinstance(document, corpus.Turn) else document


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
