"""Each method through the trainer: what it needs and logs, that it trains, what a weight means, how kto resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mpo_core.contract.tables import GAPS
from mpo_core.contract.training import TRAINING_METHODS
from mpo_core.training.checkpoints import newest_checkpoint
from mpo_core.training.collator import join
from mpo_core.training.launch import train
from mpo_core.training.stop import Stop

METHODS = sorted(TRAINING_METHODS.implementations.keys() - {"mpo", "epsilon_mpo", "none"})
WITHOUT_REFERENCE = {"sft", "cpo", "orpo", "simpo"}
# Where policy and reference are one, all log-ratios are 0: log 2, (1 / (2 beta))^2, 1 - sigmoid(0).
AT_THE_REFERENCE = {"dpo": 0.6931472, "balanced_dpo": 0.6931472, "rdpo": 0.6931472, "ipo": 25.0, "kto": 0.5}


def steps(trainer: Any) -> list[dict[str, float]]:
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in steps(trainer)]


@pytest.mark.parametrize("method", METHODS)
def test_training_lowers_the_methods_own_loss(method: str, tiny: Any, build_on: Any) -> None:
    model = tiny.llama(0)
    rows = tiny.rows(model, 6, beta=TRAINING_METHODS.parse({"method": method}).beta_of("sw"))
    if method in WITHOUT_REFERENCE:
        rows = [row._replace(reference=None) for row in rows]
    gaps = [
        tiny.log_p(model, row.target.prompt, row.target.chosen) / len(row.target.chosen)
        - tiny.log_p(model, row.target.prompt, row.target.rejected) / len(row.target.rejected)
        for row in rows
    ]
    trainer = build_on(model, rows, method=method, max_steps=6, validation=rows[:4], evaluate_every=6)
    trainer.train()
    logged = steps(trainer)
    assert logged[-1]["loss"] < logged[0]["loss"] - 0.01
    if method in AT_THE_REFERENCE:
        assert logged[0]["loss"] == pytest.approx(AT_THE_REFERENCE[method], rel=1e-5)
    assert logged[0]["reward_gap/target"] == pytest.approx(sum(gaps) / 6, abs=1e-5)
    assert logged[0]["rewards/accuracies"] == pytest.approx(sum(gap > 0 for gap in gaps) / 6)
    assert not {"loss/gap", "loss/retention", "reward_gap/dominant"} & set(logged[0])  # MPO's own
    (evaluated,) = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    assert {"eval_reward_gap/target", "eval_rewards/accuracies"} <= set(evaluated)


@pytest.mark.parametrize("method", METHODS)
def test_a_weight_of_two_is_the_row_twice(method: str, tiny: Any, build_on: Any, measure: Any) -> None:
    # So it has to be for means over tokens and for kto's KL as well; the row is not of mean length.
    policy = tiny.drifted(1)
    rows = tiny.rows(tiny.llama(0), 5)
    twice = [*rows[:3], rows[2]._replace(pair_id="again"), *rows[3:]]
    weighted = [row._replace(weight=2.0) if at == 2 else row for at, row in enumerate(rows)]
    loss, gradients = measure(build_on(tiny.llama(0), weighted, method=method), policy)
    expected, expected_gradients = measure(build_on(tiny.llama(0), twice, method=method), policy)
    assert loss == pytest.approx(expected, rel=1e-6)
    assert loss != pytest.approx(measure(build_on(tiny.llama(0), rows, method=method), policy)[0], rel=1e-4)
    for name, gradient in expected_gradients.items():
        assert torch.allclose(gradients[name], gradient, rtol=0, atol=1e-5 * float(gradient.abs().max())), name


@pytest.mark.parametrize("method", METHODS)
def test_who_needs_a_reference(method: str, world: Any, tokenizer: Any) -> None:
    settings = TRAINING_METHODS.parse({"method": method})
    pairs = world.pairs_table(2)
    rows, rejected = join(pairs, references=GAPS.build([]), tokenizer=tokenizer, settings=settings, system=None)
    without = method in WITHOUT_REFERENCE
    assert settings.references_targets == (not without)
    assert len(rows) == (len(pairs) if without else 0)
    assert set(rejected.column("reason").to_pylist()) == (set() if without else {"no_reference"})


def test_kto_resumes_to_the_same_weights(tiny: Any, build_on: Any) -> None:
    # Batches differ from epoch to epoch, and a resumed run has to measure the untouched model, not the checkpoint.
    def make() -> Any:
        model = tiny.llama(0)
        rows = tiny.rows(model, 7, languages="sw ko")
        changes = {"order": "shuffled", "batch_size": 3, "max_steps": 7}
        return build_on(model, rows, method="kto", **changes)

    whole = make()
    whole.train()
    stop = Stop()
    stopped = make()
    stopped.train(report=lambda line: stop.request() if line["step"] == 4 else None, stop=stop)
    assert stopped.state.global_step == 4
    resumed = make()
    resumed.train(newest_checkpoint(resumed.folder))
    assert losses(resumed) == losses(whole)
    assert len(set(losses(whole))) == 7
    expected = dict(whole.model.named_parameters())
    assert all(torch.equal(value, expected[name]) for name, value in resumed.model.named_parameters())


def test_kto_as_a_jobadd_adapters(world: Any, folder: Path, tmp_path: Path) -> None:
    # The reference of the mismatched pairs is the model before its adapters learn.
    settings = world.settings(method="kto", beta=0.5, batch_size=4, max_steps=3, lora={"rank": 4}, learning_rate=1e-2)
    pairs = world.pairs_table(4)
    result = train(world.make_job(tmp_path, folder, settings, pairs, world.pairs_table(2, split="validation")))
    log = json.loads(result.trainer_state.read_text(encoding="utf-8"))["log_history"]
    logged = [entry["loss"] for entry in log if "loss" in entry]
    assert len(logged) == result.steps == 3
    assert logged[0] == pytest.approx(0.5, abs=1e-5)
    assert logged[-1] < logged[0] - 1e-3


@pytest.mark.long
@pytest.mark.parametrize("method", ["kto", "orpo"])
def test_two_processes_train_as_a_single_process(method: str, world: Any, folder: Path, tmp_path: Path) -> None:
    # What a step has to know of all its rows: kto's KL, and the tokens that a likelihood is a mean over.
    logged = []
    for processes in (1, 2):
        settings = world.settings(
            method=method, batch_size=4 // processes, processes=processes, max_steps=4, learning_rate=1e-2
        )
        result = train(world.make_job(tmp_path / str(processes), folder, settings, world.pairs_table(5)))
        log = json.loads(result.trainer_state.read_text(encoding="utf-8"))["log_history"]
        logged.append([entry["loss"] for entry in log if "loss" in entry])
    assert logged[0] == pytest.approx(logged[1], rel=1e-4)
    assert len(set(logged[0])) == 4
