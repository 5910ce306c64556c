"""Moves many small tensors to a device at once: each copy of its own would cost more than what it carries."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def move(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Returns tensors on another device: one copy for each number format, from pinned memory, which nothing waits for.

    Args:
        tensors: on the CPU, or there already.
        device: where they go.
    """
    if all(tensor.device.type == device.type for tensor in tensors):
        return list(tensors)
    return join_and_move(tensors, device)


def join_and_move(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Moves tensors as `move` does, whatever the device."""
    parts = {}
    for dtype in {tensor.dtype for tensor in tensors}:
        alike = [tensor.flatten() for tensor in tensors if tensor.dtype == dtype]
        joined = torch.cat(alike)
        joined = joined.pin_memory() if device.type == "cuda" else joined
        parts[dtype] = iter(joined.to(device, non_blocking=True).split([len(tensor) for tensor in alike]))
    return [next(parts[tensor.dtype]).view(tensor.shape) for tensor in tensors]
