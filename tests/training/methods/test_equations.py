"""What TRL cannot tell: R-DPO, betas of their own, and figures at the edge of float32."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from mpo_core.contract.training import TRAINING_METHODS, Scores
from tests.training.methods.two_pairs import scores


def loss(method: str, some: Scores, **changes: Any) -> list[float]:
    return TRAINING_METHODS.parse({"method": method, **changes}).loss(some).tolist()


def minus_log_sigmoid(x: float) -> float:
    return math.log1p(math.exp(-x))


def test_r_dpo_is_the_papers_formula() -> None:
    # beta (h_w - h_l) + alpha (|y_w| - |y_l|): 0.5 * 3 + 0.1 * 2, and 0.25 * -4 + 0.1 * -3
    expected = [minus_log_sigmoid(1.5 + 0.2), minus_log_sigmoid(-1.0 - 0.3)]
    assert loss("r_dpo", scores(), length_alpha=0.1) == pytest.approx(expected, rel=1e-6)


def test_r_dpo_learns_less_from_a_longer_chosen_answer() -> None:
    slopes = {}
    for tokens in (2.0, 40.0):
        chosen = torch.tensor([-8.0, -8.0], requires_grad=True)
        same = torch.full((2,), 2.0)
        some = scores(chosen=chosen, chosen_tokens=torch.full((2,), tokens), rejected_tokens=same)
        TRAINING_METHODS.parse({"method": "r_dpo", "length_alpha": 0.1}).loss(some).sum().backward()
        slopes[tokens] = chosen.grad.abs()
    assert (slopes[40.0] < slopes[2.0] / 5).all()


def test_r_dpo_and_rdpo_without_their_parameter_are_dpo() -> None:
    plain = [minus_log_sigmoid(1.5), minus_log_sigmoid(-1.0)]
    assert loss("dpo", scores()) == pytest.approx(plain, rel=1e-6)
    assert loss("r_dpo", scores(), length_alpha=0.0) == pytest.approx(plain, rel=1e-6)
    assert loss("rdpo", scores(), label_smoothing=0.0) == pytest.approx(plain, rel=1e-6)


def test_rdpo_is_in_the_mean_over_swaps_dpo() -> None:
    # A share of 0.2 of the pairs is swapped: what rdpo expects of them is dpo on the pairs as they should be.
    actual = scores()
    swapped = actual._replace(
        chosen=actual.rejected,
        rejected=actual.chosen,
        reference_chosen=actual.reference_rejected,
        reference_rejected=actual.reference_chosen,
    )
    both = [loss("rdpo", some, label_smoothing=0.2) for some in (actual, swapped)]
    mean = [0.8 * a + 0.2 * b for a, b in zip(*both, strict=True)]
    assert mean == pytest.approx(loss("dpo", actual), rel=1e-5)


def test_kto_weighs_both_sides_and_measures_from_the_kl() -> None:
    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    expected = [
        (1.5 * (1 - sigmoid(0.5 * (1 - 0.4))) + 0.7 * (1 - sigmoid(0.5 * (0.4 + 2)))) / 2,
        (1.5 * (1 - sigmoid(0.25 * (-1 - 0.4))) + 0.7 * (1 - sigmoid(0.25 * (0.4 - 3)))) / 2,
    ]
    actual = loss("kto", scores(kl=0.4), desirable_weight=1.5, undesirable_weight=0.7)
    assert actual == pytest.approx(expected, rel=1e-6)


def test_orpo_stays_finite_where_an_answer_is_certain() -> None:
    chosen = torch.tensor([0.0, -1e-9], requires_grad=True)
    some = scores(chosen=chosen, rejected=torch.tensor([-6.0, -400.0]))
    actual = TRAINING_METHODS.parse({"method": "orpo"}).loss(some)
    actual.sum().backward()
    assert torch.isfinite(actual).all()
    # Nothing is left to gain in odds: what remains is the likelihood's slope, 1 / mean tokens.
    assert chosen.grad.tolist() == pytest.approx([-1 / 3, -1 / 3])


@pytest.mark.parametrize("method", ["dpo", "rdpo", "r_dpo", "kto", "cpo", "simpo", "orpo"])
def test_far_log_probabilities_give_finite_losses_and_gradients(method: str) -> None:
    # Answers of a thousand tokens, and a policy far from the reference.
    chosen = torch.tensor([-9e3, -1.0], requires_grad=True)
    rejected = torch.tensor([-1.0, -9e3], requires_grad=True)
    actual = TRAINING_METHODS.parse({"method": method}).loss(scores(chosen=chosen, rejected=rejected))
    actual.sum().backward()
    for tensor in (actual, chosen.grad, rejected.grad):
        assert torch.isfinite(tensor).all()
    # Which of two such pairs is wrong must show: chosen unlikely, rejected likely.
    assert actual[0] > actual[1]


@pytest.mark.parametrize(
    ("method", "beta"),
    [("mpo", 1.0), ("simpo", 2.0), ("sft", 1.0), ("dpo", 0.1), ("ipo", 0.1), ("kto", 0.1), ("orpo", 0.1)],
)
def test_beta_left_out_is_the_methods_usual(method: str, beta: float) -> None:
    assert TRAINING_METHODS.parse({"method": method}).beta_of("sw") == beta
    if method != "sft":
        by_language = TRAINING_METHODS.parse({"method": method, "beta": {"ko": 5.0}})
        assert (by_language.beta_of("ko"), by_language.beta_of("sw")) == (5.0, beta)
