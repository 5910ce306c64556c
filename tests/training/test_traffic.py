"""What a step moves, casts and waits for: as little as it can."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mpo_core.settings import LoraSettings
from mpo_core.training.transfer import join_and_move
from tests.training.runs import equal, steps, weights


class Calls(TorchDispatchMode):
    """Counts reads of a tensor's value, for which a device would have to be waited for, and casts of matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.casts: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            self.reads += 1
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and out.dtype == torch.bfloat16:
            self.casts.append(tuple(out.shape))
        return out


def test_tensors_that_move_together_arrive_as_they_were() -> None:
    tensors = [torch.arange(6).view(2, 3), torch.empty(0), torch.tensor([0.1, -2.0])]
    tensors += [torch.tensor([[1.5]], dtype=torch.float64), torch.arange(3), torch.tensor([7], dtype=torch.int)]
    for ours, expected in zip(join_and_move(tensors, torch.device("cpu")), tensors, strict=True):
        assert torch.equal(ours, expected)
        assert (ours.dtype, ours.shape) == (expected.dtype, expected.shape)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"precision": "bfloat16"},
        {"lora": LoraSettings(rank=2)},
        {"method": "dpo"},
        {"memory": "lean", "precision": "bfloat16", "max_grad_norm": None},
    ],
    ids=["full", "bfloat16", "adapters", "dpo", "lean"],
)
def test_nothing_waits_for_the_device_before_all_figures_are_read_at_once(build: Any, changes: dict[str, Any]) -> None:
    trainer = build({"tokens_per_forward": 128, "batch_size": 8} | changes)
    trainer.prepare()
    for numbers in trainer.order.all_steps(2):
        step = trainer.step_of(numbers)
        trainer.set_learning_rate()
        with Calls() as calls:
            loss = trainer.forward_and_backward(step)
            norm = trainer.clip_gradient()
        assert len(step.forwards) > 1
        assert calls.reads == 0
        assert trainer.read_finite(step, loss, norm).loss > 0
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()


def test_each_weight_is_cast_once_in_a_step_and_nothing_else_changes(build: Any, monkeypatch: Any) -> None:
    changes = {"tokens_per_forward": 128, "batch_size": 8, "precision": "bfloat16", "max_steps": 3}
    trainer = build(changes)
    trainer.prepare()
    step = trainer.step_of(list(range(8)))
    with Calls() as calls:
        trainer.forward_and_backward(step)
    assert len(step.forwards) > 2
    matrices = [tuple(weight.shape) for name, weight in trainer.model.named_parameters() if weight.dim() == 2]
    table = tuple(trainer.model.get_input_embeddings().weight.shape)  # of the head alone; a look-up casts nothing
    expected = {shape: 1 if shape == table else matrices.count(shape) for shape in matrices}
    assert {shape: calls.casts.count(shape) for shape in matrices} == expected

    shared = build(changes)
    shared.train()
    alone = build(changes)
    adding_up = "mpo_core.training.trainer.adding_up"
    from mpo_core.training.forward import adding_up as plain

    monkeypatch.setattr(adding_up, lambda model, _narrow=None: plain(model))
    alone.train()
    assert [line["loss"] for line in steps(shared)] == [line["loss"] for line in steps(alone)]
    assert equal(weights(shared.model), weights(alone.model))


@pytest.mark.parametrize("recomputed", [False, True])
def test_copies_of_weights_are_held_where_passes_share_them_alone(build: Any, recomputed: bool) -> None:
    changes = {"precision": "bfloat16", "batch_size": 8, "gradient_checkpointing": recomputed}
    trainer = build(changes | {"tokens_per_forward": 128})
    trainer.prepare()
    held = []
    trainer.model.model.norm.register_forward_hook(lambda *_: held.append(torch.is_autocast_cache_enabled()))
    trainer.forward_and_backward(trainer.step_of(list(range(8))))
    assert len(held) > 1
    assert set(held) == {not recomputed}
