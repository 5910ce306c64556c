"""A gradient or a loss that is no number: refused before the step, the rows named, the weights as they were."""

import pytest
import torch

from mpo_core.contract.errors import BadInputError
from mpo_core.settings import LoraSettings
from tests.training.conftest import build, folder, tokenizer  # noqa: F401 - fixtures
from tests.training.runs import equal, weights

WAYS = {
    "packed": {},
    "padded": {"layout": "padded"},
    "padded_mean": {"retention.pooling": "padded_mean"},
    "accumulated": {"batch_size": 1, "gradient_accumulation": 4},
    "accumulated and padded": {"batch_size": 1, "gradient_accumulation": 4, "layout": "padded"},
    "not clipped": {"max_grad_norm": None},
    "adapters": {"lora": LoraSettings(rank=2)},
    "dpo": {"method": "dpo"},
    "sft": {"method": "sft"},
}


def _explode_on(trainer, pair_id, step, value):
    """Makes the gradient of one row's loss no number from some step on; the loss stays one."""
    own = type(trainer)._target_loss

    def target_loss(out, part, current):
        loss = own(trainer, out, part, current)
        hit = trainer.state.global_step + 1 >= step and pair_id in [current.rows[at].pair_id for at in part.rows.place]
        if hit and loss.requires_grad:
            loss.register_hook(lambda gradient: gradient * value)
        return loss

    trainer._target_loss = target_loss


CASES = [(name, float("inf")) for name in WAYS] + [("packed", float("nan"))]


QUICK = ["packed", "padded_mean", "adapters"]


@pytest.mark.parametrize(
    ("name", "value"),
    [case if case[0] in QUICK else pytest.param(*case, marks=pytest.mark.long) for case in CASES],
    ids=str,
)
def test_the_step_is_not_taken_and_the_row_is_named(build, tmp_path, name, value):  # noqa: F811
    changes = WAYS[name]
    options = {"batch_size": 4, "order": "file", "save_every": 1, "max_steps": 3} | changes
    trainer = build(options)
    rows = trainer.train_dataset
    _explode_on(trainer, rows[5].pair_id, 2, value)
    after_first = {}
    step = trainer.forward_and_backward
    trainer.forward_and_backward = lambda *args: after_first.update(weights(trainer.model)) or step(*args)
    with pytest.raises(BadInputError, match="the gradient is not finite") as caught:
        trainer.train()
    assert caught.value.where == "training, step 2"
    assert rows[5].pair_id in caught.value.what
    elsewhere = [row.pair_id for at, row in enumerate(rows) if at not in range(4, 8)]
    assert not any(pair_id in caught.value.what for pair_id in elsewhere)
    if name != "padded_mean":  # whose pads are a property of the batch
        assert sum(row.pair_id in caught.value.what for row in rows) == 1
    assert equal(weights(trainer.model), after_first)
    assert all(bool(weight.isfinite().all()) for weight in after_first.values())
    assert [path.name for path in (tmp_path / "checkpoints").glob("checkpoint-*")] == ["checkpoint-1"]


@pytest.mark.parametrize("accumulation", [1, 4])
def test_a_loss_that_is_no_number_changes_no_weight(build, tmp_path, accumulation):  # noqa: F811
    changes = {"batch_size": 4 // accumulation, "gradient_accumulation": accumulation, "order": "file", "save_every": 1}
    trainer = build(changes | {"layout": "padded"})
    rows = trainer.train_dataset
    rows[3] = rows[3]._replace(anchor_gap=float("inf"))
    before = weights(trainer.model)
    with pytest.raises(BadInputError, match="the loss is not finite") as caught:
        trainer.train()
    assert rows[3].pair_id in caught.value.what
    assert equal(weights(trainer.model), before)
    assert not list((tmp_path / "checkpoints").glob("checkpoint-*"))


def test_a_norm_that_overflows_is_refused(build):  # noqa: F811
    trainer = build({"batch_size": 4, "max_steps": 1, "beta": 1e18})
    before = weights(trainer.model)
    with pytest.raises(BadInputError, match="is not finite"):
        trainer.train()
    assert equal(weights(trainer.model), before)
    assert torch.isfinite(next(trainer.model.parameters())).all()
