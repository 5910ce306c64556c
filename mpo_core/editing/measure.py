"""Reads what goes into the MLP of every layer at the last token of prompts."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.progress import Progress
from mpo_core.models.batches import batches
from mpo_core.models.context import context_length

PROJECTIONS = ("gate_proj", "up_proj")


class Mlp(NamedTuple):
    """The gated MLP of a layer: its name in the model, and the module."""

    name: str
    module: Any


def gated_mlps(model: Any) -> list[Mlp]:
    """Returns the gated MLP of every layer, in order.

    Raises:
        BadInputError: the model has none.
    """
    mlps = [
        Mlp(name, module)
        for name, module in model.named_modules()
        if all(isinstance(getattr(module, part, None), torch.nn.Linear) for part in PROJECTIONS)
    ]
    if not mlps:
        raise BadInputError(
            "the model has no gated MLPs with linear layers gate_proj and up_proj, which are what is edited",
            where="edit",
            fix="Use a model such as Llama, Qwen or Gemma, or leave the edit out.",
        )
    return mlps


def mlp_inputs(model: Any, mlps: list[Mlp], prompts: list[list[int]], *, progress: Progress) -> list[Tensor]:
    """Reads the inputs of each MLP at the last token of each rendered prompt, where the answer begins.

    A prompt (token ids) that is longer than the model's context is read at its end. Each MLP's are [N, D], on the CPU
    and in the model's number format.

    Raises:
        BadInputError: a state is not finite, or an MLP does not get every token.
    """
    limit = context_length(model.config) or 0
    ids = [prompt[-limit:] for prompt in prompts]
    states = [torch.empty(0)] * len(mlps)
    done = 0
    for batch in batches(ids, model.device):
        for at, inputs in enumerate(_inputs(model, mlps, batch.inputs)):
            last = batch.last(inputs).cpu()
            if not bool(last.isfinite().all()):
                raise BadInputError(
                    "hidden states are NaN or infinite",
                    where=f"edit, {mlps[at].name}",
                    fix="Check the model with `mpo evaluate`; if its weights need a wider format, set model.dtype to "
                    "float32.",
                )
            if not done:
                states[at] = last.new_empty(len(ids), last.shape[1])
            states[at][batch.places] = last
        done += len(batch.places)
        progress(done, len(ids))
    return states


def _inputs(model: Any, mlps: list[Mlp], batch: dict[str, Tensor]) -> Iterator[Tensor]:
    """Runs a batch through the model; yields the input of each MLP, [B, T, D]."""
    seen: dict[int, Tensor] = {}
    with ExitStack() as stack, torch.inference_mode():
        for at, mlp in enumerate(mlps):
            hook = mlp.module.gate_proj.register_forward_pre_hook(lambda _, args, at=at: seen.__setitem__(at, args[0]))
            stack.callback(hook.remove)
        model.base_model(**batch, use_cache=False)
    for at in range(len(mlps)):
        if at not in seen or seen[at].shape[:2] != batch["input_ids"].shape:
            raise BadInputError(
                "an MLP does not get every token, as in a mixture of experts",
                where=f"edit, {mlps[at].name}",
                fix="Use a model whose layers have one MLP each, or leave the edit out.",
            )
        yield seen[at]
