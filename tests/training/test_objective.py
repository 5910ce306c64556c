"""The equations against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch

from mpo_core.training.objective import (
    gap_loss,
    mean_log_probability,
    pool,
    retention_loss,
    reward_gap,
    weighted_mean,
)


def test_mean_log_probability_by_hand() -> None:
    got = mean_log_probability(torch.tensor([-6.0, -1.0]), torch.tensor([4, 1]))
    assert got.tolist() == [-1.5, -1.0]


def test_gap_and_its_loss_by_hand() -> None:
    gap = reward_gap(torch.tensor([-1.0, -1.5, -2.0, -1.0]))  # chosen and rejected in turn
    assert gap.tolist() == [0.5, -1.0]
    loss = gap_loss(gap, torch.tensor([1.0, 0.5]), beta=torch.tensor([1.5, 2.0]))  # beta on the target gap alone
    assert loss.tolist() == [(1.5 * 0.5 - 1.0) ** 2, (2.0 * -1.0 - 0.5) ** 2]


def test_pooling_by_hand() -> None:
    parts = [torch.tensor([[1.0], [2.0], [6.0]]), torch.tensor([[7.0]])]
    assert pool(parts[:1], "mean").tolist() == [3.0]
    assert pool(parts, "mean").tolist() == pool(parts, "padded_mean").tolist() == [4.0]  # what counts, the layout says
    assert pool(parts, "last").tolist() == [7.0]


def test_retention_is_a_mean_over_sequences_and_width() -> None:
    torch.manual_seed(0)
    policy, reference = torch.randn(6, 5), torch.randn(6, 5)
    per_pair = retention_loss(policy, reference)
    assert per_pair.shape == (3,)
    assert per_pair.mean() == pytest.approx(torch.nn.MSELoss()(policy, reference).item())
    by_hand = ((policy[2:4] - reference[2:4]) ** 2).mean().item()  # the second pair
    assert per_pair[1].item() == pytest.approx(by_hand)


def test_a_step_s_mean_is_the_sum_of_its_forwards_shares() -> None:
    loss, weights = torch.tensor([1.0, 3.0, 5.0]), torch.tensor([1.0, 0.5, 2.5])
    whole = weighted_mean(loss, weights, 4.0)
    assert whole.item() == (1.0 + 1.5 + 12.5) / 4.0
    shares = [weighted_mean(loss[part], weights[part], 4.0) for part in (slice(0, 1), slice(1, 3))]
    assert sum(shares) == whole


def test_half_precision_is_summed_in_float32() -> None:
    torch.manual_seed(0)
    states, other = torch.randn(2, 1000, 8).bfloat16()
    exact = states.double().mean(0)
    assert pool([states], "mean").dtype == torch.float32
    torch.testing.assert_close(pool([states], "mean").double(), exact, rtol=1e-5, atol=1e-6)
    exact_loss = (states.double() - other.double()).square().mean(-1).view(-1, 2).mean(-1)
    torch.testing.assert_close(retention_loss(states, other).double(), exact_loss, rtol=1e-5, atol=0)
    log_p = torch.tensor([-300.0, -301.0]).bfloat16()
    assert mean_log_probability(log_p, torch.tensor([7, 7])).dtype == torch.float32
    assert gap_loss(log_p, log_p, 0.1).dtype == torch.float32


def test_what_is_wider_stays_wide() -> None:
    wide = torch.ones(2, 3, dtype=torch.float64) / 3
    assert {f.dtype for f in (pool([wide], "last"), retention_loss(wide, wide))} == {torch.float64}
