"""kto's mismatched pairs and its KL."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.training import TRAINING_METHODS
from mpo_core.training.divergence import divergence, mismatched


def test_answers_come_from_the_next_row_of_the_language(tiny: Any) -> None:
    rows = tiny.rows(tiny.llama(0), 5, languages="sw ko")  # sw 0, 2, 4; ko 1, 3
    pairs = mismatched(rows, 1024)
    assert [row.pair_id for row in pairs] == [row.pair_id for row in rows]
    assert [row.target.prompt for row in pairs] == [row.target.prompt for row in rows]
    for at, other in enumerate([2, 3, 4, 1, 0]):
        assert pairs[at].target[1:] == rows[other].target[1:]


def test_answers_to_the_same_prompt_do_not_count_as_mismatched(tiny: Any) -> None:
    rows = tiny.rows(tiny.llama(0), 4, languages="sw")
    again = rows[0].target._replace(chosen=rows[1].target.chosen)
    rows[1] = rows[1]._replace(target=again)  # two answers sampled for one prompt
    pairs = mismatched(rows, 1024)
    assert pairs[0].target[1:] == rows[2].target[1:]
    assert pairs[3].target[1:] == rows[0].target[1:]


def test_a_row_alone_in_its_language_takes_the_next_row(tiny: Any) -> None:
    rows = tiny.rows(tiny.llama(0), 3, languages="sw ko")
    assert mismatched(rows, 1024)[1].target[1:] == rows[2].target[1:]


def test_a_single_prompt_is_refused(tiny: Any) -> None:
    (row,) = tiny.rows(tiny.llama(0), 1)
    with pytest.raises(BadInputError, match="two prompts"):
        mismatched([row, row._replace(pair_id="again")], 1024)


def test_the_cutoff_holds_for_mismatched_pairs(tiny: Any) -> None:
    rows = tiny.rows(tiny.llama(0), 6)
    longest = max(len(row.target.prompt) + max(map(len, row.target[1:])) for row in rows)
    whole, cut = mismatched(rows, longest * 2), mismatched(rows, 12)
    assert max(len(row.target.prompt) + max(map(len, row.target[1:])) for row in whole) > 12
    assert max(len(row.target.prompt) + max(map(len, row.target[1:])) for row in cut) <= 12
    for pair, other in zip(cut, whole, strict=True):
        for short, long in zip(pair.target, other.target, strict=True):
            assert short
            assert short == long[: len(short)]  # ends are cut


def test_divergence_is_a_weighted_mean_and_never_negative() -> None:
    log_p = torch.tensor([[-3.0, -5.0], [-1.0, -2.0]])
    reference = torch.tensor([[-4.0, -9.0], [-2.0, -2.0]])  # means of the differences: 2.5 and 0.5
    assert divergence(log_p, reference, torch.tensor([1.0, 3.0])) == pytest.approx((2.5 + 3 * 0.5) / 4)
    assert divergence(reference, log_p, torch.ones(2)) == 0.0


def test_kl_of_a_step_is_that_of_plain_forwards(tiny: Any, build_on: Any) -> None:
    reference, policy = tiny.llama(0), tiny.drifted(1)
    rows = tiny.rows(reference, 5, languages="sw ko")
    rows[1] = rows[1]._replace(weight=2.0)
    trainer = build_on(tiny.llama(0), rows, method="kto", cutoff=14)
    trainer.model.load_state_dict(policy.state_dict())
    step = trainer._with_kl(trainer.model, trainer._step(rows[:3]))
    total = 0.0
    for row in mismatched(rows, 14)[:3]:
        prompt, *answers = row.target
        differences = [tiny.log_p(policy, prompt, answer) - tiny.log_p(reference, prompt, answer) for answer in answers]
        total += row.weight * sum(differences) / 2
    assert step.kl == pytest.approx(total / 4, rel=1e-5)
    assert step.kl > 0.1


def test_validation_has_a_kl_of_its_own(tiny: Any, build_on: Any) -> None:
    reference, policy = tiny.llama(0), tiny.drifted(1)
    held_out = tiny.rows(reference, 4, beta=0.5, seed=7)
    rows = [row._replace(pair_id=f"train {row.pair_id}") for row in tiny.rows(reference, 5)]
    trainer = build_on(tiny.llama(0), rows, method="kto", validation=held_out, evaluate_every=1)
    trainer.model.load_state_dict(policy.state_dict())

    def h(row: Any) -> list[float]:
        prompt, *answers = row.target
        return [tiny.log_p(policy, prompt, answer) - tiny.log_p(reference, prompt, answer) for answer in answers]

    kl = sum(sum(h(row)) for row in mismatched(held_out, 1024)) / 8
    assert kl > 0.1
    ratios = torch.tensor([h(row) for row in held_out])
    chosen, rejected = torch.sigmoid(0.5 * (ratios - kl)).unbind(1)
    expected = float((1 - chosen + rejected).mean() / 2)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)


def test_sharded_training_is_refused() -> None:
    with pytest.raises(ValueError, match="`method: kto` needs the whole model"):
        TRAINING_METHODS.parse({"method": "kto", "processes": 2, "parallel": "fsdp2"})
    TRAINING_METHODS.parse({"method": "kto", "processes": 2, "parallel": "ddp"})
    TRAINING_METHODS.parse({"method": "dpo", "processes": 2, "parallel": "fsdp2"})
