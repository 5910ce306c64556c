"""Computes in batches that fit into memory: where it runs out, a batch and all later ones are halved until they fit."""

import functools
import gc
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from mpo_core.contract.errors import BadInputError

T = TypeVar("T")
R = TypeVar("R")


def halving(
    batches: Sequence[list[T]],
    compute: Callable[[list[T]], R],
    *,
    tokens: Callable[[T], int],
    too_small: Callable[[T], BadInputError],
) -> Iterator[tuple[list[T], R]]:
    """Computes batch by batch; where memory runs out, that batch and all later ones are halved until they fit.

    The longest row of a batch comes first; `tokens` counts those of a row, with padding and answer. Returns the
    batches that were computed, each with its result.

    Raises:
        BadInputError: the memory is too small for one row.
    """
    waiting, limit = deque(batches), None
    while waiting:
        batch = waiting.popleft()
        size = len(batch) * tokens(batch[0])
        if len(batch) == 1 or limit is None or size <= limit:
            result = unless_out_of_memory(functools.partial(compute, batch))
            if result is not None:
                yield batch, result
                continue
            limit = size // 2
        if len(batch) == 1:
            raise too_small(batch[0])
        half = (len(batch) + 1) // 2
        waiting.extendleft([batch[half:], batch[:half]])


def is_out_of_memory(error: Exception) -> bool:
    """Returns whether an error says that the memory is too small."""
    import torch
    from accelerate.utils.memory import should_reduce_batch_size

    return isinstance(error, torch.OutOfMemoryError) or bool(should_reduce_batch_size(error))


def unless_out_of_memory(compute: Callable[[], R]) -> R | None:
    """Returns what a function returns, or None, and frees what it left, if the memory is too small for it."""
    import torch

    try:
        return compute()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    gc.collect()  # the traceback held its tensors
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None
