"""Log-probabilities in chunks, against whole logits."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mpo_core.training.head import Frozen, Head, describe_head, divergence, log_probability

HEADS = st.builds(
    Head, scale=st.sampled_from([1.0, 0.125, 3.0]), softcap=st.sampled_from([None, 0.5, 30.0])
)  # 0.5 bites hard


def plain(hidden: Any, weight: Any, bias: Any, targets: Any, head: Head) -> torch.Tensor:
    """All logits at once."""
    return every(hidden, weight, bias, head)[torch.arange(len(targets)), targets]


def every(hidden: Any, weight: Any, bias: Any, head: Head) -> torch.Tensor:
    """Log-probabilities of the whole vocabulary."""
    logits = hidden @ weight.t()
    logits = (logits if bias is None else logits + bias) * head.scale
    if head.softcap is not None:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    return logits.log_softmax(-1)


def tensors(n: int, vocabulary: int, *, bias: bool, dtype: torch.dtype, spread: float = 1.0) -> list[Any]:
    torch.manual_seed(n)
    hidden = (torch.randn(n, 8) * spread).to(dtype).requires_grad_()
    weight = torch.randn(vocabulary, 8).to(dtype).requires_grad_()
    return [hidden, weight, torch.randn(vocabulary).to(dtype).requires_grad_() if bias else None]


@hypothesis_settings(max_examples=60)
@given(
    n=st.integers(1, 40), chunk=st.integers(1, 41), saved=st.integers(0, 41), bias=st.booleans(), head=HEADS,
    spread=st.sampled_from([1.0, 40.0]),
)  # fmt: skip
def test_chunks_and_memory_change_neither_value_nor_gradient(
    n: int, chunk: int, saved: int, bias: bool, head: Head, spread: float
) -> None:
    vocabulary = 13
    inputs = tensors(n, vocabulary, bias=bias, dtype=torch.float64, spread=spread)
    targets = torch.randint(0, vocabulary, (n,))
    slope = torch.randn(n, dtype=torch.float64)
    ours = log_probability(*inputs, targets, head, keep=saved * vocabulary * 8, chunk=chunk)
    theirs = plain(*inputs, targets, head)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    wanted = [tensor for tensor in inputs if tensor is not None]
    for a, b in zip(*(torch.autograd.grad(tensor, wanted, slope) for tensor in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@hypothesis_settings(max_examples=30)
@given(n=st.integers(1, 20), chunk=st.integers(1, 21), bias=st.booleans(), head=HEADS, adds=st.booleans())
def test_divergence_is_that_of_whole_distributions(n: int, chunk: int, bias: bool, head: Head, adds: bool) -> None:
    inputs = tensors(n, 13, bias=bias, dtype=torch.float64)
    frozen = Frozen(*(None if tensor is None else (tensor * 1.3).detach() for tensor in inputs))
    slope = torch.randn(n, dtype=torch.float64)
    ours = divergence(*inputs, frozen, head, chunk=chunk, in_place=adds)
    p, q = (every(*tensors_of, head) for tensors_of in (frozen, inputs))
    theirs = torch.nn.functional.kl_div(q, p, log_target=True, reduction="none").sum(-1)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    wanted = [tensor for tensor in inputs if tensor is not None]
    expected = torch.autograd.grad(theirs, wanted, slope)
    inputs[1].grad = torch.ones_like(inputs[1])  # of other forwards of the step
    ours.backward(slope)
    inputs[1].grad -= 1
    for tensor, gradient in zip(wanted, expected, strict=True):
        torch.testing.assert_close(tensor.grad, gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("wanted", [(True, False), (False, True), (False, False)])
def test_only_what_trains_gets_a_gradient(wanted: tuple[bool, bool]) -> None:
    hidden, weight, _ = tensors(9, 13, bias=False, dtype=torch.float64)
    targets = torch.randint(0, 13, (9,))
    both = [hidden.detach().requires_grad_(wanted[0]), weight.detach().requires_grad_(wanted[1])]
    ours = log_probability(*both, None, targets, Head(), keep=0, chunk=4)
    assert ours.requires_grad == any(wanted)
    if any(wanted):
        ours.sum().backward()
        expected = torch.autograd.grad(plain(hidden, weight, None, targets, Head()).sum(), [hidden, weight])
        for tensor, gradient, wants_gradient in zip(both, expected, wanted, strict=True):
            assert (tensor.grad is not None) == wants_gradient
            if wants_gradient:
                torch.testing.assert_close(tensor.grad, gradient)


def test_an_unlikely_token_keeps_its_digits() -> None:
    # In float32 a probability of e^-200 is 0 and its logarithm -inf.
    weight = torch.tensor([[200.0], [0.0], [-40.0]])
    hidden = torch.ones(3, 1, requires_grad=True)
    got = log_probability(hidden, weight, None, torch.tensor([0, 1, 2]), Head(), keep=0)
    assert got.tolist() == [0.0, -200.0, -240.0]
    got.sum().backward()
    assert hidden.grad is not None
    assert hidden.grad.flatten().tolist() == [0.0, -200.0, -240.0]


def test_half_precision_gives_float32_sums() -> None:
    inputs = tensors(300, 97, bias=False, dtype=torch.bfloat16)
    targets = torch.randint(0, 97, (300,))
    got = log_probability(*inputs, targets, Head(), keep=2**20)
    assert got.dtype == torch.float32
    logits = inputs[0].detach() @ inputs[1].detach().t()  # a bf16 product
    exact = logits.double().log_softmax(-1)[torch.arange(300), targets]
    torch.testing.assert_close(got.double(), exact, rtol=0, atol=1e-5)


def test_under_autocast_gradients_reach_the_fp32_weights() -> None:
    hidden, weight, _ = tensors(50, 97, bias=False, dtype=torch.float32)
    targets = torch.randint(0, 97, (50,))
    with torch.autocast("cpu", torch.bfloat16):
        got = log_probability(hidden, weight, None, targets, Head(), keep=50 * 97 * 2, chunk=7)
    assert got.dtype == torch.float32
    exact = plain(hidden, weight, None, targets, Head())
    torch.testing.assert_close(got, exact, rtol=0.02, atol=0.1)
    ours, theirs = (torch.autograd.grad(tensor.sum(), [hidden, weight]) for tensor in (got, exact))
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == torch.float32
        assert (a - b).norm() < 0.01 * b.norm()


def test_logits_never_exist_at_once() -> None:
    n, vocabulary, chunk = 512, 4096, 32
    hidden, weight, _ = tensors(n, vocabulary, bias=False, dtype=torch.float32)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as seen:
        log_probability(
            hidden, weight, None, torch.zeros(n, dtype=torch.long), Head(), keep=0, chunk=chunk
        ).sum().backward()
    allocated = max(event.self_cpu_memory_usage for event in seen.events())
    assert allocated <= chunk * vocabulary * 4 + 2**12


@pytest.mark.parametrize(
    ("config", "head"),
    [
        ({}, Head()),
        ({"final_logit_softcapping": 30.0}, Head(softcap=30.0)),
        ({"logits_scaling": 8.0}, Head(scale=0.125)),
        ({"logit_scale": 0.0625}, Head(scale=0.0625)),
        ({"final_logit_softcapping": None, "logits_scaling": None}, Head()),
    ],
)
def test_constants_of_the_head(config: dict[str, Any], head: Head) -> None:
    text = SimpleNamespace(**config)
    assert describe_head(SimpleNamespace(get_text_config=lambda: text)) == head
