"""What a training takes is computed before it starts: as its tensors show, and on a card that is too small."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from mpo_core.contract.errors import BadInputError
from mpo_core.models.folder import read_weights
from mpo_core.models.training_memory import StateBytes, refuse_too_large, state_bytes, warn_if_too_large
from mpo_core.settings import LoraSettings
from tests.training.conftest import settings

WAYS: dict[str, dict[str, Any]] = {
    "full": {},
    "lean": {"memory": "lean", "precision": "bfloat16"},
    "adapters": {"lora": LoraSettings(rank=4)},
    "adapters on bfloat16": {"lora": LoraSettings(rank=3), "weights": "bfloat16", "precision": "bfloat16"},
    "adapters on some": {"lora": LoraSettings(rank=2, target_modules=["q_proj", "down_proj"])},
}


@pytest.mark.parametrize("way", WAYS)
def test_bytes_are_those_of_the_tensors_of_a_training(build: Any, folder: Path, way: str) -> None:
    trainer = build(WAYS[way] | {"max_steps": 1})
    trainer.train()
    trained = [weight for weight in trainer.model.parameters() if weight.requires_grad]
    lower = [weight.low_bits for weight in trained if hasattr(weight, "low_bits")]
    weights = sum(tensor.nbytes for tensor in [*trainer.model.parameters(), *lower])
    states = [value for state in trainer.optimizer.state.values() for value in state.values()]
    moments = sum(value.nbytes for value in states if isinstance(value, torch.Tensor) and value.dim())
    expected = StateBytes(weights, sum(weight.nbytes for weight in trained), moments)
    computed = state_bytes(read_weights(folder).shapes, trainer.settings)
    # The vectors of a lean training stay in float32; of a large model they are a ten-thousandth.
    assert tuple(computed) == pytest.approx(tuple(expected), rel=0.01 if way == "lean" else 1e-12)


def test_bytes_per_parameter() -> None:
    shapes = {"model.layers.0.mlp.up_proj.weight": (2_000, 1_000), "model.embed_tokens.weight": (1_000, 1_000)}
    bfloat16 = {"precision": "bfloat16"}
    lean = bfloat16 | {"memory": "lean"}
    adapters = bfloat16 | {"weights": "nf4", "lora": LoraSettings(rank=1)}
    assert state_bytes(shapes, settings(**lean)).total == 10 * 3e6
    assert state_bytes(shapes, settings(**lean, max_grad_norm=None)).total == 8 * 3e6
    assert state_bytes(shapes, settings()).total == 16 * 3e6
    assert state_bytes(shapes, settings(**adapters)).total == pytest.approx(
        2e6 * 4.127 / 8 + 4 * 1e6 + 16 * 3_000, rel=1e-4
    )
    several = {"processes": 4, "device": "cuda"}
    assert state_bytes(shapes, settings(parallel="fsdp2", **several)).total == 4 * 3e6
    assert state_bytes(shapes, settings(parallel="zero2", **several)).total == 4 * 3e6 + 3 * 3e6
    assert state_bytes(shapes, settings(**several)).total == 16 * 3e6


def test_a_training_that_cannot_fit_is_reported_before_it_starts(folder: Path, monkeypatch: Any, caplog: Any) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    needed = state_bytes(read_weights(folder).shapes, settings()).total
    for memory, fits in ((needed, True), (needed - 1, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda memory=memory: (0, memory))
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            warn_if_too_large(folder, settings(device="auto"))
        assert ("before any activations" in caplog.text) != fits
        refuse_too_large(folder, settings(device="cpu"))
        if fits:
            refuse_too_large(folder, settings(device="auto"))
        else:
            with pytest.raises(BadInputError, match=r"training takes .* GiB on each device before any activations"):
                refuse_too_large(folder, settings(device="auto"))
