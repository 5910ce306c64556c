"""Rows of random token ids, a tiny Llama, and a tokenizer of one character a token, so that text and ids are one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mpo_core.contract.training import TRAINING_METHODS
from mpo_core.training.collator import PairRow
from mpo_core.training.encoding import EncodedText
from mpo_core.training.trainer import MPOTrainer

PAD, BOS, EOS = 0, 1, 2
CHARACTERS = [chr(0x4E00 + i) for i in range(48)]


def llama(seed: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(CHARACTERS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.1,
        tie_word_embeddings=False,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    return LlamaForCausalLM(config)


def drifted(seed: int) -> Any:
    """`llama(0)`, some way towards another: on mismatched `rows` seed 1 has a positive KL, seed 3 a negative one."""
    policy, other = llama(0), llama(seed)
    with torch.no_grad():
        for mine, theirs in zip(policy.parameters(), other.parameters(), strict=True):
            mine.lerp_(theirs, 0.3)
    return policy


def tokenizer() -> Any:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({c: i for i, c in enumerate(CHARACTERS)}, unk_token=CHARACTERS[PAD]))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=CHARACTERS[BOS], eos_token=CHARACTERS[EOS], pad_token=CHARACTERS[PAD]
    )


def text(ids: list[int]) -> str:
    """What the tokenizer turns into `ids`, the end token aside."""
    return "".join(CHARACTERS[i] for i in ids if i != EOS)


def rows(reference: Any, count: int = 5, *, beta: float = 0.1, languages: str = "sw", seed: int = 0) -> list[PairRow]:
    """Pairs of several lengths; their reference is `reference`, in float64 and by transformers' own forward."""
    generator = torch.Generator().manual_seed(seed)

    def draw(least: int, most: int) -> list[int]:
        length = int(torch.randint(least, most + 1, (), generator=generator))
        return torch.randint(EOS + 1, len(CHARACTERS), (length,), generator=generator).tolist()

    rows = []
    for number in range(count):
        ids = EncodedText([BOS, *draw(2, 9)], [*draw(1, 12), EOS], [*draw(1, 12), EOS])
        measured = (log_p(reference, ids.prompt, ids.chosen), log_p(reference, ids.prompt, ids.rejected))
        language = languages.split()[number % len(languages.split())]
        bare = ids._replace(prompt=[BOS, EOS + 1])
        row = PairRow(f"pair{number}", f"s{number}", language, ids, ids, 0.0, beta, 1.0, None, measured, bare=bare)
        rows.append(row)
    return rows


def log_p(model: Any, prompt: list[int], answer: list[int]) -> float:
    with torch.no_grad():
        logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1].double()
    return float(logits.log_softmax(-1)[range(len(answer)), answer].sum())


def trainer(folder: Path, model: Any, some: list[PairRow], **changes: Any) -> MPOTrainer:
    """All rows are one optimiser step unless `changes` say otherwise; forwards are small, so that there are several."""
    validation, teacher, trusted = (changes.pop(name, None) for name in ("validation", "teacher", "trusted"))
    base: dict[str, Any] = {
        "device": "cpu",
        "order": "file",
        "batch_size": len(some),
        "gradient_accumulation": 1,
        "tokens_per_forward": 40,
        "warmup": 0.0,
        "schedule": "constant",
        "learning_rate": 1e-3,
    }
    return MPOTrainer(
        model,
        some,
        validation=validation,
        teacher=teacher,
        trusted=trusted,
        pad_id=PAD,
        settings=TRAINING_METHODS.parse({"method": "mpo"} | base | changes),
        folder=folder,
    )


def loss_and_gradients(made: MPOTrainer, policy: Any = None) -> tuple[float, dict[str, torch.Tensor]]:
    """Of one step over all rows; the weights become those of `policy` first."""
    if policy is not None:
        made.model.load_state_dict(policy.state_dict())
    made.model.zero_grad()
    loss = float(made.forward_and_backward(made.step_of(list(range(len(made.train_dataset))))))
    return loss, {name: weight.grad.clone() for name, weight in made.model.named_parameters()}


@pytest.fixture(scope="session")
def tiny() -> SimpleNamespace:
    """The helpers above, for tests (a conftest cannot be imported)."""
    return SimpleNamespace(
        llama=llama, drifted=drifted, tokenizer=tokenizer, text=text, rows=rows, log_p=log_p, EOS=EOS
    )


@pytest.fixture
def build_on(tmp_path: Path) -> Callable[..., MPOTrainer]:
    def build(*arguments: Any, **changes: Any) -> MPOTrainer:
        return trainer(tmp_path / "checkpoints", *arguments, **changes)

    return build


@pytest.fixture(scope="session")
def measure() -> Any:
    return loss_and_gradients
