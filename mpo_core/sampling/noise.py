"""Samples tokens in a way that does not depend on the batch.

`torch.Generator` gives one stream per batch, so a prompt's answer would change with the rest of its batch. Here the
noise is a hash of (seed of the sample, step, token id): a sample gets the same noise in every batch and on every
device. The argmax of log-probability plus Gumbel noise is an exact sample of the distribution.

Legend: B rows, V vocabulary.
"""

import time
from collections.abc import Callable

import torch
from transformers import LogitsProcessor

_GOLDEN = 0x9E3779B97F4A7C15  # increments and multipliers of SplitMix64 (Steele et al., 2014)
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


class GumbelNoise(LogitsProcessor):
    """Adds Gumbel noise to the scores of each row, from the row's own seed, so that the argmax is a sample.

    Args:
        seeds: one 63-bit seed per row of the batch.
        prompt_length: width of the padded prompts in tokens; each token after it is one step.
    """

    def __init__(self, seeds: list[int], prompt_length: int) -> None:
        self._seeds = torch.tensor(seeds, dtype=torch.int64)
        self._prompt_length = prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Returns the scores [B, V] plus noise [B, V]."""
        step = input_ids.shape[1] - self._prompt_length
        tokens = torch.arange(scores.shape[-1], device=scores.device)
        row = _mix(self._seeds.to(scores.device) + _signed((step + 1) * _GOLDEN % (1 << 64)))
        bits = _mix(row[:, None] + (tokens[None, :] + 1) * _signed(_GOLDEN))
        # The upper 53 bits, at the middle of their bin: never 0, never 1 (float64 holds them exactly).
        uniform = (_shift(bits, 11).double() + 0.5) * 2.0**-53
        noise: torch.Tensor = scores.double() - (-uniform.log()).log()
        return noise


class NaNCheck(LogitsProcessor):
    """Checks whether any score of a generation was NaN, which would give an answer that looks like any other.

    The result stays on the device until `failed` is called, so that no step waits for it.
    """

    def __init__(self) -> None:
        self._any_nan: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # noqa: ARG002 - the interface
        """Returns the scores [B, V] as they are."""
        here = torch.isnan(scores).any()
        self._any_nan = here if self._any_nan is None else self._any_nan | here
        return scores

    def failed(self) -> bool:
        """Returns whether any score so far was NaN."""
        return self._any_nan is not None and bool(self._any_nan)


class Heartbeat(LogitsProcessor):
    """Calls a function once a second with the number of tokens so far; if it raises, the generation ends."""

    def __init__(self, beat: Callable[[int], None], prompt_length: int) -> None:
        self._beat, self._prompt_length, self._last = beat, prompt_length, time.monotonic()

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Returns the scores [B, V] as they are."""
        if time.monotonic() - self._last >= 1.0:
            self._beat(input_ids.shape[1] - self._prompt_length)
            self._last = time.monotonic()
        return scores


def _mix(x: torch.Tensor) -> torch.Tensor:
    """Scrambles 64-bit numbers with the last step of SplitMix64, with the same result on every device."""
    x = (x ^ _shift(x, 30)) * _signed(_MIX_1)
    x = (x ^ _shift(x, 27)) * _signed(_MIX_2)
    return x ^ _shift(x, 31)


def _shift(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Shifts bits to the right and fills up with zeros, where torch would fill up with the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    """Converts an unsigned 64-bit number to the int64 of the same bits, as torch takes it."""
    return value - (1 << 64) if value >= 1 << 63 else value
