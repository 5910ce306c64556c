"""Each method through the trainer: what it needs, what it logs, that it trains, and that its step may be cut anyhow."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from mpo_core.settings import TrainingSettings
from mpo_core.tables import GAPS
from mpo_core.training import train
from mpo_core.training.callbacks import Checkpoints, StopOnSignal, newest_checkpoint
from mpo_core.training.collator import join

METHODS = ["sft", "dpo", "ipo", "rdpo", "cpo", "kto", "orpo", "r_dpo", "simpo"]


def losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def final(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.model.named_parameters()}


@pytest.mark.parametrize("method", METHODS)
def test_training_lowers_the_methods_own_loss(method: str, tiny: Any, build_on: Any) -> None:
    model = tiny.llama(0)
    rows = tiny.rows(model, 6, beta=TrainingSettings(method=method).beta_of("sw"))  # type: ignore[arg-type]
    needs = method in {"dpo", "ipo", "rdpo", "r_dpo", "kto"}
    if not needs:
        rows = [row._replace(reference=None) for row in rows]
    trainer = build_on(model, rows, method=method, max_steps=6, validation=rows[:4], evaluate_every=6)
    trainer.train()
    told = losses(trainer)
    assert told[-1] < told[0] - 0.01
    if needs and method != "ipo":  # the policy is the reference yet: every log-ratio is 0
        longer = sum(len(row.target.chosen) - len(row.target.rejected) for row in rows)
        assert longer != 0
        assert (told[0] == pytest.approx(0.5 if method == "kto" else 0.693147, abs=1e-5)) == (method != "r_dpo")
    step = trainer.state.log_history[0]
    assert {"loss", "reward_gap/target", "rewards/accuracies"} <= set(step)
    assert not {"loss/gap", "loss/retention", "reward_gap/dominant"} & set(step)  # MPO's own
    (evaluated,) = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    assert {"eval_reward_gap/target", "eval_rewards/accuracies"} <= set(evaluated)
    last = trainer.state.log_history[-2 if "train_loss" in trainer.state.log_history[-1] else -1]
    assert last is evaluated
    first_gap = sum(
        tiny.log_p(tiny.llama(0), row.target.prompt, answer) / len(answer) * sign
        for row in rows
        for answer, sign in zip(row.target[1:], (1, -1), strict=True)
    )
    assert step["reward_gap/target"] == pytest.approx(first_gap / len(rows), abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_weight_of_two_is_the_row_twice(method: str, tiny: Any, build_on: Any, measure: Any) -> None:
    # So it is for sums over tokens and for kto's KL too. The row's length is not the mean one.
    policy = tiny.drifted(1)
    rows = tiny.rows(tiny.llama(0), 5)
    twice = [*rows[:3], rows[2]._replace(pair_id="again"), *rows[3:]]
    weighted = [row._replace(weight=2.0) if at == 2 else row for at, row in enumerate(rows)]
    loss, gradients = measure(build_on(tiny.llama(0), weighted, method=method), policy)
    expected, expected_gradients = measure(build_on(tiny.llama(0), twice, method=method), policy)
    assert loss == pytest.approx(expected, rel=1e-6)
    assert loss != pytest.approx(measure(build_on(tiny.llama(0), rows, method=method), policy)[0], rel=1e-4)
    for name, gradient in expected_gradients.items():
        assert torch.allclose(gradients[name], gradient, rtol=0, atol=1e-5 * float(gradient.abs().max()))


@pytest.mark.parametrize("method", METHODS)
def test_who_needs_a_reference(method: str, world: Any, tokenizer: Any) -> None:
    settings = TrainingSettings(method=method)  # type: ignore[arg-type]
    pairs = world.pairs_table(2)
    rows, aside = join(pairs, references=GAPS.build([]), tokenizer=tokenizer, settings=settings, system=None)
    without = method in {"sft", "cpo", "orpo", "simpo"}
    assert settings.references_targets == (not without)
    assert len(rows) == (len(pairs) if without else 0)
    assert set(aside.column("reason").to_pylist()) == (set() if without else {"no_reference"})


def test_kto_resumes_to_the_same_weights(tiny: Any, build_on: Any) -> None:
    # Batches differ from epoch to epoch, and a resumed run has to find reference and mismatch of the untouched model.
    def make(*callbacks: Any) -> Any:
        model = tiny.llama(0)
        rows = tiny.rows(model, 7, languages="sw ko")
        changes = {"order": "shuffled", "batch_size": 3, "max_steps": 7, "callbacks": list(callbacks)}
        return build_on(model, rows, method="kto", **changes)

    whole = make()
    whole.train()
    stop = StopOnSignal()
    cut = make(Checkpoints(), stop)
    cut.add_callback(_AskAt(stop, 4))
    cut.train()
    assert cut.state.global_step == 4
    resumed = make(Checkpoints())
    resumed.train(resume_from_checkpoint=str(newest_checkpoint(_folder(resumed))))
    assert losses(resumed) == losses(whole)
    assert len(set(losses(whole))) == 7
    expected = final(whole)
    assert all(torch.equal(value, expected[name]) for name, value in final(resumed).items())


def test_kto_by_the_command_of_a_job(world: Any, folder: Any, tmp_path: Any) -> None:
    # Adapters: the reference of mismatched pairs is the model before they learn.
    settings = world.settings(method="kto", beta=0.5, batch_size=4, max_steps=3, lora={"rank": 4}, learning_rate=1e-2)
    result = train(world.make_job(tmp_path, folder, settings, world.pairs_table(4), world.pairs_table(2)))
    log = json.loads(result.trainer_state.read_text())["log_history"]
    told = [entry["loss"] for entry in log if "loss" in entry]
    assert len(told) == result.steps == 3
    assert told[0] == pytest.approx(0.5, abs=1e-5)
    assert told[-1] < told[0] - 1e-3


def _folder(trainer: Any) -> Any:
    from pathlib import Path

    return Path(trainer.args.output_dir)


def _AskAt(stop: StopOnSignal, step: int) -> Any:  # noqa: N802
    from transformers import TrainerCallback

    class Ask(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == step - 1:
                stop.ask()

    return Ask()
