"""Broken off or stopped, a training goes on as if nothing had been."""

from __future__ import annotations

import json
import os
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import DistributedType
from torch import distributed
from torch.distributed import checkpoint
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.utils._pytree import tree_map

from mpo_core.contract.errors import BadInputError
from mpo_core.settings import LoraSettings
from mpo_core.training.checkpoints import Checkpoints, newest_checkpoint
from mpo_core.training.stop import Stop
from mpo_core.training.trainer import MPOTrainer
from tests.training.runs import equal, figures, weights


def crash(at: int) -> Callable[[dict[str, Any]], None]:
    """Breaks the training off after a step, before it is saved."""

    def report(line: dict[str, Any]) -> None:
        if line["step"] == at:
            raise KeyboardInterrupt

    return report


@pytest.mark.parametrize(
    "method",
    [
        {"batch_size": 1, "gradient_accumulation": 4},
        {"batch_size": 2, "gradient_accumulation": 2, "lora": LoraSettings(rank=4, dropout=0.2)},
        {"batch_size": 4, "lora": LoraSettings(rank=4), "weights": "nf4"},
        {"batch_size": 2, "gradient_accumulation": 2, "retention.pooling": "padded_mean", "order": "shuffled"},
        {"batch_size": 4, "lora": LoraSettings(rank=4), "consistency": {"width": 8, "every": 2}},
        {"batch_size": 4, "retention.distance": "kl"},
        {"batch_size": 4, "memory": "lean", "precision": "bfloat16", "max_grad_norm": None},
    ],
    ids=["full", "adapters", "four bits", "padded", "consistency", "divergence", "lean"],
)
def test_broken_off_at_any_step_and_resumed_it_ends_in_the_same_bytes(
    build: Any, method: dict[str, Any], tmp_path: Path
) -> None:
    # 12 rows, 4 a step: three steps an epoch, so that breaks fall within and between epochs.
    changes = method | {"max_steps": 5, "save_every": 2}

    def run(report: Callable[[dict[str, Any]], None] = lambda _line: None) -> MPOTrainer:
        trainer = build(changes)
        trainer.train(newest_checkpoint(tmp_path / "checkpoints"), report=report)
        return trainer

    whole = run()
    for at in range(1, 5):
        shutil.rmtree(tmp_path / "checkpoints")
        with pytest.raises(KeyboardInterrupt):
            run(crash(at))
        resumed = run()
        assert figures(resumed) == figures(whole), at
        assert equal(weights(resumed.model), weights(whole.model)), at


def test_a_stop_in_the_middle_loses_nothing(build: Any, world: Any, tmp_path: Path) -> None:
    def run(stop_at: int | None, resume: bool) -> MPOTrainer:
        stop = Stop()
        trainer = build(changes, validation=validation)
        checkpoint = newest_checkpoint(trainer.folder) if resume else None
        trainer.train(checkpoint, report=lambda line: stop.request() if line["step"] == stop_at else None, stop=stop)
        return trainer

    changes = {
        "max_steps": 9,
        "gradient_accumulation": 2,
        "evaluate_every": 2,
        "patience": 30,
        "save_every": 50,
        "lora": LoraSettings(rank=4, dropout=0.2),
    }
    validation = world.pairs_table(3, split="validation")
    whole = run(None, resume=False)
    shutil.rmtree(tmp_path / "checkpoints")
    halved = run(4, resume=False)
    assert halved.state.global_step == 4
    resumed = run(None, resume=True)
    assert figures(resumed) == figures(whole)
    assert equal(weights(resumed.model), weights(whole.model))


def test_a_checkpoint_cut_off_is_skipped_and_removed(tmp_path: Path) -> None:
    for step, mark in ((3, True), (12, True), (20, False)):
        path = tmp_path / f"checkpoint-{step}"
        path.mkdir()
        (path / "model.safetensors").write_bytes(b"x" * step)
        if mark:
            (path / "complete.json").write_text(json.dumps({"model.safetensors": step}))
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-12"
    assert not (tmp_path / "checkpoint-20").exists()
    (tmp_path / "checkpoint-12" / "model.safetensors").write_bytes(b"short")
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-3"
    assert newest_checkpoint(tmp_path / "nowhere") is None


def test_one_process_goes_on_from_shards(build: Any, tmp_path: Path) -> None:
    changes = {"batch_size": 4, "max_steps": 4, "save_every": 2}
    whole = build(changes)
    whole.train()
    shutil.rmtree(tmp_path / "checkpoints")
    with pytest.raises(KeyboardInterrupt):
        build(changes).train(report=crash(3))
    path = newest_checkpoint(tmp_path / "checkpoints")
    assert path is not None
    weights_then = torch.load(path / "trained.pt")
    moments = torch.load(path / "optimizer.pt")["state"]
    flat = {f"moments.{number}.{name}": value for number, part in moments.items() for name, value in part.items()}
    checkpoint.save(weights_then | flat, checkpoint_id=path / "shards", no_dist=True)
    (path / "trained.pt").unlink()
    (path / "optimizer.pt").unlink()
    resumed = build(changes)
    resumed.train(path)
    assert figures(resumed) == figures(whole)
    assert equal(weights(resumed.model), weights(whole.model))


def in_group(count: int, folder: Path, work: Callable[[], None]) -> None:
    """Forks processes that form a group, lets each do the same, and requires that all succeed."""
    pids = []
    for rank in range(count):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.environ["GLOO_SOCKET_IFNAME"] = "lo"
                place = {"rank": rank, "world_size": count}
                distributed.init_process_group("gloo", init_method=f"file://{folder}/group-of-{count}", **place)
                work()
                code = 0
            except BaseException:  # noqa: BLE001 - pytest is the other process
                traceback.print_exc()
            finally:
                os._exit(code)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * count


@pytest.mark.parametrize(("before", "after"), [(2, 3), (3, 2)])
def test_shards_are_read_by_another_number_of_processes(tmp_path: Path, before: int, after: int) -> None:
    def sharded() -> tuple[Checkpoints, dict[str, Any]]:
        model = torch.nn.Linear(5, 7)  # 7 rows, which neither number divides
        fully_shard(model, mesh=init_device_mesh("cpu", (distributed.get_world_size(),)))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        for weight in model.parameters():
            weight.grad = weight.detach() - 0.5
        optimizer.step()
        accelerator = SimpleNamespace(
            distributed_type=DistributedType.FSDP,
            process_index=distributed.get_rank(),
            num_processes=distributed.get_world_size(),
            is_main_process=distributed.get_rank() == 0,
            wait_for_everyone=distributed.barrier,
        )
        state = {"weights": model.state_dict(), "moments": optimizer.state_dict()["state"]}
        return Checkpoints(tmp_path, accelerator, model, optimizer, {}), state

    def whole(state: dict[str, Any]) -> dict[str, Any]:
        return tree_map(lambda value: value.full_tensor() if hasattr(value, "full_tensor") else value, state)

    def write() -> None:
        torch.manual_seed(1)
        checkpoints, state = sharded()
        checkpoints.save({}, 1, None)
        torch.save(whole(state), tmp_path / f"whole-{distributed.get_rank()}.pt")

    def read() -> None:
        torch.manual_seed(2)
        checkpoints, state = sharded()
        expected = torch.load(tmp_path / "whole-0.pt")
        assert not torch.equal(whole(state)["weights"]["weight"], expected["weights"]["weight"])
        checkpoints.load(checkpoints.of_step(1))
        state["moments"] = checkpoints._optimizer.state_dict()["state"]
        torch.testing.assert_close(whole(state), expected, rtol=0, atol=0)

    in_group(before, tmp_path, write)
    in_group(after, tmp_path, read)


def test_a_checkpoint_of_deepspeed_is_refused_elsewhere(build: Any, tmp_path: Path) -> None:
    changes = {"batch_size": 4, "max_steps": 2}
    build(changes).train()
    path = newest_checkpoint(tmp_path / "checkpoints")
    assert path is not None
    (path / "zero2").mkdir()
    with pytest.raises(BadInputError, match="is of 1 process and zero2, and cannot go on with other ones") as caught:
        build(changes).train(path)
    assert caught.value.where == str(path)
