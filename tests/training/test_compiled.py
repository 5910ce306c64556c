"""Compiled layers compute what the model's own do, whatever is trained of it and however it is laid out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mpo_core.contract.errors import BadInputError
from mpo_core.settings import LoraSettings
from mpo_core.training import compiled
from tests.training.runs import figures, steps, weights

CHANGES = {"batch_size": 4, "max_steps": 4, "tokens_per_forward": 150}
ADAPTERS = {"lora": LoraSettings(rank=4), "learning_rate": 0.01}
LEAN = {"memory": "lean", "precision": "bfloat16", "max_grad_norm": None, "learning_rate": 1e-5}


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Stands in for torch's compiler, which takes half a minute: notes what each compiled function is called with."""
    calls: list[Any] = []

    def compile_it(function: Any, **options: Any) -> Any:
        assert options == {"dynamic": True, "backend": "inductor"}

        def call(*args: Any, **arguments: Any) -> Any:
            calls.append(arguments)
            return function(*args, **arguments)

        return call

    monkeypatch.setattr(torch, "compile", compile_it)
    return calls


@pytest.mark.parametrize(
    "changes",
    [{"layout": "padded"}, ADAPTERS | {"gradient_checkpointing": True}],
    ids=["padded", "packed adapters, computed again"],
)
def test_every_layer_goes_through_the_compiler_and_keeps_its_names(
    build: Any, traced: list[Any], changes: dict[str, Any]
) -> None:
    changes = CHANGES | {"max_steps": 2} | changes
    plain, fused = build(changes), build(changes | {"compile_layers": True})
    plain.train()
    assert traced == []
    fused.train()
    assert len(traced) >= 2 * 2  # layers × steps
    assert figures(fused) == figures(plain)
    assert weights(fused.model).keys() == weights(plain.model).keys()


def test_a_machine_without_a_compiler_is_reported(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled.shutil, "which", lambda _name: None)
    with pytest.raises(BadInputError, match=r"torch compiles with g\+\+, which this machine does not have"):
        build(CHANGES | {"compile_layers": True}).train()


@pytest.mark.long
@pytest.mark.parametrize(
    "changes",
    [{}, {"layout": "padded"}, {"gradient_checkpointing": True}, ADAPTERS, LEAN],
    ids=["packed", "padded", "computed again", "adapters", "lean"],
)
def test_compiled_layers_train_as_the_model_does_and_are_compiled_once(
    build: Any, tmp_path: Path, changes: dict[str, Any]
) -> None:
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    counters.clear()
    # Passes of many lengths. Without retention: its loss in the first step is 0, or rounding where the reference was
    # computed by other kernels, and AdamW makes updates of any gradient that is not 0.
    changes = CHANGES | {"max_steps": 6, "order": "shuffled", "retention.weight": 0.0} | changes
    plain, fused = build(changes), build(changes | {"compile_layers": True})
    plain.train()
    fused.train()
    close = 5e-2 if changes.get("precision") == "bfloat16" else 1e-5
    for a, b in zip(steps(plain), steps(fused), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=close, abs=1e-5)
    # Two layers, six steps, several passes in each: at most a few graphs, for lengths are symbols.
    assert 0 < counters["stats"]["unique_graphs"] <= 12
    assert not any("recompile_limit" in reason for reason in counters["unimplemented"])


@pytest.mark.long
def test_compiled_layers_train_with_the_retention_loss_which_starts_as_rounding(build: Any) -> None:
    torch.compiler.reset()
    changes = CHANGES | {"order": "shuffled"}
    plain, fused = build(changes), build(changes | {"compile_layers": True})
    plain.train()
    fused.train()
    retention = [[line["loss/retention"] for line in steps(trainer)] for trainer in (plain, fused)]
    assert retention[0][0] == 0.0
    assert 0.0 <= retention[1][0] < 1e-4 * retention[0][1]  # the reference was computed by other kernels
    first = [steps(trainer)[0]["grad_norm"] for trainer in (plain, fused)]
    assert first[0] == pytest.approx(first[1], rel=1e-4)
    # Where a weight has no other gradient, AdamW's first update of this rounding is as large as of any gradient.
    assert retention[1][1:] == pytest.approx(retention[0][1:], rel=0.1)
    for a, b in zip(steps(plain), steps(fused), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=0.1)
