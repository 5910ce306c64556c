"""The equations of sparse weight editing, against numpy by another road and against their limits."""

import numpy as np
import pytest
import torch

from mpo_core.editing.solve import Inputs, select_neurons, solve

D, NEURONS = 9, 5


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(3)

    def states(n):
        return torch.randn(n, D, generator=generator, dtype=torch.float64)

    low = states(20)
    return Inputs(low, low + 0.3 * states(20), torch.cat([low, states(6)]), states(15) + 0.5)


@pytest.fixture
def weights():
    return torch.randn(D, NEURONS, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def objective(change, inputs, weights, harmless_weight, ridge):
    """The loss that is minimised, with its figures as numpy computes them."""
    low, dominant, _, harmless = (np.asarray(part) for part in inputs)
    change, weights = np.asarray(change), np.asarray(weights)
    penalty = ridge * np.trace(low.T @ low / len(low)) / low.shape[1]
    fit = np.square(low @ change - (dominant - low) @ weights).sum() / len(low)
    quiet = np.square(harmless @ change).sum() / len(harmless)
    return fit + harmless_weight * quiet + penalty * np.square(change).sum()


@pytest.mark.parametrize("rank", [1, 2, 32])
def test_the_change_is_that_of_numpy(inputs, weights, rank):
    """Another road: the full solution by an inverse, cut to its rank in the metric of Q by an eigendecomposition."""
    low, dominant, _, harmless = (np.asarray(part) for part in inputs)
    gram = low.T @ low / len(low)
    q = gram + 3.0 * harmless.T @ harmless / len(harmless) + 0.05 * np.trace(gram) / D * np.eye(D)
    full = np.linalg.inv(q) @ low.T @ (dominant - low) @ np.asarray(weights) / len(low)
    _, vectors = np.linalg.eigh(full.T @ q @ full)
    best = vectors[:, ::-1][:, :rank]
    expected = full @ best @ best.T
    change = solve(inputs, weights, rank=rank, harmless_weight=3.0, ridge=0.05)
    np.testing.assert_allclose(change, expected, rtol=1e-9, atol=1e-12)
    assert np.linalg.matrix_rank(change) == min(rank, NEURONS)


def test_no_other_change_of_the_rank_has_a_lower_loss(inputs, weights):
    change = solve(inputs, weights, rank=2, harmless_weight=1.0, ridge=0.01)
    least = objective(change, inputs, weights, 1.0, 0.01)
    left = torch.linalg.qr(change)[0][:, :2]
    right = torch.linalg.lstsq(left, change).solution
    generator = torch.Generator().manual_seed(0)
    for size in (1e-3, 1e-1, 1.0):
        for _ in range(20):
            moved = left + size * torch.randn(left.shape, generator=generator, dtype=torch.float64)
            other = moved @ (right + size * torch.randn(right.shape, generator=generator, dtype=torch.float64))
            assert objective(other, inputs, weights, 1.0, 0.01) > least


def test_nothing_changes_where_prompts_are_read_as_in_the_dominant_language(inputs, weights):
    equal = inputs._replace(dominant=inputs.translated)
    assert solve(equal, weights, rank=3, harmless_weight=1.0, ridge=0.01).abs().max() == 0.0


def test_harmless_activations_stay_where_their_weight_is_large(inputs, weights):
    few = inputs._replace(harmless=inputs.harmless[:4])  # they leave directions free
    moved = [
        float((few.harmless @ solve(few, weights, rank=9, harmless_weight=weight, ridge=0.01)).norm())
        for weight in (0.0, 1.0, 1e2, 1e4, 1e8)
    ]
    assert moved == sorted(moved, reverse=True)
    assert moved[-1] < 1e-6 * moved[0]
    free = solve(few, weights, rank=9, harmless_weight=1e8, ridge=0.01)
    assert free.norm() > 0.05


def test_a_neuron_is_edited_for_either_reason_and_only_where_it_rises():
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(2, 200, 40, generator=generator, dtype=torch.float64)
    harmful, harmless = noise[0].clone(), noise[1].clone()
    scale = torch.ones(40, dtype=torch.float64)
    scale[7] = 10.0
    harmful, harmless = harmful * scale, harmless * scale
    harmful[:, 3] += 1.5  # more than a standard deviation of its own
    harmful[:, 7] += 8.0  # less than one of its own, but far above the others
    harmful[:, 9] -= 5.0  # falls
    a, b = np.asarray(harmful), np.asarray(harmless)
    rise = a.mean(0) - b.mean(0)
    pooled = np.sqrt((np.var(a, 0, ddof=1) + np.var(b, 0, ddof=1)) / 2)
    z_score = (rise - rise.mean()) / rise.std(ddof=1)
    expected = np.flatnonzero((z_score > 2.0) | (rise / pooled > 1.0))
    assert list(expected) == [3, 7]
    assert select_neurons(harmful, harmless, min_z_score=2.0, min_effect=1.0).tolist() == [3, 7]
    assert select_neurons(harmful, harmless, min_z_score=2.0, min_effect=9.0).tolist() == [7]
    assert select_neurons(harmful, harmless, min_z_score=99.0, min_effect=1.0).tolist() == [3]
