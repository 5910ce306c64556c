"""Computes what weights, gradients and moments of a training take, before any of it is allocated."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mpo_core.contract.errors import BadInputError
from mpo_core.models.folder import json_object, read_weights
from mpo_core.settings import TrainingSettings

_log = logging.getLogger(__name__)
_FLOAT32, _BFLOAT16 = 4.0, 2.0
_NF4 = 0.5 + (1 + 4 / 256) / 64  # 4 bits, and of each 64 weights a scale in 8 bits, and of each 256 scales a float32
_NOT_IN_LAYERS = ("embed", "wte", "wpe", "lm_head")


class StateBytes(NamedTuple):
    """Bytes on each device that do not depend on the lengths of the pairs."""

    weights: float
    gradients: float
    moments: float

    @property
    def total(self) -> float:
        """The sum."""
        return sum(self)


def state_bytes(shapes: Mapping[str, tuple[int, ...]], training: TrainingSettings) -> StateBytes:
    """Computes what a training keeps on each device beside activations; `shapes` has tied weights once."""
    numbers = sum(math.prod(shape) for shape in shapes.values())
    linear = {name: shape for name, shape in shapes.items() if _is_linear(name, shape)}
    if training.lora is not None:
        trained = training.lora.rank * sum(sum(shape) for name, shape in linear.items() if _is_adapted(name, training))
        in_linear = sum(math.prod(shape) for shape in linear.values())
        each = {"float32": _FLOAT32, "bfloat16": _BFLOAT16, "nf4": _NF4}[training.weights]
        other = _BFLOAT16 if training.weights == "bfloat16" else _FLOAT32  # norms, embeddings and output layer
        frozen = each * in_linear + other * (numbers - in_linear)
        state = StateBytes(frozen + _FLOAT32 * trained, _FLOAT32 * trained, 2 * _FLOAT32 * trained)
    elif training.memory == "lean":
        gradients = 0.0 if training.updates_in_backward else _BFLOAT16 * numbers
        state = StateBytes(2 * _BFLOAT16 * numbers, gradients, 2 * _BFLOAT16 * numbers)
    else:
        each = _BFLOAT16 if training.weights == "bfloat16" else _FLOAT32
        state = StateBytes(each * numbers, each * numbers, 2 * each * numbers)
    if not training.sharded:
        return state
    weights = state.weights if training.parallel == "zero2" else state.weights / training.processes
    return StateBytes(weights, state.gradients / training.processes, state.moments / training.processes)


def warn_if_too_large(folder: Path, training: TrainingSettings) -> None:
    """Logs a warning where this machine's device is too small for a training: the run may train on another machine."""
    problem = _problem(folder, training)
    if problem is not None:
        _log.warning("%s: %s. %s", problem.where, problem.what, problem.fix)


def refuse_too_large(folder: Path, training: TrainingSettings) -> None:
    """Refuses a training that cannot fit on the device, before the model is loaded.

    Raises:
        BadInputError: weights, gradients and moments alone take more than the memory of the device.
    """
    problem = _problem(folder, training)
    if problem is not None:
        raise problem


def _problem(folder: Path, training: TrainingSettings) -> BadInputError | None:
    import torch

    if training.device == "cpu" or not torch.cuda.is_available():
        return None
    if "quantization_config" in json_object(folder, "config.json"):  # its shapes are those of packed numbers
        return None
    memory = torch.cuda.mem_get_info()[1]
    state = state_bytes(read_weights(folder).shapes, training)
    if state.total <= memory:
        return None
    parts = ", ".join(f"{name} {size / 2**30:.1f}" for name, size in state._asdict().items())
    return BadInputError(
        f"training takes {state.total / 2**30:.1f} GiB on each device before any activations ({parts}), and the "
        f"memory of the device is {memory / 2**30:.1f} GiB",
        where=f"training, model {folder}",
        fix="Set training.memory=lean, train adapters (training.lora), or shard it (training.parallel=fsdp2). The "
        "table in docs/your-model.md says what each takes.",
    )


def _is_linear(name: str, shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 and not any(part in name for part in _NOT_IN_LAYERS)  # noqa: PLR2004


def _is_adapted(name: str, training: TrainingSettings) -> bool:
    targets = training.lora.target_modules if training.lora is not None else []
    return targets == "all-linear" or any(f".{name}".endswith(f".{target}.weight") for target in targets)
