"""Chooses how much goes through the model at once on a device, by measuring what a forward and backward pass take.

The loss of a step is a sum over its pairs, so the cut into forward passes changes rounding alone, and activations that
are computed again are the same ones. The choice is in the training's log: a resumed training finds it there.
"""

from __future__ import annotations

import functools
import gc
import logging
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from mpo_core.contract.errors import BadInputError, quantity
from mpo_core.contract.training import TrainingMethod
from mpo_core.models.memory import unless_out_of_memory
from mpo_core.training.checkpoints import random_states, set_random_states
from mpo_core.training.collator import PairRow
from mpo_core.training.forward import inner
from mpo_core.training.plan import Forward, by_tokens

ON_CPU = 1024  # tokens of a forward pass: there a small one costs little time and saves memory (docs/speed.md)
ON_DEVICE = 4096  # a device idles in smaller ones; then its time is better spent on computing activations again
UNMEASURED = 2048  # tokens of an auxiliary loss's forward pass where no size was measured; a longer item has its own
_TRIALS = 8
_CLOSE = 1.1  # a pass that could grow by less than this factor is large enough
_TOKENS, _PAIRS, _LAYERS = "forward/tokens", "forward/pairs", "forward/recomputed_layers"  # in the training's log

_log = logging.getLogger(__name__)
S = TypeVar("S", bound="Cut")
R = TypeVar("R")


class Cut(Protocol):
    """An optimiser step, cut into forward passes."""

    @property
    def forwards(self) -> list[Forward]:
        """The passes."""


class State(Protocol):
    """How far a training is."""

    global_step: int
    log_history: list[dict[str, float]]


class Memory(Protocol):
    """The memory of a device, in bytes."""

    total: int

    def free(self) -> int:
        """Returns how much this process can still allocate."""

    def peak(self, run: Callable[[], int]) -> tuple[int, int] | None:
        """Returns what `run` returned, and the bytes it took beside those in use; None if there were not so many."""


class CudaMemory:
    """The memory of a CUDA device, measured by the statistics of torch's allocator."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.total = torch.cuda.mem_get_info(device)[1]

    def free(self) -> int:
        """Returns what no process has reserved, and what this one has reserved and does not use."""
        unused = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        return int(torch.cuda.mem_get_info(self._device)[0] + unused)

    def peak(self, run: Callable[[], int]) -> tuple[int, int] | None:
        """Runs it on an allocator without old blocks."""
        gc.collect()
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        result = unless_out_of_memory(run)
        return None if result is None else (result, torch.cuda.max_memory_allocated(self._device) - before)


class Size(NamedTuple):
    """How much goes through the model at once."""

    tokens: int
    """Maximum number of tokens in a packed forward pass; a longer pair has a pass of its own."""
    recomputed: int
    """Number of layers, from the first, whose activations are computed again in backward."""


Trial = Callable[[int, int], tuple[int, int] | None]
"""Measures a pass of at most so many tokens and with so many layers computed again: its tokens and bytes."""


def largest(trial: Trial, counts: list[int], *, room: int, longest: int, enough: int, most: int) -> Size | None:
    """Finds the fewest layers to compute again with which `enough` tokens fit, and then the most tokens that fit.

    Args:
        trial: measures a pass; None where the memory ran out.
        counts: how many layers may be computed again, in rising order.
        room: bytes that a pass may take.
        longest: tokens of the longest pair, which has to fit.
        enough: tokens of a pass that need not be larger.
        most: tokens of the largest possible pass.

    Returns:
        None if not even the longest pair fits.
    """

    @functools.cache
    def fits(tokens: int, recomputed: int) -> tuple[int, int] | None:
        taken = trial(tokens, recomputed)
        return taken if taken is not None and taken[1] <= room else None

    low, high = -1, len(counts) - 1  # the answer's place is above `low`, and at most `high`
    middle = 0  # most models fit as they are
    while high - low > 1:
        low, high = (low, middle) if fits(enough, counts[middle]) else (middle, high)
        middle = (low + high) // 2
    recomputed, wanted = counts[high], enough
    best, too_many = 0, most + 1
    points: list[tuple[int, int]] = []
    for _ in range(_TRIALS):
        taken = fits(wanted, recomputed)
        if taken is None:
            if wanted <= longest:
                return None
            too_many, wanted = wanted, max(longest, (best + wanted) // 2)
        elif wanted >= most:
            return Size(most, recomputed)
        else:
            best = taken[0]
            points.append(taken)
            wanted = min(_expected(points, room), most, too_many - 1)
        if wanted < _CLOSE * best:
            break
    return Size(best, recomputed) if best else None


def _expected(points: list[tuple[int, int]], room: int) -> int:
    """Returns the tokens that should fit, by a line through the last two measurements."""
    tokens, taken = points[-1]
    if len(points) == 1 or points[-2][0] >= tokens or points[-2][1] >= taken:
        return 2 * tokens
    return int(tokens + (room - taken) * (tokens - points[-2][0]) / (taken - points[-2][1]))


class ForwardSize:
    """The size of a training's forward passes: by the settings, or measured before the first step on a device.

    Several processes have the size of the settings, whatever memory there is: a pass that needs too much of it in one
    of them would leave the others waiting for its gradients, and FSDP runs no pass without the others.

    Args:
        settings: of the training.
        device: where the model computes.
        packed: whether the layout is packed. A padded pass has as many pairs as the settings say.
    """

    def __init__(self, settings: TrainingMethod, device: torch.device, *, packed: bool) -> None:
        self._settings, self._device, self._packed = settings, device, packed
        # Pads count in the states of `padded_mean`, so a pass of it cannot be divided.
        self._adapts = settings.processes == 1 and (packed or settings.pooling != "padded_mean")
        self.tokens = settings.tokens_per_forward or (ON_CPU if device.type == "cpu" else ON_DEVICE)
        self.pairs = settings.batch_size
        self._recomputed = 0
        self._is_measured: bool | None = None  # None before the first step
        self.measured: int | None = None
        """Tokens of an auxiliary loss's forward pass, once they were measured or lowered."""
        measures = device.type == "cuda" and packed and settings.processes == 1
        self.memory: Memory | None = CudaMemory(device) if measures else None
        """What the size is chosen by; None where it is not chosen."""

    def choose(
        self,
        model: Any,
        rows: list[PairRow],
        state: State,
        attempt: Callable[[list[PairRow], Forward], Any],
    ) -> bool:
        """Chooses the size before the first step, by the log or by measuring; says whether it has done so just now.

        Args:
            model: the policy, on its device.
            rows: of the whole training.
            state: of the training.
            attempt: adds up the gradients of one pass of a step of these rows.

        Raises:
            BadInputError: the memory is too small for the longest pair.
        """
        if self._is_measured is not None:
            return False
        # Without a loss on answers, a pass to measure would be empty, and its memory say nothing.
        memory = self.memory if self._settings.needs_answers else None
        self._is_measured = memory is not None
        noted = next((line for line in reversed(state.log_history) if _LAYERS in line), None)
        if noted is not None and self._adapts:  # a resumed training keeps its passes, which rounding depends on
            self.pairs = min(self.pairs, int(noted.get(_PAIRS, self.pairs)))
            tokens = int(noted.get(_TOKENS, self.tokens))
            most = self._settings.tokens_per_forward or (tokens if self._is_measured else self.tokens)
            self._set(model, Size(min(tokens, most), max(int(noted[_LAYERS]), self._counts(model)[0])))
        elif memory is not None:
            self._set(model, self._measured(model, rows, memory, attempt, has_moments=state.global_step > 0))
            self._note(state)
        else:
            return False
        return True

    def _measured(
        self,
        model: Any,
        rows: list[PairRow],
        memory: Memory,
        attempt: Callable[[list[PairRow], Forward], Any],
        *,
        has_moments: bool,
    ) -> Size:
        settings = self._settings
        step = sorted(rows, key=lambda row: -sum(map(len, row.target)))[: settings.step_rows]
        sources = settings.retention_weight > 0
        lengths = [forward.tokens for forward in by_tokens(step, 1, sources=sources)]
        most = max(lengths[0], min(sum(lengths), settings.tokens_per_forward or sum(lengths)))
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        counts = self._counts(model)
        moments = 0 if has_moments else 2 * sum(weight.nbytes for weight in trained)

        def trial(tokens: int, recomputed: int) -> tuple[int, int] | None:
            forward = by_tokens(step, tokens, sources=sources)[0]
            recompute(model, recomputed)

            def run() -> int:
                attempt(step, forward)
                return forward.tokens

            return memory.peak(run)

        def largest_with(enough: int) -> Size | None:
            room = memory.free() - moments - int((1 - settings.memory_share) * memory.total)
            return largest(trial, counts, room=room, longest=lengths[0], enough=enough, most=most)

        with torch.random.fork_rng([self._device] if self._device.type == "cuda" else []):
            size = None
            if settings.updates_in_backward:  # where a step is one pass, its gradients never exist all at once
                hooks = [weight.register_post_accumulate_grad_hook(_forget_gradient) for weight in trained]
                size = largest_with(most)
                for hook in hooks:
                    hook.remove()
            if size is None or (settings.updates_in_backward and size.tokens < most):
                trial(lengths[0], counts[-1])  # leaves its gradients, to which all later passes add
                size = largest_with(min(most, max(lengths[0], settings.tokens_per_forward or ON_DEVICE)))
        model.zero_grad()
        if size is None:
            raise self._too_small(lengths[0])
        return size._replace(tokens=min(size.tokens, settings.tokens_per_forward or size.tokens))

    def _counts(self, model: Any) -> list[int]:
        """Returns how many layers may be computed again, in rising order."""
        layers = len(checkpointed_layers(model))
        if self._settings.gradient_checkpointing == "auto":
            return list(range(layers + 1))
        return [layers if self._settings.gradient_checkpointing else 0]

    def until_it_fits(self, model: Any, step: S, run: Callable[[S], R], *, cut: Callable[[], S], state: State) -> R:
        """Runs a step or a part of it; where memory runs out, from its beginning again in smaller forward passes.

        Args:
            model: the policy.
            step: an optimiser step.
            run: computes with the step.
            cut: cuts it anew.
            state: of the training.

        Returns:
            What `run` has returned.

        Raises:
            BadInputError: the memory is too small for a single pair.
        """
        while True:
            random = random_states()
            result = unless_out_of_memory(functools.partial(run, step))
            if result is not None:
                return result
            # What backward has updated cannot be run again, and other processes would wait for this one.
            if not self._adapts or self._settings.updates_in_backward:
                raise self._ran_out(model, step.forwards, state)
            set_random_states(random)
            model.zero_grad()
            self._shrink(model, step.forwards)
            self._note(state)
            step = cut()

    def _shrink(self, model: Any, forwards: list[Forward]) -> None:
        """Halves the largest pass of several pairs; where there is none, lets all layers be computed again."""
        several = [forward for forward in forwards if forward.pairs > 1]
        counts = self._counts(model)
        recomputed = max(self._recomputed, counts[0])
        if several:
            self.pairs = max(forward.pairs for forward in several) // 2
            tokens = max(forward.tokens for forward in several) // 2
            self._set(model, Size(min(self.tokens, tokens), recomputed))
            most = quantity(self.tokens, "token") if self._packed else quantity(self.pairs, "pair")
            _log.warning("memory ran out; from here on forward passes have at most %s", most)
        elif recomputed < counts[-1]:
            self._set(model, Size(self.tokens, counts[-1]))
            _log.warning("memory ran out; from here on all layers compute their activations again in backward")
        else:
            raise self._too_small(max(forward.tokens for forward in forwards))

    def _set(self, model: Any, size: Size) -> None:
        self.tokens, self._recomputed = size
        self.measured = self.tokens if self._is_measured else min(self.tokens, UNMEASURED)
        recompute(model, size.recomputed)

    def _note(self, state: State) -> None:
        step = state.global_step + 1
        log = state.log_history
        if log and _LAYERS in log[-1] and log[-1]["step"] == step:
            log.pop()
        pairs = {} if self._packed else {_PAIRS: self.pairs}
        log.append({"step": step, **pairs, _TOKENS: self.tokens, _LAYERS: self._recomputed})

    def _ran_out(self, model: Any, forwards: list[Forward], state: State) -> BadInputError:
        largest_pass = max(forwards, key=lambda forward: forward.tokens)
        smaller = "training.tokens_per_forward" if self._packed else "training.batch_size"
        ways = [f"lower {smaller}"] if largest_pass.pairs > 1 else self._ways_for_a_pair()
        stores = self._settings.gradient_checkpointing is not True and self._recomputed < len(
            checkpointed_layers(model)
        )
        if stores:
            ways.insert(0, "set training.gradient_checkpointing to true")
        return BadInputError(
            f"memory ran out in forward and backward passes of up to {quantity(largest_pass.tokens, 'token')}",
            where=f"training, step {state.global_step + 1}",
            fix=_sentence(ways),
        )

    def _ways_for_a_pair(self) -> list[str]:
        """Returns what makes a pass over a single pair need less memory."""
        ways = ["lower training.cutoff"]
        if self._settings.lora is None:
            ways.append("train adapters (training.lora)")
            if self._settings.memory != "lean" and self._settings.processes == 1:
                ways.append("set training.memory to lean")
        return ways

    def _too_small(self, tokens: int) -> BadInputError:
        return BadInputError(
            f"a forward and backward pass over the {quantity(tokens, 'token')} of one pair needs more memory than the "
            "device has free",
            where="training",
            fix=_sentence(self._ways_for_a_pair()),
        )


def recompute(model: Any, count: int) -> None:
    """Lets the first layers of a model compute their activations again in backward, and the others store them."""
    layers = checkpointed_layers(model)
    if count and not inner(model).is_activation_checkpointing:
        inner(model).activation_checkpointing_enable({"use_reentrant": False})
    for number, layer in enumerate(layers):
        layer.gradient_checkpointing = number < count


def recomputes(model: Any) -> bool:
    """Says whether any layer of a model computes its activations again in backward."""
    return any(layer.gradient_checkpointing for layer in checkpointed_layers(model))


def checkpointed_layers(model: Any) -> list[GradientCheckpointingLayer]:
    """Returns the layers of a model that can compute their activations again: those that it repeats."""
    return [module for module in inner(model).modules() if isinstance(module, GradientCheckpointingLayer)]


def _forget_gradient(weight: Tensor) -> None:
    weight.grad = None


def _sentence(ways: list[str]) -> str:
    joined = ", or ".join(ways)
    return f"{joined[0].upper()}{joined[1:]}."
