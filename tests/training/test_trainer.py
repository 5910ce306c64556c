"""The trainer: what moves, what is exact, what stops it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.tables import PAIRS
from mpo_core.models import load_model
from mpo_core.settings import LoraSettings
from mpo_core.training.checkpoints import newest_checkpoint
from mpo_core.training.forward import attach, detach, inner
from tests.training import plain
from tests.training.runs import equal, figures, steps, weights


def test_every_parameter_moves(build: Any) -> None:
    # Over all rows; a row of an embedding moves only if its token occurs, so tensors are compared.
    trainer = build()
    before = weights(trainer.model)
    trainer.train()
    still = [name for name, value in weights(trainer.model).items() if torch.equal(value, before[name])]
    assert still == []


def testadd_adapters_the_adapters_move_and_the_base_does_not(build: Any) -> None:
    trainer = build({"lora": LoraSettings(rank=4)})
    before = weights(trainer.model)
    trainer.train()
    moved = {name for name, value in weights(trainer.model).items() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if "lora_" in name}
    assert len(moved) == 2 * 7 * 2  # A and B, seven linear layers, two blocks; the head is left alone


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_first_step_is_the_objective_on_the_initial_model(build: Any, folder: Path, world: Any, layout: str) -> None:
    pairs = world.pairs_table().to_pylist()
    for number, pair in enumerate(pairs):
        pair["weight"] = (None, 0.25, 3.0)[number % 3]
    trainer = build(
        {"order": "file", "batch_size": 5, "max_steps": 1, "layout": layout, "beta": {"sw": 1.5, "default": 0.7}},
        pairs=PAIRS.build(pairs),
    )
    rows = trainer.train_dataset[:5]
    assert [(row.beta, row.weight) for row in rows[:3]] == [(1.5, 1.0), (0.7, 0.25), (1.5, 3.0)]
    trainer.train()
    (logged,) = steps(trainer)
    model = load_model(folder, world.MODEL)
    with torch.no_grad():
        expected = plain.loss(model, model, rows).item()
        gaps, _ = plain.gaps(model, [row.target for row in rows])
        goals, _ = plain.gaps(model, [row.source for row in rows])
    counts = torch.tensor([row.weight for row in rows])
    assert logged["loss"] == pytest.approx(expected, rel=1e-5)
    assert logged["loss/gap"] == pytest.approx(expected, rel=1e-5)
    assert logged["loss/retention"] == pytest.approx(0.0, abs=1e-10)
    assert logged["reward_gap/target"] == pytest.approx(((gaps * counts).sum() / counts.sum()).item(), abs=1e-5)
    assert logged["reward_gap/dominant"] == pytest.approx(((goals * counts).sum() / counts.sum()).item(), abs=1e-5)
    assert logged["rewards/accuracies"] == pytest.approx((((gaps > 0) * counts).sum() / counts.sum()).item())


def test_later_steps_keep_to_the_objective(build: Any, folder: Path, world: Any) -> None:
    trainer = build({"order": "file", "batch_size": 6, "max_steps": 3, "learning_rate": 0.01, "retention.weight": 0.5})
    reference = load_model(folder, world.MODEL)
    expected = []

    step = trainer.forward_and_backward

    def measure_and_step(of: Any) -> torch.Tensor:
        policy = load_model(folder, world.MODEL)
        policy.load_state_dict(trainer.model.state_dict())
        with torch.no_grad():
            expected.append(plain.loss(policy, reference, of.rows, weight=0.5).item())
        return step(of)

    trainer.forward_and_backward = measure_and_step
    trainer.train()
    assert [entry["loss"] for entry in steps(trainer)] == pytest.approx(expected, rel=1e-5)
    assert [entry["loss"] for entry in steps(trainer)] == pytest.approx(
        [entry["loss/gap"] + 0.5 * entry["loss/retention"] for entry in steps(trainer)], rel=1e-6
    )
    assert min(entry["loss/retention"] for entry in steps(trainer)[1:]) > 1e-4


@pytest.mark.parametrize("changes", [{}, {"lora": LoraSettings(rank=4)}, {"layout": "padded", "precision": "bfloat16"}])
def test_retention_by_divergence_is_that_of_two_whole_models(
    build: Any, folder: Path, world: Any, changes: dict[str, Any]
) -> None:
    kl = {"retention.distance": "kl", "retention.weight": 0.5}
    trainer = build({"order": "file", "batch_size": 6, "max_steps": 3, "learning_rate": 0.01} | kl | changes)
    reference = load_model(folder, world.MODEL)
    expected = []

    step = trainer.forward_and_backward

    def measure_and_step(of: Any) -> torch.Tensor:
        detach(trainer.model)
        with torch.no_grad():
            expected.append(plain.loss(trainer.model, reference, of.rows, weight=0.5, kl=True).item())
        attach(trainer.model, packed=trainer.packed)
        return step(of)

    trainer.forward_and_backward = measure_and_step
    trainer.train()
    exact = "precision" not in changes
    assert [entry["loss"] for entry in steps(trainer)] == pytest.approx(expected, rel=1e-5 if exact else 0.05)
    retention = [entry["loss/retention"] for entry in steps(trainer)]
    assert retention[0] == pytest.approx(0.0, abs=1e-9 if exact else 1e-6)
    assert min(retention[1:]) > 1e-4


@pytest.mark.parametrize("order", ["grouped", "file"])
@pytest.mark.parametrize("lora", [None, LoraSettings(rank=4)])
def test_accumulation_is_exact_when_packed(build: Any, lora: LoraSettings | None, order: str) -> None:
    # 12 rows, 8 a step: the second and fourth step have 4 rows.
    runs = []
    for batch, accumulation in ((8, 1), (1, 8), (4, 2)):
        changes = {"batch_size": batch, "gradient_accumulation": accumulation, "lora": lora, "order": order}
        trainer = build(changes)
        assert trainer.packed
        trainer.train()
        runs.append((figures(trainer), weights(trainer.model)))
    for log, final in runs[1:]:
        assert log == runs[0][0]
        assert equal(final, runs[0][1])


def test_accumulation_of_padded_batches_weighs_rows_and_not_batches(build: Any) -> None:
    def first_step(batch: int, accumulation: int) -> dict[str, Any]:
        changes = {"batch_size": batch, "gradient_accumulation": accumulation, "layout": "padded"}
        trainer = build(changes | {"max_steps": 1, "order": "file"}, rows=8)
        trainer.train()
        return steps(trainer)[0]

    whole = first_step(8, 1)
    for batch, accumulation in ((3, 3), (1, 8)):  # 3 + 3 + 2 rows
        cut = first_step(batch, accumulation)
        assert cut["loss"] == pytest.approx(whole["loss"], rel=1e-6)
        assert cut["grad_norm"] == pytest.approx(whole["grad_norm"], rel=1e-5)


def test_same_seed_same_bytes_other_seed_other_order(build: Any) -> None:
    runs = []
    for seed in (3, 3, 4):
        trainer = build({"seed": seed, "lora": LoraSettings(rank=4, dropout=0.1)})
        trainer.train()
        runs.append(([entry["loss"] for entry in steps(trainer)], weights(trainer.model)))
    assert runs[0][0] == runs[1][0] != runs[2][0]
    assert equal(runs[0][1], runs[1][1])


def test_with_a_constant_rate_a_shorter_training_is_a_checkpoint_of_a_longer_one(build: Any) -> None:
    # The study `gap_by_checkpoint` relies on it.
    runs = []
    for epochs in (0.5, 2.0):
        trainer = build({"epochs": epochs, "max_steps": None, "schedule": "constant"})
        trainer.train()
        runs.append([(entry["step"], entry["loss"], entry["learning_rate"]) for entry in steps(trainer)])
    assert [len(run) for run in runs] == [3, 12]
    assert runs[1][:3] == runs[0]


def test_padded_mean_starts_from_exactly_nothing(build: Any) -> None:
    trainer = build({"retention.pooling": "padded_mean", "batch_size": 4, "max_steps": 5})
    assert not trainer.packed
    trainer.train()
    retention = [entry["loss/retention"] for entry in steps(trainer)]
    assert retention[0] == 0.0
    assert all(value > 0 for value in retention[1:])


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_checkpointing_changes_memory_and_not_figures(build: Any, layout: str) -> None:
    runs = []
    for frugal in (False, True):
        trainer = build({"order": "file", "gradient_checkpointing": frugal, "layout": layout, "max_steps": 1})
        trainer.train()
        runs.append(steps(trainer)[0])
        assert inner(trainer.model).is_gradient_checkpointing == frugal
    assert runs[1]["loss"] == runs[0]["loss"]
    assert runs[1]["grad_norm"] == pytest.approx(runs[0]["grad_norm"], rel=1e-6)


def test_autocast_keeps_fp32_master_weights(build: Any) -> None:
    trainer = build({"precision": "bfloat16", "learning_rate": 6e-7, "schedule": "constant"})
    before = weights(trainer.model)
    trainer.train()
    after = weights(trainer.model)
    assert {value.dtype for value in after.values()} == {torch.float32}
    # At this rate a bf16 weight would not move at all.
    assert all(not torch.equal(value, before[name]) for name, value in after.items())


def test_adapters_over_bfloat16_weights_train_in_float32(build: Any) -> None:
    changes = {"weights": "bfloat16", "precision": "bfloat16", "learning_rate": 1e-6, "lora": LoraSettings(rank=4)}
    trainer = build(changes)
    before = weights(trainer.model)
    trainer.train()
    for name, value in weights(trainer.model).items():
        assert value.dtype == (torch.float32 if "lora_" in name else torch.bfloat16), name
        assert torch.equal(value, before[name]) == ("lora_" not in name), name


@pytest.mark.parametrize("spoilt", ["anchor_gap", "pooled"])
def test_a_loss_that_is_no_number_names_the_rows(build: Any, spoilt: str) -> None:
    trainer = build({"batch_size": 4, "order": "file"})
    rows = trainer.train_dataset
    broken = {"anchor_gap": float("nan"), "pooled": (torch.full((32,), float("inf")),) * 2}
    rows[4] = rows[4]._replace(**{spoilt: broken[spoilt]})
    before = weights(trainer.model)
    with pytest.raises(BadInputError) as caught:
        trainer.train()
    assert rows[4].pair_id in str(caught.value)
    assert not any(row.pair_id in str(caught.value) for i, row in enumerate(rows) if i != 4)
    assert "step 2" in caught.value.where
    assert trainer.state.global_step == 1
    assert not equal(weights(trainer.model), before)


@pytest.mark.parametrize(
    "memory", [{}, {"memory": "lean", "precision": "bfloat16", "max_grad_norm": None}], ids=["full", "lean"]
)
def test_a_gradient_that_is_no_number_stops_before_anything_is_saved(
    build: Any, tmp_path: Path, memory: dict[str, Any]
) -> None:
    trainer = build({"batch_size": 4, "order": "file", "save_every": 1} | memory)
    trainer.model.get_input_embeddings().weight.register_hook(
        lambda grad: grad * (float("nan") if trainer.state.global_step == 2 else 1.0)
    )
    with pytest.raises(BadInputError, match="the gradient is not finite") as caught:
        trainer.train()
    assert caught.value.where == "training, step 3"
    assert all(row.pair_id in str(caught.value) for row in trainer.train_dataset[8:12])
    assert newest_checkpoint(tmp_path / "checkpoints") == tmp_path / "checkpoints" / "checkpoint-2"


def test_early_stopping_restores_the_best(build: Any, world: Any, folder: Path) -> None:
    validation = world.pairs_table(4, split="validation")
    trainer = build(
        {"evaluate_every": 1, "patience": 2, "max_steps": 40, "learning_rate": 0.05, "schedule": "constant"},
        validation=validation,
    )
    trainer.train()
    evaluations = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    losses = [entry["eval_loss"] for entry in evaluations]
    best = losses.index(min(losses))
    assert len(losses) < 40
    assert len(losses) == best + 3
    assert trainer.state.best_global_step == best + 1
    best_model, reference = load_model(folder, world.MODEL), load_model(folder, world.MODEL)
    best_model.load_state_dict(trainer.model.state_dict())
    with torch.no_grad():
        assert plain.loss(best_model, reference, trainer.eval_dataset).item() == pytest.approx(losses[best], rel=1e-4)
    for entry in evaluations:
        assert entry["eval_loss"] == pytest.approx(entry["eval_loss/gap"] + entry["eval_loss/retention"])
        assert {"eval_reward_gap/target", "eval_rewards/accuracies"} <= entry.keys()


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=2)], ids=["full", "adapters"])
def test_a_training_that_is_over_can_be_freed(build: Any, lora: LoraSettings | None) -> None:
    import weakref

    from mpo_core.training.saved import release

    trainer = build({"max_steps": 1, "lora": lora})
    trainer.train()
    held = [weakref.ref(trainer.model), weakref.ref(next(trainer.model.parameters())), weakref.ref(trainer.optimizer)]
    release(trainer)
    assert [ref() for ref in held] == [None, None, None]
