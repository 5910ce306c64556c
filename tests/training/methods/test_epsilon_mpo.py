"""Epsilon-MPO: what it is without swapped answers, against its formula, and where it pulls."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from mpo_core.contract.training import TRAINING_METHODS, Scores
from tests.training.runs import equal, weights


def scores(gaps: list[float], anchors: list[float], *, beta: float = 1.0, progress: float = 1.0) -> Scores:
    """Pairs with one token an answer, whose reward gaps are `gaps`."""
    gap = torch.tensor(gaps, dtype=torch.float64)
    zero, token = torch.zeros_like(gap), torch.ones_like(gap)
    return Scores(
        gap, zero, zero, token, token, beta * token, torch.tensor(anchors).to(gap), zero, zero, 1.0, 0.0, 0.0, progress
    )


def method(**changes: Any) -> Any:
    return TRAINING_METHODS.parse({"method": "epsilon_mpo", **changes})


GAPS, ANCHORS = [0.7, -0.7, 0.0, -3.0, 2.5, 0.4], [1.0, 1.0, 1.0, 1.5, -2.0, 0.5]


def test_it_is_the_formula_in_numpy() -> None:
    loss = method(swapped_share=0.2, spread=0.8).loss(scores(GAPS, ANCHORS, beta=1.5))
    g, a = 1.5 * np.array(GAPS), np.array(ANCHORS)
    s = 0.8 * np.abs(a)
    likelihood = 0.8 * np.exp(-((g - a) ** 2) / (2 * s**2)) + 0.2 * np.exp(-((g + a) ** 2) / (2 * s**2))
    np.testing.assert_allclose(loss, -2 * s**2 * np.log(likelihood), rtol=1e-12)


@pytest.mark.parametrize(("share", "progress"), [(0.0, 1.0), (0.3, 0.29)], ids=["no share", "warm start"])
def test_it_is_mpo_bit_for_bit_without_a_share_and_during_the_warm_start(share: float, progress: float) -> None:
    some = scores(GAPS, ANCHORS, beta=1.3, progress=progress)
    plain = TRAINING_METHODS.parse({"method": "mpo"}).loss(some)
    assert torch.equal(method(swapped_share=share).loss(some), plain)
    assert not torch.equal(method(swapped_share=0.3).loss(some._replace(progress=0.3)), plain)


def test_a_pair_that_runs_against_its_label_pulls_the_other_way() -> None:
    some = scores([0.8, -0.8, -0.8], [1.0, 1.0, -1.0])
    gap = some.chosen.requires_grad_()
    method(swapped_share=0.1, spread=0.5).loss(some).sum().backward()
    pull = -gap.grad  # type: ignore[operator]
    assert pull[0] > 0 > pull[1]  # to the anchor gap 1, and to -1
    # Odds of being as labelled: 9 exp(-(1.8^2 - 0.2^2) / (2 * 0.5^2)); each mode pulls with twice the distance to it.
    odds = 9 * math.exp(-6.4)
    assert float(pull[1]) == pytest.approx((odds * 3.6 - 0.4) / (1 + odds))
    assert pull[2] < 0  # a pair whose anchor gap is negative, and that follows it


def test_a_gap_of_zero_is_between_both_modes() -> None:
    some = scores([0.0], [1.0])
    gap = some.chosen.requires_grad_()
    method(swapped_share=0.25).loss(some).backward()
    assert gap.grad is not None
    # As far to 1 as to -1, by their shares: (1 - e) - e of the pull of MPO.
    assert float(gap.grad[0]) == pytest.approx(-2.0 * (0.75 - 0.25))


def test_an_anchor_gap_of_zero_and_far_gaps_stay_finite() -> None:
    some = scores([0.5, 300.0, -300.0, 0.0], [0.0, 1e-9, 2.0, 0.0])
    gap = some.chosen.requires_grad_()
    loss = method().loss(some)
    loss.sum().backward()
    assert gap.grad is not None
    assert bool(loss.isfinite().all() and gap.grad.isfinite().all())
    assert float(loss.detach()[0]) == pytest.approx(0.25)
    assert float(loss.detach()[2]) == pytest.approx(298.0**2 - 2.0 * math.log(0.1), rel=1e-9)


def test_it_trains_as_mpo_until_the_warm_start_is_over(build: Any) -> None:
    def trained(**changes: Any) -> Any:
        made = build({"max_steps": 4, **changes})
        made.train()
        return weights(made.model)

    plain = trained()
    assert equal(trained(method="epsilon_mpo", warm_start=1.0), plain)
    assert not equal(trained(method="epsilon_mpo", warm_start=0.5, swapped_share=0.4, spread=2.0), plain)
