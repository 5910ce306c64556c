"""The training process on a CUDA device gives what it gives on the CPU. Skipped where there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mpo_core.settings import LoraSettings
from mpo_core.training import attention
from mpo_core.training.attention import Segment
from mpo_core.training.launch import TrainingResult, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

WAYS: dict[str, dict[str, Any]] = {
    "packed": {"layout": "packed"},
    "padded": {"layout": "padded"},
    "recomputed": {"gradient_checkpointing": True},
    "adapters": {"lora": LoraSettings(rank=4)},
}


def losses(result: TrainingResult) -> list[float]:
    history = json.loads(result.trainer_state.read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("precision", "close"), [("float32", 1e-3), ("bfloat16", 5e-2)])
def test_the_losses_of_the_cpu(
    world: Any, folder: Path, tmp_path: Path, way: str, precision: str, close: float
) -> None:
    def run(device: str, precision: str) -> list[float]:
        # Where a gradient is rounding alone, AdamW's update is as large as the learning rate allows.
        settings = world.settings(**WAYS[way], device=device, precision=precision, learning_rate=1e-6)
        return losses(train(world.make_job(tmp_path / device, folder, settings, world.pairs_table())))

    expected = run("cpu", "float32")
    assert len(expected) == 4
    assert run("cuda", precision) == pytest.approx(expected, rel=close)


@pytest.mark.parametrize("window", [None, 4])
def test_attention_at_once_is_that_by_length(window: int | None) -> None:
    torch.manual_seed(0)
    segments = (Segment(30, 50, 20), Segment(1, 1, 90), Segment(70, 40, 40), Segment(0, 20, 30))
    tokens = sum(map(sum, segments))
    inputs = [torch.randn(tokens, n, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True) for n in (4, 2, 2)]
    factor = torch.randn(tokens, 4, 64, device="cuda", dtype=torch.bfloat16)
    options = attention._Options(None, 0.0, window, None)
    assert attention._flash_takes(inputs[0].transpose(0, 1), options)

    def outcome(attend: Any, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        out = attend(inputs, segments, options)
        return [out, *torch.autograd.grad((out * factor.to(out.dtype)).sum(), inputs)]

    wide = [t.detach().float().requires_grad_() for t in inputs]
    for ours, expected in zip(outcome(attention._at_once, inputs), outcome(attention._by_length, wide), strict=True):
        assert (ours.float() - expected).norm() < 1e-2 * expected.norm()


def test_a_run_is_resumed(world: Any, folder: Path, tmp_path: Path) -> None:
    whole = world.settings(device="cuda", max_steps=6)
    expected = losses(train(world.make_job(tmp_path / "whole", folder, whole, world.pairs_table())))
    job = world.make_job(tmp_path / "cut", folder, whole.model_copy(update={"save_every": 2}), world.pairs_table())

    def stop(line: dict[str, Any]) -> None:
        if line["step"] == 4 and "loss" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(job, on_step=stop)
    result = train(job)
    assert result.resumed_from is not None
    assert losses(result) == pytest.approx(expected, rel=1e-4)


def test_four_bits(world: Any, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    settings = world.settings(device="cuda", weights="nf4", lora=LoraSettings(rank=4))
    ours = losses(train(world.make_job(tmp_path, folder, settings, world.pairs_table())))
    assert len(ours) == 4
    assert ours[-1] < ours[0]
