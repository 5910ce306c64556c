"""The trainer: what moves, what is exact, what stops it."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from mpo_core.errors import BadInputError
from mpo_core.models import load_model
from mpo_core.settings import LoraSettings
from mpo_core.training.callbacks import Checkpoints, StopEarly, StopOnSignal, Stream, newest_checkpoint
from mpo_core.training.child import _with_adapters
from mpo_core.training.collator import PairCollator, join
from mpo_core.training.schedule import EpochOrder, planned_batches, total_steps
from mpo_core.training.trainer import MPOTrainer


@pytest.fixture
def build(world: Any, folder: Path, tokenizer: Any, tmp_path: Path) -> Any:
    """A trainer on the tiny model, in this process."""

    def make(
        changes: dict[str, Any] | None = None,
        *,
        pairs: Any = None,
        validation: Any = None,
        callbacks: Any = (),
        world: Any,
    ) -> MPOTrainer:
        settings = world.settings(**(changes or {}))
        pairs = world.pairs_table() if pairs is None else pairs
        tables = [pairs] if validation is None else [pairs, validation]
        model = load_model(folder, world.MODEL)
        references = world.references_for(model, tokenizer, *tables)
        rows, _ = join(pairs, references, tokenizer, settings, system=None)
        held_out = None if validation is None else join(validation, references, tokenizer, settings, system=None)[0]
        if settings.lora is not None:
            torch.manual_seed(0)
            model = _with_adapters(model, settings.lora)
        return MPOTrainer(
            model, rows, validation=held_out, pad_id=tokenizer.pad_token_id, settings=settings,
            folder=tmp_path / "checkpoints", callbacks=list(callbacks),
        )  # fmt: skip

    return functools.partial(make, world=world)


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def steps(trainer: MPOTrainer) -> list[dict[str, Any]]:
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def figures(trainer: MPOTrainer) -> list[dict[str, Any]]:
    """The log without the clock's entries."""
    timed = ("runtime", "per_second")
    told = [entry for entry in trainer.state.log_history if "train_loss" not in entry]
    return [{k: v for k, v in entry.items() if not k.endswith(timed)} for entry in told]


def test_every_parameter_moves(build: Any) -> None:
    # Both kinds of batch over all rows; a row of an embedding moves only if its token occurs, so tensors are compared.
    trainer = build()
    before = weights(trainer.model)
    trainer.train()
    still = [name for name, value in weights(trainer.model).items() if torch.equal(value, before[name])]
    assert still == []


def test_with_adapters_the_adapters_move_and_the_base_does_not(build: Any) -> None:
    trainer = build({"lora": LoraSettings(rank=4)})
    before = weights(trainer.model)
    trainer.train()
    moved = {name for name, value in weights(trainer.model).items() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if "lora_" in name}
    assert len(moved) == 2 * 7 * 2  # A and B, seven linear layers, two blocks; the head is left alone


def test_first_step_is_the_objective_on_the_initial_model(build: Any, model: Any) -> None:
    trainer = build({"shuffle": False, "beta": 1.5, "batch_size": 4, "max_steps": 1, "anchor_gap": "dominant"})
    rows = trainer.train_dataset[:4]
    trainer.train()
    (logged,) = steps(trainer)
    gaps = []
    for row in rows:
        rewards = []
        for answer in (row.target.chosen, row.target.rejected):
            ids = torch.tensor([row.target.prompt + answer])
            with torch.no_grad():
                log_p = model(ids).logits[0].log_softmax(-1)
            start = len(row.target.prompt)
            rewards.append(sum(log_p[start + i - 1, token].item() for i, token in enumerate(answer)) / len(answer))
        gaps.append(rewards[0] - rewards[1])
    by_hand = sum((1.5 * gap - row.anchor_gap) ** 2 for gap, row in zip(gaps, rows, strict=True)) / 4
    assert logged["loss/gap"] == pytest.approx(by_hand, rel=1e-4)
    assert logged["loss/retention"] == pytest.approx(0.0, abs=1e-10)
    assert logged["reward_gap/target"] == pytest.approx(sum(gaps) / 4, abs=1e-5)
    assert logged["rewards/accuracies"] == sum(gap > 0 for gap in gaps) / 4
    assert logged["loss"] == pytest.approx(by_hand, rel=1e-4)


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=4)])
def test_accumulation_is_exact(build: Any, lora: LoraSettings | None) -> None:
    # 12 rows, 8 a step: the second and fourth step have 4 rows. Without L2: its first gradient is rounding against
    # the precomputed states, and AdamW blows that up to a whole learning rate (golden README, last section).
    runs = []
    for batch, accumulation in ((8, 1), (1, 8)):
        changes = {"batch_size": batch, "gradient_accumulation": accumulation, "lora": lora}
        trainer = build(changes | {"retention": {"weight": 0.0}})
        trainer.train()
        runs.append((steps(trainer), weights(trainer.model)))
    whole, ones = runs
    for a, b in zip(whole[0], ones[0], strict=True):
        for key in ("loss", "loss/gap", "loss/retention", "reward_gap/target", "grad_norm"):
            assert b[key] == pytest.approx(a[key], rel=5e-5, abs=1e-7), key
    assert whole[0][0]["loss"] == pytest.approx(ones[0][0]["loss"], rel=1e-6)
    # AdamW divides by the gradient's own size, so single weights show rounding where a gradient is all but zero.
    for name, value in whole[1].items():
        assert (ones[1][name] - value).abs().mean() < 1e-5, name


def test_uneven_micro_batches_weigh_rows_and_not_batches(build: Any) -> None:
    def first_step(batch: int, accumulation: int) -> dict[str, Any]:
        trainer = build({"batch_size": batch, "gradient_accumulation": accumulation, "max_steps": 1, "shuffle": False})
        trainer.train_dataset = trainer.train_dataset[:8]
        trainer.train()
        return steps(trainer)[0]

    assert first_step(3, 3)["loss"] == pytest.approx(first_step(8, 1)["loss"], rel=1e-5)
    assert first_step(3, 3)["grad_norm"] == pytest.approx(first_step(8, 1)["grad_norm"], rel=1e-5)


def test_same_seed_same_bytes_other_seed_other_order(build: Any) -> None:
    runs = []
    for seed in (3, 3, 4):
        trainer = build({"seed": seed, "lora": LoraSettings(rank=4, dropout=0.1)})
        trainer.train()
        runs.append(([entry["loss"] for entry in steps(trainer)], weights(trainer.model)))
    assert runs[0][0] == runs[1][0] != runs[2][0]
    assert all(torch.equal(value, runs[1][1][name]) for name, value in runs[0][1].items())


def test_the_plan_is_the_order_of_the_training(build: Any) -> None:
    seen: list[list[str]] = []
    trainer = build({"batch_size": 5, "gradient_accumulation": 2, "max_steps": 5})
    collate = trainer.data_collator
    trainer.data_collator = lambda rows: seen.append([row.pair_id for row in rows]) or collate(rows)
    names = [row.pair_id for row in trainer.train_dataset]
    trainer.train()
    planned = [[names[i] for i in batch] for batch in planned_batches(trainer.settings, len(names))]
    # The loader looks one batch ahead, so it may have drawn more than was trained on.
    assert seen[: len(planned)] == planned
    assert [len(batch) for batch in planned] == [5, 5, 2, 5, 5, 2, 5, 5]


def test_epochs_differ_and_are_known_beforehand() -> None:
    order = EpochOrder(50, seed=1, shuffle=True)
    assert order.order(0) != order.order(1)
    assert sorted(order.order(1)) == list(range(50))
    order.set_epoch(1)
    assert list(order) == EpochOrder(50, seed=1, shuffle=True).order(1)
    assert EpochOrder(3, seed=1, shuffle=False).order(7) == [0, 1, 2]


def test_length_of_a_training(world: Any) -> None:
    assert total_steps(world.settings(max_steps=None, epochs=2.0, batch_size=1, gradient_accumulation=8), 20) == 6
    assert total_steps(world.settings(max_steps=7), 20) == 7


def test_padded_mean_starts_from_exactly_nothing(build: Any) -> None:
    trainer = build({"retention": {"pooling": "padded_mean"}, "batch_size": 4, "max_steps": 5})
    trainer.train()
    retention = [entry["loss/retention"] for entry in steps(trainer)]
    assert retention[0] == 0.0
    assert all(value > 0 for value in retention[1:])


def test_checkpointing_changes_memory_and_not_figures(build: Any) -> None:
    plain, frugal = build({"shuffle": False}), build({"shuffle": False, "gradient_checkpointing": True})
    plain.train()
    frugal.train()
    for a, b in zip(steps(plain), steps(frugal), strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)


def test_retention_weight_counts(build: Any) -> None:
    trainer = build({"retention": {"weight": 0.25}})
    trainer.train()
    for entry in steps(trainer):
        assert entry["loss"] == pytest.approx(entry["loss/gap"] + 0.25 * entry["loss/retention"], rel=1e-5)
    assert steps(trainer)[-1]["loss/retention"] > 0


def test_autocast_keeps_fp32_master_weights(build: Any) -> None:
    trainer = build({"precision": "bfloat16", "learning_rate": 6e-7, "schedule": "constant"})
    before = weights(trainer.model)
    trainer.train()
    after = weights(trainer.model)
    assert {value.dtype for value in after.values()} == {torch.float32}
    # At this rate a bf16 weight would not move at all.
    assert all(not torch.equal(value, before[name]) for name, value in after.items())


def test_a_loss_that_is_no_number_names_the_rows(build: Any) -> None:
    trainer = build({"batch_size": 3, "shuffle": False})
    rows = trainer.train_dataset
    rows[4] = rows[4]._replace(anchor_gap=float("nan"))
    with pytest.raises(BadInputError) as caught:
        trainer.train()
    assert rows[4].pair_id in str(caught.value)
    assert not any(rows[i].pair_id in str(caught.value) for i in range(len(rows)) if i != 4)
    assert "step 2" in caught.value.where


def test_early_stopping_restores_the_best(build: Any, world: Any, tokenizer: Any) -> None:
    validation = world.pairs_table(4, split="validation")
    trainer = build(
        {"evaluate_every": 1, "patience": 2, "max_steps": 40, "learning_rate": 0.05, "schedule": "constant"},
        validation=validation,
        callbacks=[Checkpoints(), StopEarly(2)],
    )  # fmt: skip
    trainer.train()
    evaluations = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    losses = [entry["eval_loss"] for entry in evaluations]
    best = losses.index(min(losses))
    assert len(losses) < 40
    assert len(losses) == best + 3
    assert trainer.state.best_global_step == best + 1
    batch = PairCollator(tokenizer.pad_token_id)(list(trainer.eval_dataset))
    trainer.model.eval()
    with torch.no_grad():
        measured = trainer.measure(trainer.model, batch)
    assert (measured.gap_loss.mean() + measured.retention.mean()).item() == pytest.approx(losses[best], rel=1e-4)
    for entry in evaluations:
        assert entry["eval_loss"] == pytest.approx(entry["eval_loss/gap"] + entry["eval_loss/retention"])
        assert {"eval_reward_gap/target", "eval_rewards/accuracies"} <= entry.keys()


def test_joining_by_id(world: Any, model: Any, tokenizer: Any) -> None:
    pairs = world.pairs_table(4)
    references = world.references_for(model, tokenizer, pairs)
    known = {row["text_id"]: row for row in references.to_pylist()}
    shuffled = references.take(list(reversed(range(references.num_rows))))
    for mode in ("own", "dominant"):
        rows, aside = join(pairs, shuffled, tokenizer, world.settings(anchor_gap=mode), system=None)
        assert aside.num_rows == 0
        for row, pair in zip(rows, pairs.to_pylist(), strict=True):
            own = mode == "own" and pair["kind"] == "harmless"
            assert row.anchor_gap == known[pair["pair_id"] if own else pair["source_id"]]["gap"]
            assert row.pooled is not None
            assert row.pooled[0].tolist() == known[pair["source_id"]]["chosen_pooled"]


def test_rows_that_cannot_train_are_set_aside_with_the_reason(world: Any, model: Any, tokenizer: Any) -> None:
    pairs = world.pairs_table(4)
    rows = pairs.to_pylist()
    references = world.references_for(model, tokenizer, pairs)
    rows[0]["target_rejected"] = " "
    gone = {rows[2]["source_id"], rows[6]["pair_id"]}  # a dominant gap; an own gap (row 6 is harmless)
    kept = references.filter([value not in gone for value in references.column("text_id").to_pylist()])
    table = pairs.schema.empty_table().from_pylist(rows, schema=pairs.schema)
    trained, aside = join(table, kept, tokenizer, world.settings(anchor_gap="own"), system=None)
    assert {(row["row_id"], row["reason"], row["detail"]) for row in aside.to_pylist()} == {
        (rows[0]["pair_id"], "empty_response", "empty: rejected"),
        (rows[2]["pair_id"], "no_reference", "dominant pair"),
        (rows[3]["pair_id"], "no_reference", "dominant pair"),
        (rows[6]["pair_id"], "no_reference", "target pair"),
    }
    assert [row.pair_id for row in trained] == [rows[i]["pair_id"] for i in (1, 4, 5, 7)]


def test_states_are_asked_for_where_retention_needs_them(world: Any, model: Any, tokenizer: Any) -> None:
    pairs = world.pairs_table(1)
    references = world.references_for(model, tokenizer, pairs, pooling="padded_mean")
    with pytest.raises(BadInputError, match="pooled hidden states"):
        join(pairs, references, tokenizer, world.settings(), system=None)


def test_a_stop_in_the_middle_loses_nothing(build: Any, tmp_path: Path) -> None:
    def run(stop_at: int | None, resume: bool) -> MPOTrainer:
        stop = StopOnSignal()
        watch = Stream(lambda line: stop.ask() if line["step"] == stop_at and "loss" in line else None)
        callbacks = [Checkpoints(), stop, watch, StopEarly(30)]
        trainer = build(changes, validation=world_validation, callbacks=callbacks)
        folder = Path(str(trainer.args.output_dir))
        trainer.train(resume_from_checkpoint=str(newest_checkpoint(folder)) if resume else None)
        return trainer

    changes = {
        "max_steps": 9, "gradient_accumulation": 2, "evaluate_every": 2, "patience": 30, "save_every": 50,
        "lora": LoraSettings(rank=4, dropout=0.2),
    }  # fmt: skip
    world_validation = build.keywords["world"].pairs_table(3, split="validation")
    whole = run(None, resume=False)
    shutil.rmtree(tmp_path / "checkpoints")
    halved = run(4, resume=False)
    assert halved.state.global_step == 5  # asked while step 4 was told, so the step after it is the last
    resumed = run(None, resume=True)
    assert figures(resumed) == figures(whole)
    assert all(torch.equal(v, weights(resumed.model)[name]) for name, v in weights(whole.model).items())


def test_a_checkpoint_cut_off_is_skipped_and_removed(tmp_path: Path) -> None:
    for step, mark in ((3, True), (12, True), (20, False)):
        path = tmp_path / f"checkpoint-{step}"
        path.mkdir()
        (path / "model.safetensors").write_bytes(b"x" * step)
        if mark:
            (path / "complete.json").write_text(json.dumps({"model.safetensors": step}))
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-12"
    assert not (tmp_path / "checkpoint-20").exists()
    (tmp_path / "checkpoint-12" / "model.safetensors").write_bytes(b"short")
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-3"
    assert newest_checkpoint(tmp_path / "nowhere") is None
