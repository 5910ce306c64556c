"""Compiles the layers of a model: what lies between their matrix products becomes a few kernels.

It goes by no model's name, as liger-kernel's replacements do: whatever norms, rotations and activations a layer has,
torch's compiler fuses them, with their backward. Layers of one class share what is compiled, for any length.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from torch import Tensor

from mpo_core.contract.errors import BadInputError
from mpo_core.training.attention import packed_attention
from mpo_core.training.forward import inner
from mpo_core.training.forward_size import checkpointed_layers

_ATTENTION = "mpo_packed_between_compiled"


class _Segments:
    """The segments of a packed row, which the compiler does not look into: it would compile anew for each row."""

    def __init__(self, segments: Any) -> None:
        self.segments = segments


def _attend(*states: Any, segments: _Segments, **options: Any) -> tuple[Tensor, None]:
    return packed_attention(*states, segments=segments.segments, **options)


def compile_layers(model: Any, *, packed: bool, backend: str | Callable[..., Any] = "inductor") -> None:
    """Lets the layers of a model compute with compiled code; names of weights stay, and so do hooks of FSDP.

    Packed attention is left as it is, a call between two compiled parts. Activations that are computed again in
    backward are computed by the same code.

    Args:
        model: a causal language model to which `forward.attach` has been applied.
        packed: layouts are packed.
        backend: of torch.compile.

    Raises:
        BadInputError: the model has no layers of the kind that repeats, or no compiler is installed.
    """
    layers = checkpointed_layers(model)
    if not layers:
        raise BadInputError(
            f"{type(inner(model)).__name__} has no repeated layers that could be compiled",
            where="training.compile_layers",
            fix="Set it to false.",
        )
    if backend == "inductor":
        _require_compiler(next(model.parameters()).device)
    if packed:
        from transformers import AttentionInterface

        AttentionInterface.register(_ATTENTION, torch.compiler.disable(_attend))
        inner(model).set_attn_implementation(_ATTENTION)
    compiled = functools.cache(functools.partial(torch.compile, dynamic=True, backend=backend))
    for layer in layers:
        of_class: Any = type(layer).forward
        # Below what transformers adds to compute activations again.
        layer.forward = MethodType(functools.partial(_forward, run=compiled(of_class.__wrapped__)), layer)


def _forward(layer: Any, *args: Any, run: Callable[..., Any], **options: Any) -> Any:
    if "segments" in options:
        options["segments"] = _Segments(options["segments"])
    if layer.gradient_checkpointing and layer.training:
        return layer._gradient_checkpointing_func(functools.partial(run, layer, **options), *args)  # noqa: SLF001
    return run(layer, *args, **options)


def _require_compiler(device: torch.device) -> None:
    """Requires what torch's compiler needs: a C++ compiler, and on a device Triton."""
    missing = [] if any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))) else ["g++"]
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        missing.append("triton")
    if missing:
        raise BadInputError(
            f"torch compiles with {' and '.join(missing)}, which this machine does not have",
            where="training.compile_layers",
            fix=f"Install {' and '.join(missing)}, or set training.compile_layers to false.",
        )
