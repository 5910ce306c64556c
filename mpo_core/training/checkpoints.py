"""Checkpoints: what a training needs to go on as if it had never been broken off.

A checkpoint is a folder with what is trained (of a model with adapters, the adapters alone), the optimiser's moments,
random states, and the training's progress. It counts once `complete.json` is there, which is written last.

Another number of processes can go on from it, one that shards from a whole one and the other way round. DeepSpeed's
are an exception: its files are its own.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import DistributedType
from torch import Tensor

from mpo_core.contract.artifacts import write_atomically
from mpo_core.contract.errors import BadInputError, quantity

COMPLETE = "complete.json"  # sizes of a checkpoint's files; written last
PROGRESS = "progress.json"
_SHARDS, _MOMENTS = "shards", "moments"


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
        torch.save(random_states(), path / self._random)
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
        kind = self._accelerator.distributed_type
        if kind == DistributedType.DEEPSPEED:
            folder = path / self._deepspeed
            self._model.save_checkpoint(str(folder), exclude_frozen_parameters=_has_adapters(self._model))
        elif kind == DistributedType.FSDP:
            from torch.distributed.checkpoint.state_dict_saver import save

            moments = {
                f"{_MOMENTS}.{number}.{name}": value
                for number, of_weight in self._optimizer.state_dict()["state"].items()
                for name, value in of_weight.items()
            }
            save(_trained(self._model) | moments, checkpoint_id=path / _SHARDS)
        elif self._accelerator.is_main_process:
            torch.save(_trained(self._model), path / "trained.pt")
            torch.save(self._optimizer.state_dict(), path / "optimizer.pt")

    def load(self, path: Path) -> dict[str, Any]:
        """Puts model, optimiser, extras and random states back; returns the progress that was saved with them.

        Raises:
            BadInputError: DeepSpeed has written the checkpoint with other processes, or is to read one that it has not.
        """
        self.load_weights(path)
        if not self._deepspeed:
            self._optimizer.load_state_dict(self._optimizer.state_dict() | {"state": self._moments(path)})
        for name, extra in self._extras.items():
            extra.load_state_dict(_read(path / f"{name}.pt"))
        random = path / self._random  # with more processes than before, a new one starts as the first did
        set_random_states(_read(random if random.exists() else path / "random-0.pt"))
        progress: dict[str, Any] = json.loads((path / PROGRESS).read_text(encoding="utf-8"))
        return progress

    def load_weights(self, path: Path) -> None:
        """Puts the model back as it was; DeepSpeed has its optimiser in the same files."""
        self._require_readable(path)
        if self._deepspeed:
            self._model.load_checkpoint(str(path / self._deepspeed), load_module_strict=not _has_adapters(self._model))
            return
        weights = _trained(self._model)
        if (path / _SHARDS).is_dir():
            _read_shards(path, weights)
            return
        for name, value in _read(path / "trained.pt").items():
            weights[name].copy_(_shared_out(value, weights[name]))

    @property
    def _deepspeed(self) -> str:
        """Name of DeepSpeed's part of a checkpoint, such as `zero2`; empty without DeepSpeed."""
        if self._accelerator.distributed_type != DistributedType.DEEPSPEED:
            return ""
        return f"zero{self._accelerator.state.deepspeed_plugin.zero_stage}"

    def _require_readable(self, path: Path) -> None:
        written = next((name for name in ("zero2", "zero3") if (path / name).is_dir()), "")
        processes = len(list(path.glob("random-*.pt")))
        if written == self._deepspeed and (not written or processes == self._accelerator.num_processes):
            return
        by = f"{quantity(processes, 'process')} and {written or 'no DeepSpeed'}"
        raise BadInputError(
            f"the training's checkpoint is of {by}, and cannot go on with other ones",
            where=str(path),
            fix=f"Set training.processes {processes}, training.gradient_accumulation and training.parallel "
            f"{written or '(ddp or fsdp2)'} as before; or delete {path.parent} to train from the beginning.",
        )

    def _moments(self, path: Path) -> dict[int, dict[str, Any]]:
        """Returns the optimiser's state of each weight, by the weight's number."""
        weights = [weight for group in self._optimizer.param_groups for weight in group["params"]]
        if not (path / _SHARDS).is_dir():
            return {
                number: {name: _shared_out(value, weights[number]) for name, value in of_weight.items()}
                for number, of_weight in _read(path / "optimizer.pt")["state"].items()
            }
        from torch.distributed.checkpoint.filesystem import FileSystemReader

        tensors: dict[str, Tensor] = {}
        state: dict[int, dict[str, Any]] = {}
        saved: dict[str, Any] = FileSystemReader(path / _SHARDS).read_metadata().state_dict_metadata
        for key, about in saved.items():
            kind, _, rest = key.partition(".")
            if kind == _MOMENTS:
                number, _, name = rest.partition(".")
                weight, dtype = weights[int(number)], about.properties.dtype
                like = weight if about.size == weight.shape else torch.empty(about.size)
                tensors[key] = torch.zeros_like(like, dtype=dtype, requires_grad=False)
                state.setdefault(int(number), {})[name] = tensors[key]
        _read_shards(path, tensors)
        return state


def _read_shards(path: Path, goal: dict[str, Tensor]) -> None:
    """Reads tensors of a checkpoint that several processes have written in shards, into tensors of any sharding."""
    from torch.distributed import is_initialized
    from torch.distributed.checkpoint.state_dict_loader import load

    load(goal, checkpoint_id=path / _SHARDS, no_dist=not is_initialized())


def _shared_out(value: Any, weight: Tensor) -> Any:
    """Returns what this process holds of a tensor if the weight that it belongs to is sharded; all else as it is."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(weight, DTensor) or value.shape != weight.shape:
        return value
    # Every process has read all of it, so none sends anything.
    return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements, src_data_rank=None)


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


def random_states() -> dict[str, Tensor]:
    """Returns the states of the random number generators: that of the CPU, and that of the device if there is one."""
    states = {"cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def set_random_states(states: dict[str, Tensor]) -> None:
    """Puts the states of `random_states` back."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():  # a training may go on on another device
        torch.cuda.set_rng_state(states["cuda"])
