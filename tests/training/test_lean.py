"""`memory: lean` trains as float32 weights do, and updates the weights in backward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor

from mpo_core.settings import LoraSettings
from mpo_core.training.launch import train
from mpo_core.training.lean import LeanAdamW, join, split

LEAN = {"memory": "lean", "precision": "bfloat16", "learning_rate": 6e-7, "schedule": "constant", "max_steps": 16}


class Table(torch.nn.Module):
    """The least that can be split: an embedding."""

    def __init__(self, numbers: Tensor) -> None:
        super().__init__()
        self.table = torch.nn.Embedding.from_pretrained(numbers, freeze=False)

    def get_input_embeddings(self) -> torch.nn.Embedding:
        return self.table


def flat(model: Any) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def trained(build: Any, **changes: Any) -> tuple[Tensor, list[float]]:
    """The update of all weights in float32, and the losses."""
    before = build(LEAN | changes | {"memory": "full"})
    trainer = build(LEAN | changes)
    trainer.train()
    join(trainer.model)
    return flat(trainer.model) - flat(before.model), [
        entry["loss"] for entry in trainer.state.log_history if "loss" in entry
    ]


def cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.detach().double(), b.detach().double(), dim=0))


def test_two_halves_are_the_exact_weight_and_the_upper_one_is_the_nearest_bfloat16() -> None:
    torch.manual_seed(0)
    numbers = torch.randn(64, 64) * 10.0 ** torch.randint(-30, 30, (64, 64))
    numbers[0, :4] = torch.tensor([0.0, -0.0, 1e-45, -1e-45])
    model = Table(numbers.clone())
    split(model)
    high = model.table.weight.detach()
    assert high.dtype == torch.bfloat16
    assert torch.equal(high, numbers.bfloat16())
    assert {value.element_size() for value in model.state_dict().values()} == {2}
    join(model)
    assert torch.equal(model.table.weight.view(torch.int32), numbers.view(torch.int32))
    assert list(model.state_dict()) == ["table.weight"]


def test_many_small_steps_are_those_of_adamw() -> None:
    torch.manual_seed(0)
    numbers = torch.randn(32, 32) * 0.02
    expected = torch.nn.Parameter(numbers.clone())
    model = Table(numbers.clone())
    split(model)
    options: dict[str, Any] = {"lr": 6e-7, "betas": (0.9, 0.999), "eps": 1e-8}
    ours = LeanAdamW([{"params": model.parameters(), "weight_decay": 0.1}], seed=1, **options)
    theirs = torch.optim.AdamW([expected], weight_decay=0.1, **options)
    for _ in range(300):
        gradient = (torch.randn(32, 32) + 0.3) * 1e-3
        expected.grad, model.table.weight.grad = gradient.bfloat16().float(), gradient.bfloat16()
        theirs.step()
        ours.step()
    join(model)
    assert cosine((model.table.weight - numbers).flatten(), (expected - numbers).flatten()) > 0.9999


@pytest.mark.parametrize(
    "clipping",
    [{"max_grad_norm": 0.5}, {"max_grad_norm": None}, {"max_grad_norm": None, "tokens_per_forward": 64}],
    ids=["clipped", "one forward", "several forwards"],
)
def test_losses_and_update_are_those_of_float32_weights(build: Any, clipping: dict[str, Any]) -> None:
    update, losses = trained(build, **clipping)
    expected, expected_losses = trained(build, memory="full", **clipping)
    assert cosine(update, expected) > 0.99
    assert float((update != 0).float().mean()) > 0.98 * float((expected != 0).float().mean())
    assert sum(losses) == pytest.approx(sum(expected_losses), rel=0.01)


def test_without_clipping_a_step_of_one_forward_never_holds_all_gradients(build: Any) -> None:
    held: list[int] = []

    trainer = build(LEAN | {"max_grad_norm": None, "max_steps": 1})
    prepare, read = trainer.prepare, trainer.read_finite

    def prepare_and_watch() -> None:
        prepare()
        weights = list(trainer.model.parameters())
        for weight in weights:
            weight.register_post_accumulate_grad_hook(
                lambda _: held.append(sum(weight.grad is not None for weight in weights))
            )

    def read_and_check(*arguments: Any) -> Any:
        assert all(weight.grad is None for weight in trainer.model.parameters())
        return read(*arguments)

    trainer.prepare, trainer.read_finite = prepare_and_watch, read_and_check
    trainer.train()
    assert len(held) == len(list(trainer.model.parameters()))
    assert max(held) <= 1
    assert trainer.state.log_history[0]["grad_norm"] > 0


def test_the_norm_is_that_of_the_whole_gradient(build: Any) -> None:
    norms = []
    for clipping in ({"max_grad_norm": 1e9}, {"max_grad_norm": None}, {"max_grad_norm": None, "memory": "full"}):
        trainer = build(LEAN | {"max_steps": 1} | clipping)
        trainer.train()
        norms.append(trainer.state.log_history[0]["grad_norm"])
    assert norms[0] == pytest.approx(norms[1], rel=0.01)
    assert norms[2] == pytest.approx(norms[1], rel=0.01)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lora": LoraSettings()}, "leave out `lora` and `weights`"),
        ({"lora": LoraSettings(), "weights": "nf4"}, "leave out `lora` and `weights`"),
        ({"precision": "float32"}, "set `precision: bfloat16` too"),
        ({"consistency": {"every": 2}}, "cannot train with `consistency`"),
        ({"processes": 2, "parallel": "fsdp2"}, "works in one process"),
    ],
)
def test_where_it_makes_no_sense_it_is_refused_in_one_line(world: Any, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says) as error:
        world.settings(**LEAN | changes)
    assert len(error.value.errors()) == 1


@pytest.mark.long
def test_the_saved_model_has_float32_weights_that_moved(world: Any, folder: Path, tmp_path: Path) -> None:
    settings = world.settings(**LEAN | {"evaluate_every": 2, "patience": 1, "save_every": 2})
    pairs, validation = world.pairs_table(4), world.pairs_table(2, split="validation")
    result = train(world.make_job(tmp_path, folder, settings, pairs, validation))
    saved, initial = (load_file(path / "model.safetensors") for path in (result.model_folder, folder))
    assert saved.keys() == initial.keys()
    assert {value.dtype for value in saved.values()} == {torch.float32}
    change = max(float((saved[name] - initial[name]).abs().max()) for name in saved)
    assert 0 < change < 6 * 6e-7 * 1.01
