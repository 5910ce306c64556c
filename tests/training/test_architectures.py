"""Each architecture: packed, padded and plain agree; training moves what it should; what is saved is plain."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.tables import QUARANTINE
from mpo_core.models import load_model
from mpo_core.settings import LoraSettings
from mpo_core.training.adapters import add_adapters
from mpo_core.training.child import _save
from mpo_core.training.collator import join
from mpo_core.training.cuts import Cuts
from mpo_core.training.encoding import EncodedText
from mpo_core.training.forward import attach, can_pack, detach
from mpo_core.training.launch import TrainingJob
from mpo_core.training.layout import Item, pack, pad
from mpo_core.training.trainer import MPOTrainer
from tests.architectures import ARCHITECTURES, UNPACKABLE, tiny
from tests.training import plain


def some_items() -> list[Item]:
    draw = random.Random(0)
    sizes = [(9, 7, 4, True), (3, 1, 12, True), (14, 5, 1, True), (1, 2, 3, False)]
    texts = [EncodedText(*([draw.randrange(4, 97) for _ in range(n)] for n in size[:3])) for size in sizes]
    return [Item(text, scored=True, pooled=size[3]) for text, size in zip(texts, sizes, strict=True)]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_packed_and_padded_are_the_plain_model(name: str) -> None:
    model, items = tiny(name), some_items()
    own_attention = model.config._attn_implementation
    gaps, expected = plain.gaps(model, [item.ids for item in items])
    states = expected.means()[:6]  # of the three pairs that are pooled
    mix = torch.linspace(-1, 1, 8)
    slopes = plain.gradients(model, (expected.log_p * mix).sum() + states.square().sum())
    largest = max(slope.abs().max() for slope in slopes.values())
    for packed in (True, False):
        attach(model, packed=packed)
        out = model(layout=pack(items, "mean") if packed else pad(items, "mean", 3))
        torch.testing.assert_close(out.log_p, expected.log_p, rtol=2e-6, atol=2e-6)
        torch.testing.assert_close(out.pooled, states, rtol=0, atol=2e-6)
        ours = plain.gradients(model, (out.log_p * mix).sum() + out.pooled.square().sum())
        assert max((ours[key] - slope).abs().max() for key, slope in slopes.items()) < 5e-6 * largest
        detach(model)
        assert model.config._attn_implementation == own_attention
    with torch.no_grad():
        again, _ = plain.gaps(model, [item.ids for item in items])
    assert torch.equal(again, gaps)  # detached, it is the model that it was
    assert model.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=3, min_new_tokens=3, do_sample=False).shape == (
        1,
        6,
    )


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("Gemma2", {"final_logit_softcapping": None}),
        ("Gemma2", {"attn_logit_softcapping": None}),
        ("Gemma2", {"sliding_window": 999}),
        ("Mistral", {"sliding_window": None}),
        ("Granite", {"logits_scaling": 1.0}),
        ("Cohere", {"logit_scale": 1.0}),
    ],
)
def test_what_makes_an_architecture_its_own_counts_here(name: str, without: dict[str, Any]) -> None:
    # Or the test above would show nothing of it.
    texts = [item.ids for item in some_items()]
    with torch.no_grad():
        own, other = (plain.gaps(tiny(name, **more), texts)[1].log_p for more in ({}, without))
    assert (own - other).abs().max() > 0.02


def trained(
    model: Any, root: Path, world: Any, tokenizer: Any, **changes: Any
) -> tuple[TrainingJob, MPOTrainer, dict[str, torch.Tensor]]:
    """A few steps on a model of a folder, as the training process does them; the weights before them."""
    folder = root / "initial"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings = world.settings(max_steps=3, batch_size=12, learning_rate=0.01, schedule="constant", **changes)
    pairs = world.pairs_table()
    policy = load_model(folder, world.MODEL, dtype=settings.weights)
    references = world.references_for(policy, tokenizer, pairs)
    rows, _ = join(pairs, references=references, tokenizer=tokenizer, settings=settings, system=None)
    if settings.lora is not None:
        policy = add_adapters(policy, settings.lora)
    before = {name: value.detach().clone() for name, value in policy.named_parameters()}
    trainer = MPOTrainer(policy, rows, pad_id=tokenizer.pad_token_id, settings=settings, folder=root / "checkpoints")
    trainer.train()
    job = TrainingJob(
        model_folder=folder, pairs=folder, references=folder, model=world.MODEL, training=settings,
        out=root / "out", work=root,
    )  # fmt: skip
    return job, trainer, before


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=4)], ids=["full", "adapters"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_trains_moves_and_what_is_saved_is_plain(
    name: str, lora: LoraSettings | None, world: Any, tokenizer: Any, tmp_path: Path
) -> None:
    initial = tiny(name, len(tokenizer))
    job, trainer, before = trained(initial, tmp_path, world, tokenizer, lora=lora)
    assert trainer.packed
    moved = {key for key, value in trainer.model.named_parameters() if not torch.equal(value, before[key])}
    assert moved == {key for key in before if lora is None or "lora_" in key}
    texts = [row.target for row in trainer.train_dataset[:3]]
    with torch.no_grad():
        trainer.model.eval()
        out = trainer.model(layout=pack([Item(text, scored=True, pooled=False) for text in texts], "mean"))
    _save(job, trainer, QUARANTINE.build([]), Cuts())

    folder = tmp_path / "out" / "model"
    assert not any("mpo" in path.read_text() for path in folder.glob("*config.json"))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert type(model) is type(initial)
    assert model.config.to_diff_dict() == transformers.AutoConfig.from_pretrained(job.model_folder).to_diff_dict()
    assert model.config._attn_implementation == initial.config._attn_implementation
    assert model.state_dict().keys() == initial.state_dict().keys()
    changed = [key for key, value in model.state_dict().items() if not torch.equal(value, initial.state_dict()[key])]
    assert len(changed) == (len(initial.state_dict()) if lora is None else len(moved) // 2)
    prompt = torch.tensor([[5, 6, 7]])
    assert model.generate(prompt, max_new_tokens=3, min_new_tokens=3, do_sample=False).shape == (1, 6)

    # The saved model is the trained one: plain log-probabilities of it are those of the trainer's last forward.
    with torch.no_grad():
        _, expected = plain.gaps(model, texts)
    torch.testing.assert_close(out.log_p, expected.log_p, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["Llama", "Gemma2"])
def test_adapters_over_four_bits_are_saved_as_they_were_trained(
    name: str, world: Any, tokenizer: Any, tmp_path: Path
) -> None:
    initial = tiny(name, len(tokenizer))
    job, trainer, before = trained(
        initial, tmp_path, world, tokenizer, lora=LoraSettings(rank=4, dropout=0.2), weights="nf4"
    )
    quantised = {key for key, value in before.items() if value.dtype == torch.uint8}
    assert {key.rsplit(".", 3)[1] for key in quantised} >= {"q_proj", "o_proj", "up_proj", "down_proj"}
    moved = {key for key, value in trainer.model.named_parameters() if not torch.equal(value, before[key])}
    assert moved == {key for key in before if "lora_" in key}
    # With the adapters off, which they are before the first step, the policy is the reference.
    assert trainer.state.log_history[0]["loss/retention"] < 1e-10
    texts = [row.target for row in trainer.train_dataset[:3]]
    with torch.no_grad():
        trainer.model.eval()
        out = trainer.model(layout=pack([Item(text, scored=True, pooled=False) for text in texts], "mean"))
    _save(job, trainer, QUARANTINE.build([]), Cuts())
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "model")
    assert not hasattr(model.config, "quantization_config")
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}
    with torch.no_grad():
        saved, whole = (plain.gaps(network, texts)[1].log_p for network in (model, initial))
    torch.testing.assert_close(out.log_p, saved, rtol=1e-4, atol=1e-4)
    assert (saved - whole).abs().max() > 0.02  # four bits and training, both show


@pytest.mark.parametrize("name", UNPACKABLE)
def test_what_cannot_be_packed_is_padded(name: str, world: Any, tokenizer: Any, tmp_path: Path) -> None:
    model = tiny(name, len(tokenizer))
    assert not can_pack(model)
    _, trainer, before = trained(model, tmp_path, world, tokenizer)
    assert not trainer.packed
    assert all(not torch.equal(value, before[key]) for key, value in trainer.model.named_parameters())
    with pytest.raises(BadInputError, match=r"training\.layout packed: this model's attention cannot be packed\. Use"):
        trained(model, tmp_path, world, tokenizer, layout="packed")


def test_a_head_that_is_not_as_its_config_says_is_refused() -> None:
    model = tiny("Llama")
    model.config.logits_scaling = 4.0  # nothing in Llama divides by it
    with pytest.raises(
        BadInputError, match="the output head of LlamaForCausalLM has a form that training does not support"
    ):
        attach(model, packed=False)
    assert "forward" not in vars(model)


@pytest.mark.long  # test_lean.py trains a Llama
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_split_weights_train_and_are_saved_whole(name: str, world: Any, tokenizer: Any, tmp_path: Path) -> None:
    initial = tiny(name, len(tokenizer))
    changes = {"memory": "lean", "precision": "bfloat16", "max_grad_norm": None}
    job, trainer, before = trained(initial, tmp_path, world, tokenizer, **changes)
    _save(job, trainer, QUARANTINE.build([]), Cuts())
    saved = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "model")
    assert saved.state_dict().keys() == initial.state_dict().keys()
    for key, value in saved.named_parameters():
        assert value.dtype == torch.float32
        assert not torch.equal(value, before[key]), key
