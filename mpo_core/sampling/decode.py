"""Generates tokens for a batch of prompts, with keys and values in memory that is allocated once for all batches.

At every step transformers' own loop copies all keys and values, and computes rows that have ended, until the last one
ends; and it pads all prompts to the longest. Here a step writes in place, rows that have ended leave the batch, and
prompts are read in groups of similar length. With `coarse` sizes are rounded up to a few, so that on a GPU a step of
each size is recorded as a CUDA graph and replayed: one by one, its kernels take longer to launch than to run.

Legend: B rows, H heads, S slots (room of a row, in tokens), T tokens, D width of a head, V vocabulary.
"""

import functools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from mpo_core.models.memory import is_out_of_memory

_log = logging.getLogger(__name__)

_TOGETHER_ON_GPU, _TOGETHER_ON_CPU = 8192, 1024
"""Tokens of prompts that are read together, padding included."""
_SLOTS = 128
"""Fewest slots with `coarse`, and the fewest that attention reads."""
_SLOTS_READ = 16
"""Without `coarse` attention reads a multiple of so many slots."""
_TOLERANCE = 0.05
"""How far scores may lie from those that they should equal, as a share of the scores' range."""

_MISFITS = (TypeError, ValueError, AttributeError, LookupError, RuntimeError, AssertionError)
"""What the code of a model raises at a cache that it does not know."""

Prompts = Sequence[tuple[int, ...]]
"""The tokens of each prompt."""
Pick = Callable[[int, torch.Tensor], torch.Tensor]
"""Picks the next token of each row: takes the number of the step and the scores [B, V], returns tokens [B]."""


class Shape(NamedTuple):
    """The sizes of a step: its rows, the slots of a row, and how many of them attention reads."""

    rows: int
    slots: int
    read: int


class _Place:
    """Says where all layers write, and what attention reads."""

    def __init__(self, device: torch.device, tokens: int) -> None:
        self.tokens = tokens
        """Rows x slots for which there is memory."""
        self.shape = Shape(0, 0, 0)
        self.slot = torch.zeros(1, dtype=torch.long, device=device)
        """The slot of the next token. A tensor, since a CUDA graph reads it anew at each replay."""
        self.group: slice | None = None
        """While prompts are read: their rows. They take the slots before `end`."""
        self.copies: torch.Tensor | None = None
        """While prompts are read: which of the prompts stands in each row of the group."""
        self.end = 0


class _Layer(CacheLayerMixin):
    """Keys and values of one layer, [B, H, S, D], at the beginning of memory that is allocated once."""

    def __init__(self, place: _Place) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._place = place
        self._memory: list[torch.Tensor] = []

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocates the memory. Zeros, since a slot that is masked, but NaN, would make all that reads it NaN."""
        tokens = self._place.tokens
        self._memory = [
            states.new_zeros(tokens * states.shape[1] * states.shape[3]) for states in (key_states, value_states)
        ]
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes keys and values [B, H, T, D], and returns those that attention reads."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        keys, values = self._memory
        return self._write(keys, key_states), self._write(values, value_states)

    def _write(self, memory: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        place, (_, heads, tokens, width) = self._place, states.shape
        stored = _view(memory, place.shape.rows, heads, place.shape.slots, width)
        if place.group is not None:
            stored[place.group, :, place.end - tokens : place.end] = states[place.copies]
            return states
        stored.index_copy_(2, place.slot, states)
        return stored[:, :, : place.shape.read]

    def keep_rows(self, rows: torch.Tensor) -> None:
        """Moves the keys and values of these rows to the front."""
        for memory in self._memory:
            _keep_rows(memory, self._place, rows)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Returns how many slots attention reads, and the first of them."""
        return (self._place.shape.read if self._place.group is None else query_length), 0

    def get_seq_length(self) -> Any:
        """Returns the number of tokens before those that are computed."""
        return self._place.slot[0] if self._place.group is None else 0

    def get_max_length(self) -> int:
        """Returns the number of slots."""
        return self._place.shape.slots


class Decoder:
    """Generates answers of one model, batch after batch.

    Memory is allocated for the largest of the `batches` (rows and slots) to come, or for a larger one when it comes.
    """

    def __init__(self, model: Any, batches: Sequence[tuple[int, int]], *, coarse: bool) -> None:
        self.shapes: set[Shape] = set()
        """The sizes of all steps so far."""
        self._model, self._coarse = model, coarse
        self._tokens = max((math.prod(padded(*batch, coarse=coarse)) for batch in batches), default=0)
        on_gpu = torch.device(model.device).type == "cuda"
        self._graphs: dict[Shape, tuple[Any, torch.Tensor]] | None = {} if coarse and on_gpu else None
        self._most_rows = max((padded(*batch, coarse=coarse)[0] for batch in batches), default=0)
        self._allocate(0)

    def _allocate(self, tokens: int) -> None:
        """Frees the memory and the graphs that use it, and makes room for so many tokens."""
        self._place = place = _Place(torch.device(self._model.device), tokens)
        self._layers: list[_Layer] = []

        def add_layer() -> _Layer:
            self._layers.append(_Layer(place))
            return self._layers[-1]

        self._cache = Cache(layer_class_to_replicate=cast("type[_Layer]", add_layer))
        self._ids, self._positions, self._mask = place.slot.new_zeros(3, tokens)
        self._shared_scores = torch.empty(0)
        if self._graphs is not None:
            self._graphs = {}

    @torch.inference_mode()
    def answer(
        self,
        prompts: Prompts,
        new_tokens: int,
        ends: Sequence[int],
        pick: Callable[[list[int]], Pick],
    ) -> list[list[int]]:
        """Returns the tokens that follow each prompt; those behind an end token have no meaning.

        Args:
            prompts: tokens of each prompt, the longest first.
            new_tokens: maximum number of tokens that follow.
            ends: tokens that end an answer.
            pick: makes the function that picks the next tokens of these rows. It is called again when rows have left.
        """
        try:
            with torch.cuda.device_of(self._ids):
                return self._answer(prompts, new_tokens, torch.tensor(ends, device=self._ids.device), pick)
        except RuntimeError as error:
            if is_out_of_memory(error):  # the next batch is smaller
                self._tokens = 0
                self._allocate(0)
            raise

    def _answer(
        self, prompts: Prompts, new_tokens: int, ends: torch.Tensor, pick: Callable[[list[int]], Pick]
    ) -> list[list[int]]:
        width = len(prompts[0])
        rows, slots = padded(len(prompts), width + new_tokens, coarse=self._coarse)
        if rows * slots > self._place.tokens:
            self._allocate(max(rows * slots, self._tokens))
        self._place.shape = Shape(rows, slots, 0)
        scores = self._read(prompts)
        answers = ends[:1].repeat(len(prompts), new_tokens)
        left = torch.arange(len(prompts), device=ends.device)
        ended = torch.zeros_like(left, dtype=torch.bool)
        next_tokens = pick(left.tolist())
        for step in range(new_tokens):
            tokens = next_tokens(step, scores)
            answers[left, step] = tokens
            ended |= torch.isin(tokens, ends)
            going = len(left) - int(ended.sum())
            if going == 0 or step + 1 == new_tokens:
                break
            if going <= len(left) * (0.5 if self._coarse else 0.8):
                still = (~ended).nonzero()[:, 0]
                self._keep_rows(still)
                left, tokens, ended = left[still], tokens[still], ended[still]
                next_tokens = pick(left.tolist())
            scores = self._step(width + step, tokens)
        lists: list[list[int]] = answers.tolist()
        return lists

    def _read(self, prompts: Prompts) -> torch.Tensor:
        """Reads the prompts into the memory; returns the scores [B, V] of the token after each."""
        place = self._place
        mask = _view(self._mask, *place.shape[:2])
        mask.zero_()
        self._positions[: place.shape.rows] = 0
        scores, place.end = [], len(prompts[0])
        together = _TOGETHER_ON_CPU if mask.device.type == "cpu" else _TOGETHER_ON_GPU
        for start, group in _groups(prompts, together):
            distinct = {tokens: number for number, tokens in enumerate(dict.fromkeys(group))}
            place.group = slice(start, start + len(group))
            place.copies = torch.tensor([distinct[tokens] for tokens in group], device=mask.device)
            length = len(group[0])
            seen = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in distinct], device=mask.device)
            ids = torch.tensor([(0,) * (length - len(row)) + row for row in distinct], device=mask.device)
            positions = (seen.cumsum(-1) - 1).clamp(min=0)
            scores.append(self._scores(ids, seen, positions)[place.copies])
            mask[place.group, place.end - length : place.end] = seen[place.copies]
            self._positions[place.group] = positions[place.copies, -1]
        place.group = place.copies = None
        return torch.cat(scores)

    def _step(self, slot: int, tokens: torch.Tensor) -> torch.Tensor:
        """Writes a token [B] to a slot of each row; returns the scores [B, V] of the one after it."""
        rows, slots, _ = self._place.shape
        shape = self._place.shape = Shape(rows, slots, min(slots, _slots_read(slot + 1, coarse=self._coarse)))
        self.shapes.add(shape)
        self._place.slot.fill_(slot)
        self._ids[: len(tokens)] = tokens
        self._positions[:rows] += 1
        _view(self._mask, rows, slots)[:, slot] = 1
        if self._graphs is None:
            scores = self._computed()
        elif shape in self._graphs:
            graph, scores = self._graphs[shape]
            graph.replay()
        else:
            scores = self._recorded(self._graphs)
        return scores[: len(tokens)]

    def _computed(self) -> torch.Tensor:
        """Computes the step that the tensors describe; returns the scores [B, V]."""
        rows, slots, read = self._place.shape
        mask = _view(self._mask, rows, slots)[:, :read]
        return self._scores(_view(self._ids, rows, 1), mask, _view(self._positions, rows, 1))

    def _scores(self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        scores: torch.Tensor = output.logits[:, -1].float()
        return scores

    def _recorded(self, graphs: dict[Shape, tuple[Any, torch.Tensor]]) -> torch.Tensor:
        """Computes a step, and records it as a CUDA graph if the graph gives the same scores; returns the scores.

        Where the model cannot be recorded, steps are computed one kernel at a time from then on.
        """
        side_stream = torch.cuda.Stream()
        side_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side_stream):  # the first call of a library cannot be recorded
            expected = self._computed()
        torch.cuda.current_stream().wait_stream(side_stream)
        if self._shared_scores.numel() < expected.numel():  # scores [B, V] of its own for each graph would add up
            rows, vocabulary = expected.shape
            self._shared_scores = expected.new_empty(max(rows, self._most_rows) * vocabulary)
        scores = _view(self._shared_scores, *expected.shape)
        graph, reason = torch.cuda.CUDAGraph(), "its scores differ"
        try:
            pool = next((other.pool() for other, _ in graphs.values()), None)
            with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                scores.copy_(self._computed())
            graph.replay()
            if _alike(scores, expected):
                graphs[self._place.shape] = graph, scores
                return scores
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0]
        _log.warning("steps of the model cannot be recorded as a CUDA graph (%s), so sampling is slower", reason)
        self._graphs = None
        return expected

    def _keep_rows(self, rows: torch.Tensor) -> None:
        """Keeps only these rows of the batch, in order."""
        self._positions[: len(rows)] = self._positions[rows]
        _keep_rows(self._mask, self._place, rows)
        for layer in self._layers:
            layer.keep_rows(rows)
        slots = self._place.shape.slots
        self._place.shape = Shape(padded(len(rows), slots, coarse=self._coarse)[0], slots, 0)


def fits(model: Any) -> bool:
    """Returns whether `Decoder` gives the scores that the model gives without it; logs a line where it does not.

    Models without a KV cache, or with one of their own kind, or without a mask do not fit.
    """
    prompts, forced = [(1, 2, 3, 4, 5), (2, 1)], (3, 2)
    scores: list[torch.Tensor] = []

    def pick(step: int, step_scores: torch.Tensor) -> torch.Tensor:
        scores.append(step_scores)
        return torch.full((len(prompts),), (*forced, 0)[step], device=step_scores.device)

    try:
        Decoder(model, [], coarse=False).answer(prompts, len(forced) + 1, [-1], lambda _: pick)
        with torch.inference_mode():
            for row, prompt in enumerate(prompts):
                ids = torch.tensor([prompt + forced], device=model.device)
                expected = model(input_ids=ids).logits[0, len(prompt) - 1 :].float()
                if not _alike(torch.stack([step_scores[row] for step_scores in scores]), expected):
                    raise ValueError("its scores differ")
    except _MISFITS as error:
        if is_out_of_memory(error):
            return True  # want of memory says nothing of the model; the batches meet it too, and deal with it
        _warn(type(model).__name__, str(error).partition("\n")[0])
        return False
    return True


@functools.lru_cache
def _warn(model: str, reason: str) -> None:
    _log.warning("%s cannot use a static KV cache (%s): transformers' own loop is used, which is slower", model, reason)


def padded(rows: int, slots: int, *, coarse: bool) -> tuple[int, int]:
    """Returns the rows and slots that a batch takes in memory."""
    return (_rounded_up(rows), _rounded_up(max(slots, _SLOTS))) if coarse else (rows, slots)


def rows_that_fit(tokens: int, slots: int, *, coarse: bool) -> int:
    """Returns the most rows of so many slots for which so many tokens of memory are enough; at least 1."""
    rows = max(1, tokens // padded(1, slots, coarse=coarse)[1])
    return rows - rows % _spacing(rows) if coarse else rows


def _slots_read(filled: int, *, coarse: bool) -> int:
    return max(_SLOTS, 1 << (filled - 1).bit_length()) if coarse else -(-filled // _SLOTS_READ) * _SLOTS_READ


def _rounded_up(number: int) -> int:
    """Rounds up to one of four sizes between two powers of two: 8, 10, 12, 14, 16, 20, ..."""
    spacing = _spacing(number)
    return -(-number // spacing) * spacing


def _spacing(number: int) -> int:
    return 1 << max(0, number.bit_length() - 3)


def _groups(prompts: Prompts, tokens: int) -> Iterator[tuple[int, Prompts]]:
    """Yields the prompts, the longest first, in groups of at most so many tokens, each with the row of its first."""
    start = 0
    while start < len(prompts):
        count = max(1, tokens // len(prompts[start]))
        yield start, prompts[start : start + count]
        start += count


def _alike(scores: torch.Tensor, expected: torch.Tensor) -> bool:
    """Returns whether scores differ by no more than rounding explains; NaN is not alike."""
    return bool((scores - expected).abs().max() <= _TOLERANCE * (expected.max() - expected.min()))


def _view(memory: torch.Tensor, *shape: int) -> torch.Tensor:
    return memory[: math.prod(shape)].view(shape)


def _keep_rows(memory: torch.Tensor, place: _Place, rows: torch.Tensor) -> None:
    """Moves rows of [B, S, ...] to the front."""
    stored = _view(memory, place.shape.rows, place.shape.slots * (memory.numel() // place.tokens))
    stored[: len(rows)] = stored[rows]
