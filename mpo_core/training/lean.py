"""Full fine-tuning in little memory: weights in two halves, moments in bfloat16, steps that are taken in backward.

A float32 weight is 32 bits. `split` keeps the upper 16, rounded, as the bfloat16 weight that computes, and the lower 16
as a buffer beside it. Both together are the exact float32 weight: an update of any size counts, and checkpoints hold
it. Kahan compensation in bfloat16 takes as many bytes and loses digits; stochastic rounding of the weights takes 2
bytes less, but at a learning rate of 6e-7 its noise is many times the update (`python benchmarks/lean.py`).

The optimiser is our own: those of torchao and bitsandbytes know no split weights, and torchao's need a compiler.
Moments of 8 bits would take 2 bytes less, and cost more of the update's direction (measured there, too).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_LOW = "_low_bits"  # added to a weight's name, it is the name of the buffer with its lower half
_PART = 2**24  # elements of a weight that are updated together; what is float32 meanwhile takes 0.4 GB


def split(model: Any) -> None:
    """Splits all matrices of a float32 model into halves; vectors, which weigh next to nothing, stay as they are.

    The hidden states stay in float32, as they are under autocast with float32 weights.
    """
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if weight.dim() > 1 and weight.dtype == torch.float32:  # a tied one is split where it comes first
                whole = weight.detach().contiguous()
                weight.low_bits = torch.empty_like(whole, dtype=torch.int16)
                weight.data = torch.empty_like(whole, dtype=torch.bfloat16)
                write_halves(whole, weight.data, weight.low_bits)
                module.register_buffer(name + _LOW, weight.low_bits)
    model.get_input_embeddings().register_forward_hook(lambda _module, _inputs, out: out.float())


def join(model: Any) -> None:
    """Makes a split model one of float32 weights again, one weight after the other; another model stays as it is."""
    for module in model.modules():
        for name in [name for name, _ in module.named_buffers(recurse=False) if name.endswith(_LOW)]:
            weight, low = getattr(module, name.removesuffix(_LOW)), module._buffers.pop(name)  # noqa: SLF001
            weight.data = read_halves(weight.data, low)
            del weight.low_bits


def read_halves(high: Tensor, low: Tensor) -> Tensor:
    """Returns the float32 weights of two halves."""
    return ((high.view(torch.int16).int() << 16) + low).view(torch.float32)


def write_halves(whole: Tensor, high: Tensor, low: Tensor) -> None:
    """Writes float32 weights into their halves: the nearest bfloat16, and what is missing to the float32's bits."""
    bits = whole.view(torch.int32)
    upper = (bits + 2**15) >> 16
    high.view(torch.int16).copy_(upper)
    low.copy_(bits - (upper << 16))


class LeanAdamW(torch.optim.Optimizer):
    """AdamW on split weights, with both moments in the number format of the weight.

    A second moment changes by a thousandth a step, which rounding to bfloat16 would undo; so it is rounded up or down
    at random. These random numbers follow from seed, step and parameter, so a resumed training draws the same ones.

    Args:
        params: groups of weights, as in torch.
        lr: learning rate.
        betas: decay of the first and second moment in a step.
        eps: added to the root of the second moment.
        seed: of the rounding.
    """

    def __init__(self, params: Any, *, lr: float, betas: tuple[float, float], eps: float, seed: int) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})
        self._seed = seed
        self.in_backward = False
        self.norms: list[Tensor] = []
        for number, (weight, _) in enumerate(self._weights()):
            weight.register_post_accumulate_grad_hook(lambda weight, number=number: self._on_gradient(weight, number))

    def _weights(self) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        return ((weight, group) for group in self.param_groups for weight in group["params"])

    def _on_gradient(self, weight: Tensor, number: int) -> None:
        if self.in_backward:
            group = next(group for other, group in self._weights() if other is weight)
            self.norms.append(_norm(weight))
            self._update(weight, number, group)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Updates every weight that still has a gradient, and frees the gradient."""
        del closure  # torch's; transformers gives none
        for number, (weight, group) in enumerate(self._weights()):
            if weight.grad is not None:
                self._update(weight, number, group)

    @torch.no_grad()
    def _update(self, weight: Tensor, number: int, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state |= {"step": 0, "mean": torch.zeros_like(weight), "square": torch.zeros_like(weight)}
        state["step"] += 1
        random = torch.Generator(weight.device).manual_seed(
            ((self._seed * 2**20 + state["step"]) * 2**20 + number) % 2**63
        )
        tensors = [weight.detach(), _gradient(weight), state["mean"], state["square"]]
        tensors += [weight.low_bits] if hasattr(weight, "low_bits") else []
        weight.grad = None
        for parts in zip(*(tensor.view(-1).split(_PART) for tensor in tensors), strict=True):
            _adamw(*parts, step=state["step"], random=random, **group)


@contextlib.contextmanager
def updating_in_backward(optimizer: Any, *, on: bool) -> Iterator[None]:
    """Lets a backward pass update each weight, and free its gradient, as soon as that gradient is complete.

    Args:
        optimizer: accelerate's wrapper of a `LeanAdamW`, or of any other if not `on`.
        on: whether it does so.
    """
    if not on:
        yield
        return
    lean: LeanAdamW = optimizer.optimizer
    lean.in_backward = True
    try:
        yield
    finally:
        lean.in_backward = False


def norm_of_step(optimizer: Any, model: Any) -> Tensor:
    """Returns the norm of a step's gradient: of the weights that backward has updated, and of those still to update."""
    lean: LeanAdamW = optimizer.optimizer
    norms = lean.norms + [_norm(weight) for weight in model.parameters() if weight.grad is not None]
    lean.norms = []
    total: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return total


def _norm(weight: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(_gradient(weight), dtype=torch.float32)
    return norm


def _gradient(weight: Tensor) -> Tensor:
    """Returns the gradient of a weight; that of an embedding may hold the rows of the tokens that occurred alone."""
    assert weight.grad is not None  # noqa: S101 - callers looked
    return (weight.grad.to_dense() if weight.grad.is_sparse else weight.grad).contiguous()


def _adamw(
    weight: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    low: Tensor | None = None,
    *,
    step: int,
    random: torch.Generator,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    **_: Any,
) -> None:
    """Takes one step of AdamW on a part of a weight, in float32."""
    wide = gradient.float()
    mean_wide = mean.float().lerp_(wide, 1 - betas[0])
    square_wide = square.float().mul_(betas[1]).addcmul_(wide, wide, value=1 - betas[1])
    whole = weight if low is None else read_halves(weight, low)
    denominator = (square_wide.sqrt() / math.sqrt(1 - betas[1] ** step)).add_(eps)
    whole.mul_(1 - lr * weight_decay).addcdiv_(mean_wide, denominator, value=-lr / (1 - betas[0] ** step))
    if low is not None:
        mean.copy_(mean_wide)
        round_at_random(square_wide, square, random)
        write_halves(whole, weight, low)


def round_at_random(wide: Tensor, narrow: Tensor, random: torch.Generator) -> None:
    """Writes float32 numbers as bfloat16 ones, each up or down so that the mean of many roundings is the number."""
    noise = torch.randint(2**16, wide.shape, dtype=torch.int32, device=wide.device, generator=random)
    narrow.view(torch.int16).copy_((wide.view(torch.int32) + noise) >> 16)
