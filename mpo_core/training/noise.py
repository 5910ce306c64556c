"""Training without the model's own noise: dropout, skipped layers, jitter of routers, noise on embeddings.

The loss compares the model with its frozen self. Noise on one side would be a difference that no training
made (the retention loss of the first step would not be 0); the MPO authors' code and TRL switch it off too. The model
therefore stays in evaluation mode while it trains. Two things must be in training mode nevertheless: the dropout of
adapters, which is the user's own setting, and layers whose activations are computed again in backward.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from transformers.modeling_layers import GradientCheckpointingLayer

from mpo_core.training.forward import inner

_ADAPTER_DROPOUT = "lora_dropout"  # a ModuleDict in each layer of PEFT's


def train_without_noise(model: Any) -> None:
    """Puts a model, bare or wrapped, into training mode with all of its own noise switched off."""
    model.train()
    for name, module in inner(model).named_modules():
        if hasattr(module, _ADAPTER_DROPOUT) or _ADAPTER_DROPOUT in name.split("."):
            continue
        if getattr(module, "gradient_checkpointing", False) and _checkpoints(module):
            _recompute_without_noise(module)
        else:
            module.training = False


def _checkpoints(module: Any) -> bool:
    """Says whether a module recomputes: itself, or, in models of their own code, the layers that it holds."""
    if isinstance(module, GradientCheckpointingLayer):
        return True
    return not any(isinstance(inner_module, GradientCheckpointingLayer) for inner_module in module.modules())


def _recompute_without_noise(module: Any) -> None:
    """Lets a checkpointed layer run in evaluation mode, forward and again in backward.

    transformers checkpoints a layer only while its `training` is true; dropout in the layer's own forward (OPT,
    Falcon) reads the same flag. The private `_gradient_checkpointing_func` is the only seam between the two in
    transformers 5.23 (modeling_layers.py). This can go when transformers checkpoints in evaluation mode too, as
    diffusers does since huggingface/diffusers#9878.
    """
    checkpoint = vars(module).get("_gradient_checkpointing_func")
    if checkpoint is not None and not isinstance(checkpoint, _Quiet):
        module._gradient_checkpointing_func = _Quiet(module, checkpoint)  # noqa: SLF001


class _Quiet:
    """A checkpointing function whose layer is in evaluation mode while it runs."""

    def __init__(self, module: Any, checkpoint: Callable[..., Any]) -> None:
        self._module, self._checkpoint = module, checkpoint

    def __call__(self, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self._checkpoint(functools.partial(self._run, run), *args, **kwargs)

    def _run(self, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._module.training = False
        try:
            return run(*args, **kwargs)
        finally:
            self._module.training = True
