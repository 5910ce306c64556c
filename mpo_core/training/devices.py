"""Where a training computes, over one process or several, and the optimiser of what is trained there."""

from __future__ import annotations

import re
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, DistributedType, PartialState

from mpo_core.models import pick_device
from mpo_core.settings import TrainingSettings
from mpo_core.training.lean import LeanAdamW

_BETAS, _EPSILON = (0.9, 0.999), 1e-8  # of AdamW
_NO_DECAY = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)")


def accelerator_for(settings: TrainingSettings) -> Accelerator:
    """Returns what spreads a training over its processes, as `accelerate launch` has set them up."""
    on_cpu = pick_device(settings.device) == "cpu"
    state = PartialState(cpu=on_cpu)
    if settings.parallel == "fsdp2" and state.distributed_type == DistributedType.MULTI_CPU:
        # accelerate 1.15 shards over devices alone, though torch does over CPUs too: so they pass for devices.
        state.distributed_type = DistributedType.MULTI_GPU
    unused = DistributedDataParallelKwargs(find_unused_parameters=settings.gradient_checkpointing is not True)
    accelerator = Accelerator(kwargs_handlers=[unused])  # given the CPU here, it would leave DeepSpeed out
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        # The trainer cuts a step by itself, and clips; DeepSpeed wants a size of batches all the same.
        options = {"train_micro_batch_size_per_gpu": 1, "gradient_clipping": settings.max_grad_norm or 0.0}
        accelerator.state.deepspeed_plugin.deepspeed_config |= options
    return accelerator


def optimizer_for(model: Any, settings: TrainingSettings) -> torch.optim.Optimizer:
    """Returns AdamW over what is trained of a model; biases and norms are not decayed."""
    layer_norms = {
        id(weight)
        for module in model.modules()
        if isinstance(module, torch.nn.LayerNorm)
        for weight in module.parameters(recurse=False)
    }
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    fixed = {name for name, weight in trained.items() if _NO_DECAY.search(name.lower()) or id(weight) in layer_norms}
    groups = [
        {"params": [trained[name] for name in trained if name not in fixed], "weight_decay": settings.weight_decay},
        {"params": [trained[name] for name in trained if name in fixed], "weight_decay": 0.0},
    ]
    options: dict[str, Any] = {"lr": settings.learning_rate, "betas": _BETAS, "eps": _EPSILON}
    if settings.memory == "lean":
        return LeanAdamW(groups, **options, seed=settings.seed)
    return torch.optim.AdamW(groups, **options, fused=True)
