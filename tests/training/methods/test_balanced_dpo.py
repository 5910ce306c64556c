"""MI-balanced DPO: equal information is DPO, its formula in numpy, and the reference after an empty request."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mpo_core.contract.training import TRAINING_METHODS, Scores
from tests.training.methods import two_pairs


def scores(bare_chosen: list[float], bare_rejected: list[float]) -> Scores:
    return two_pairs.scores(torch.float64, bare_chosen=bare_chosen, bare_rejected=bare_rejected)


def loss(some: Scores, **changes: Any) -> Any:
    return TRAINING_METHODS.parse({"method": "balanced_dpo", **changes}).loss(some)


def test_equal_information_is_dpo_bit_for_bit() -> None:
    # Information per token: 1.5 on both sides, then 2.
    some = scores([-15.0, -8.0], [-7.0, -23.0])
    plain = TRAINING_METHODS.parse({"method": "dpo"}).loss(some)
    assert torch.equal(loss(some), plain)
    assert torch.equal(loss(some, emphasis="more_informed"), plain)
    assert not torch.equal(loss(scores([-15.0, -8.0], [-9.0, -23.0])), plain)


@pytest.mark.parametrize(("emphasis", "sign"), [("less_informed", -1), ("more_informed", 1)])
def test_it_is_the_formula_in_numpy(emphasis: str, sign: int) -> None:
    actual = loss(scores([-17.0, -6.0], [-4.5, -30.0]), temperature=0.7, emphasis=emphasis)
    information = np.array([[8.0 / 4, 2.0 / 2], [0.5 / 2, 17.0 / 5]])  # chosen, rejected
    powers = np.exp(sign * information / 0.7)
    b = 2 * powers / powers.sum(0)
    c = np.sqrt(2 / (b**2).sum(0))
    h = np.array([[1.0, -1.0], [-2.0, 3.0]])
    margin = c * np.array([0.5, 0.25]) * (b[0] * h[0] - b[1] * h[1])
    np.testing.assert_allclose(actual, np.log1p(np.exp(-margin)), rtol=1e-12)


def test_a_step_is_that_of_plain_forwards(tiny: Any, build_on: Any, measure: Any) -> None:
    reference, policy = tiny.llama(0), tiny.drifted(1)
    rows = tiny.rows(reference, 4, languages="sw ko")
    trainer = build_on(tiny.llama(0), rows, method="balanced_dpo")
    total, _ = measure(trainer, policy)
    expected = []
    for row in rows:
        assert row.bare.prompt != row.target.prompt
        h, b = [], []
        for answer, log_ref in zip(row.target[1:], row.reference, strict=True):
            h.append(tiny.log_p(policy, row.target.prompt, answer) - log_ref)
            b.append(np.exp(-(log_ref - tiny.log_p(reference, row.bare.prompt, answer)) / len(answer)))
        b = 2 * np.array(b) / sum(b)
        margin = 0.1 * np.sqrt(2 / (b**2).sum()) * (b[0] * h[0] - b[1] * h[1])
        expected.append(np.log1p(np.exp(-margin)))
    assert total == pytest.approx(np.mean(expected), rel=1e-5)


def test_the_empty_request_is_the_chat_template_s(world: Any, tokenizer: Any, folder: Any) -> None:
    from mpo_core.models import load_model
    from mpo_core.models.chat import encode_prompt
    from mpo_core.training.collator import join

    pairs = world.pairs_table(1)
    references = world.references_for(load_model(folder, world.MODEL), tokenizer, pairs)
    rows, _ = join(
        pairs,
        references=references,
        tokenizer=tokenizer,
        settings=world.settings(method="balanced_dpo"),
        system=None,
    )
    assert [row.bare for row in rows] == [row.target._replace(prompt=encode_prompt(tokenizer, "")) for row in rows]
    others, _ = join(pairs, references=references, tokenizer=tokenizer, settings=world.settings(), system=None)
    assert [row.bare for row in others] == [None, None]
