"""Checkpoints: what a training needs to go on as if it had never been broken off.

A checkpoint is a folder with what is trained (of a model with adapters, the adapters alone), the optimiser's moments,
random states, and the training's progress. It counts once `complete.json` is there, which is written last.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import DistributedType
from accelerate.utils import load_fsdp_model, load_fsdp_optimizer, save_fsdp_model, save_fsdp_optimizer
from torch import Tensor

from mpo_core.contract.artifacts import write_atomically

COMPLETE = "complete.json"  # sizes of a checkpoint's files; written last
PROGRESS = "progress.json"


class Stateful(Protocol):
    """Something beside model and optimiser that checkpoints hold, such as the projection of an auxiliary loss."""

    def state_dict(self) -> Any:
        """Returns what to save: tensors, numbers and texts."""

    def load_state_dict(self, state: Any) -> Any:
        """Takes it back."""


def newest_checkpoint(folder: Path) -> Path | None:
    """Returns the newest complete checkpoint; deletes those that were cut off in the middle."""
    complete = []
    for path in folder.glob("checkpoint-*"):
        if _complete(path):
            complete.append(path)
        else:
            shutil.rmtree(path, ignore_errors=True)
    return max(complete, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _sizes(path: Path) -> dict[str, int]:
    files = (file for file in path.rglob("*") if file.is_file() and file.name != COMPLETE)
    return {file.relative_to(path).as_posix(): file.stat().st_size for file in files}


def _complete(path: Path) -> bool:
    try:
        recorded = json.loads((path / COMPLETE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(recorded == _sizes(path))


class Checkpoints:
    """Writes and reads the checkpoints of a training, in any number of processes.

    Args:
        folder: where they are.
        accelerator: of the training.
        model: as accelerate has prepared it.
        optimizer: likewise.
        extras: what else to save, by name.
    """

    def __init__(
        self, folder: Path, accelerator: Any, model: Any, optimizer: Any, extras: Mapping[str, Stateful]
    ) -> None:
        self._folder, self._accelerator = folder, accelerator
        self._model, self._optimizer, self._extras = model, optimizer, extras
        self._random = f"random-{accelerator.process_index}.pt"

    def of_step(self, step: int) -> Path:
        """Returns the folder of the checkpoint after a step."""
        return self._folder / f"checkpoint-{step}"

    def save(self, progress: dict[str, Any], step: int, best: int | None) -> None:
        """Saves a checkpoint, marks it complete, then deletes the older ones.

        Args:
            progress: how far the training is; the file `PROGRESS` holds it.
            step: number of the last step.
            best: step of another checkpoint that stays.
        """
        path = self.of_step(step)
        path.mkdir(parents=True, exist_ok=True)
        self._save_parts(path)
        torch.save(_random_states(), path / self._random)
        if self._accelerator.is_main_process:
            for name, extra in self._extras.items():
                torch.save(extra.state_dict(), path / f"{name}.pt")
            (path / PROGRESS).write_text(json.dumps(progress, indent=2), encoding="utf-8")
        self._accelerator.wait_for_everyone()  # each process writes some of the files
        if not self._accelerator.is_main_process:
            return
        write_atomically(path / COMPLETE, json.dumps(_sizes(path)).encode())
        for other in self._folder.glob("checkpoint-*"):
            if other not in (path, best is not None and self.of_step(best)):
                shutil.rmtree(other, ignore_errors=True)

    def _save_parts(self, path: Path) -> None:
        """Saves model and optimiser, each process its share of what is sharded."""
        kind, state = self._accelerator.distributed_type, self._accelerator.state
        if kind == DistributedType.DEEPSPEED:
            self._model.save_checkpoint(str(path), exclude_frozen_parameters=_has_adapters(self._model))
        elif kind == DistributedType.FSDP:
            save_fsdp_model(state.fsdp_plugin, self._accelerator, self._model, str(path), adapter_only=True)
            save_fsdp_optimizer(state.fsdp_plugin, self._accelerator, self._optimizer, self._model, str(path))
        elif self._accelerator.is_main_process:
            torch.save(_trained(self._model), path / "trained.pt")
            torch.save(self._optimizer.state_dict(), path / "optimizer.pt")

    def load(self, path: Path) -> dict[str, Any]:
        """Puts model, optimiser, extras and random states back; returns the progress that was saved with them."""
        self.load_weights(path)
        kind, state = self._accelerator.distributed_type, self._accelerator.state
        if kind == DistributedType.FSDP:
            load_fsdp_optimizer(
                state.fsdp_plugin, self._accelerator, self._optimizer, self._model, str(path), adapter_only=True
            )
        elif kind != DistributedType.DEEPSPEED:
            self._optimizer.load_state_dict(_read(path / "optimizer.pt"))
        for name, extra in self._extras.items():
            extra.load_state_dict(_read(path / f"{name}.pt"))
        _set_random_states(_read(path / self._random))
        progress: dict[str, Any] = json.loads((path / PROGRESS).read_text(encoding="utf-8"))
        return progress

    def load_weights(self, path: Path) -> None:
        """Puts the model back as it was; DeepSpeed has its optimiser in the same files."""
        kind, state = self._accelerator.distributed_type, self._accelerator.state
        if kind == DistributedType.DEEPSPEED:
            self._model.load_checkpoint(str(path), load_module_strict=not _has_adapters(self._model))
        elif kind == DistributedType.FSDP:
            load_fsdp_model(state.fsdp_plugin, self._accelerator, self._model, str(path), adapter_only=True)
        else:
            goal = _trained(self._model)
            for name, value in _read(path / "trained.pt").items():
                goal[name].copy_(value)


def _read(file: Path) -> Any:
    return torch.load(file, map_location="cpu", weights_only=True)


def _has_adapters(model: Any) -> bool:
    return hasattr(getattr(model, "module", model), "peft_config")


def _trained(model: Any) -> dict[str, Tensor]:
    """Returns what is trained of a model: weights that get a gradient, and the lower halves of split ones."""
    model = getattr(model, "module", model)
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    halves = {f"{name}.low_bits": weight.low_bits for name, weight in weights.items() if hasattr(weight, "low_bits")}
    return {name: tensor.detach() for name, tensor in (weights | halves).items()}


def _random_states() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def _set_random_states(states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():  # a training may go on on another device
        torch.cuda.set_rng_state(states["cuda"])
