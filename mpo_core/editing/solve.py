"""The two equations of sparse weight editing, in float64: which neurons are edited, and by how much.

Shapes: N prompts, D inputs of a matrix, I neurons (its outputs), S edited neurons. W is [D, I]: activations are X W.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Inputs(NamedTuple):
    """The inputs of one layer's gate_proj and up_proj at the last token of every prompt, in float64."""

    translated: Tensor
    """[N, D], harmful prompts in the target languages."""
    dominant: Tensor
    """[N, D], the same prompts in the dominant language, row by row."""
    harmful: Tensor
    """[H, D], all harmful prompts, each once in each language."""
    harmless: Tensor
    """[A, D], all harmless prompts in every language."""


def select_neurons(harmful: Tensor, harmless: Tensor, *, min_z_score: float, min_effect: float) -> Tensor:
    """Selects the neurons whose activations rise on harmful prompts.

    A neuron is selected if its rise is more than `min_z_score` standard deviations above the mean rise of the matrix,
    or more than `min_effect` of its own standard deviations, pooled over both kinds of prompts.

    Args:
        harmful: [H, I], activations on harmful prompts.
        harmless: [A, I], activations on harmless prompts.
        min_z_score: see above.
        min_effect: see above.

    Returns:
        [S], numbers of the neurons in ascending order.
    """
    rise = harmful.mean(0) - harmless.mean(0)
    spread = (len(harmful) - 1) * harmful.var(0) + (len(harmless) - 1) * harmless.var(0)
    own = (spread / (len(harmful) + len(harmless) - 2)).sqrt()
    # Compared without a division: a neuron that never varies has a spread of 0.
    stands_out = rise - rise.mean() > min_z_score * rise.std()
    return (stands_out | (rise > min_effect * own)).nonzero().flatten()


def solve(inputs: Inputs, weights: Tensor, *, rank: int, harmless_weight: float, ridge: float) -> Tensor:
    """Computes the change of some neurons' weights, a closed form.

    It minimises |X_t C - T|^2 / N + g |X_a C|^2 / A + l |C|^2 over all C of rank r at most: X_t are the `translated`
    inputs, X_a the `harmless` ones, and T = (X_d - X_t) W is what the activations of translated prompts lack of those
    in the dominant language. With Q = X_t'X_t / N + g X_a'X_a / A + l I = R'R (Cholesky) and
    M = R'^(-1) X_t'T / N = U S V', the best change is C = R^(-1) U_r S_r V_r'.

    Args:
        inputs: of the layer.
        weights: [D, S], the neurons' weights.
        rank: r.
        harmless_weight: g.
        ridge: l, as a multiple of the mean of the diagonal of X_t'X_t / N.

    Returns:
        [D, S], C.
    """
    low, n = inputs.translated, len(inputs.translated)
    gram = low.T @ low / n
    penalty = ridge * gram.diagonal().mean()
    q = gram + harmless_weight * (inputs.harmless.T @ inputs.harmless) / len(inputs.harmless)
    q.diagonal().add_(penalty)
    r = torch.linalg.cholesky(q, upper=True)
    lacking = (inputs.dominant - low) @ weights
    m = torch.linalg.solve_triangular(r.T, low.T @ lacking / n, upper=False)
    u, s, v = torch.linalg.svd(m, full_matrices=False)
    change: Tensor = torch.linalg.solve_triangular(r, u[:, :rank] * s[:rank], upper=True) @ v[:rank]
    return change
