"""How much goes through the model at once: measured, lowered where memory runs out, the same after a stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mpo_core.contract.errors import BadInputError
from mpo_core.settings import LoraSettings
from mpo_core.training.forward import inner
from mpo_core.training.forward_size import ON_CPU, UNMEASURED, Size, largest
from mpo_core.training.loop import Progress
from mpo_core.training.plan import Forward, by_rows, by_tokens
from tests.training.runs import equal, steps, weights

PER_TOKEN, PER_LAYER, FIXED = 100, 40, 5_000  # bytes


def taken(tokens: int, recomputed: int) -> int:
    return FIXED + tokens * (PER_TOKEN - PER_LAYER * recomputed)


def choose(room: int, *, layers: int = 2, longest: int = 50, enough: int = 400, most: int = 3_000) -> tuple[Any, int]:
    """What is chosen where a pass takes `taken` bytes, and how many passes were tried."""
    tried = []

    def trial(tokens: int, recomputed: int) -> tuple[int, int] | None:
        tried.append((tokens, recomputed))
        filled = tokens // 50 * 50  # pairs of 50 tokens
        needed = taken(filled, recomputed)
        return None if needed > room + 20_000 else (filled, needed)  # memory runs out a bit later

    counts = list(range(layers + 1))
    return largest(trial, counts, room=room, longest=longest, enough=enough, most=most), len(tried)


def test_the_most_tokens_and_the_fewest_layers_that_fit() -> None:
    for room in range(6_000, 400_000, 700):
        size, tries = choose(room)
        assert tries <= 12
        possible = [n for n in range(3) if taken(400, n) <= room]
        if taken(50, 2) > room:
            assert size is None
            continue
        recomputed = possible[0] if possible else 2
        assert size.recomputed == recomputed
        best = min(3_000, (room - FIXED) // (PER_TOKEN - PER_LAYER * recomputed) // 50 * 50)
        assert taken(size.tokens, recomputed) <= room
        assert size.tokens >= 0.8 * best, (room, size, best)


def test_a_whole_step_that_fits_is_one_pass() -> None:
    assert choose(taken(3_000, 0)) == (Size(3_000, 0), 3)
    assert choose(taken(3_000, 0) - 1)[0].recomputed == 0
    assert choose(taken(3_000, 1), enough=3_000)[0] == Size(3_000, 1)
    assert choose(10**6, longest=3_000, enough=3_000)[0] == Size(3_000, 0)


class Card:
    """A device whose memory is a sum: so many bytes for each token, fewer for each layer that is computed again."""

    def __init__(self, model: Any, total: int) -> None:
        self.total, self.model = total, inner(model)
        self.passes: list[int] = []

    def free(self) -> int:
        return self.total

    def peak(self, run: Callable[[], int]) -> tuple[int, int] | None:
        tokens = run()
        self.passes.append(tokens)
        recomputed = sum(layer.gradient_checkpointing for layer in self.model.model.layers)
        return tokens, tokens * (PER_TOKEN - PER_LAYER * recomputed)


CHANGES = {"batch_size": 12, "max_steps": 3, "memory_share": 1.0}


def moments(model: Any) -> int:
    return sum(2 * weight.nbytes for weight in model.parameters() if weight.requires_grad)


def run(build: Any, changes: dict[str, Any], room: int | None, **options: Any) -> tuple[Any, Any]:
    trainer = build(CHANGES | changes, **options)
    card = None
    if room is not None:
        card = trainer.size.memory = Card(trainer.model, moments(trainer.model) + room)
    trainer.train()
    return trainer, card


def sizes(trainer: Any) -> list[tuple[int, int, int]]:
    return [
        (line["step"], line["forward/tokens"], line["forward/recomputed_layers"])
        for line in trainer.state.log_history
        if "forward/tokens" in line
    ]


def test_training_with_a_measured_size_gives_the_same_model(build: Any) -> None:
    plain, _ = run(build, {}, None)
    assert sizes(plain) == []  # on a CPU nothing is measured
    items = [forward.tokens for forward in by_tokens(plain.train_dataset, 1, sources=True)]
    measured, card = run(build, {}, sum(items) * (PER_TOKEN - PER_LAYER))
    assert sizes(measured) == [(1, sum(items), 1)]  # one of two layers is computed again
    assert max(card.passes) == sum(items)
    for ours, expected in zip(steps(measured), steps(plain), strict=True):
        assert ours["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    for name, weight in weights(plain.model).items():
        # AdamW's first updates have the size of the learning rate, however small the gradient.
        assert torch.allclose(weights(measured.model)[name], weight, atol=3e-4)


def test_measuring_draws_no_random_number(build: Any) -> None:
    changes = {"lora": LoraSettings(rank=4, dropout=0.5), "order": "file"}
    plain, _ = run(build, changes | {"tokens_per_forward": 10**6}, None)
    measured, card = run(build, changes, 10**9)
    assert len(card.passes) > 1
    assert sizes(measured)[0][2] == 0
    assert [line["loss"] for line in steps(measured)] == [line["loss"] for line in steps(plain)]
    assert equal(weights(measured.model), weights(plain.model))


def test_lean_training_whose_step_is_one_pass_needs_no_gradients(build: Any) -> None:
    lean = {"memory": "lean", "max_grad_norm": None, "precision": "bfloat16"}
    trainer, card = run(build, lean, 10**9)
    assert sizes(trainer) == [(1, max(card.passes), 0)]
    expected, _ = run(build, lean | {"tokens_per_forward": 10**6}, None)
    assert equal(weights(trainer.model), weights(expected.model))


def test_a_pair_that_does_not_fit_is_reported_before_the_first_step(build: Any) -> None:
    with pytest.raises(BadInputError, match=r"tokens of one pair needs more memory than the device has free"):
        run(build, {}, 10 * PER_TOKEN)


def test_checkpointing_that_is_switched_off_stays_off(build: Any) -> None:
    trainer, _ = run(build, {"gradient_checkpointing": False, "tokens_per_forward": 100}, 110 * PER_TOKEN)
    assert sizes(trainer)[0][2] == 0
    assert trainer.size.tokens <= 100


def test_a_step_without_enough_memory_is_repeated_exactly_in_smaller_passes(build: Any, monkeypatch: Any) -> None:
    changes = {"lora": LoraSettings(rank=4, dropout=0.5), "order": "file", "tokens_per_forward": 10**6}
    trainer = build(CHANGES | changes)
    whole = sum(forward.tokens for forward in by_tokens(trainer.train_dataset, 1, sources=True))
    original = trainer.share_of_loss

    def limited(model: Any, part: Any, step: Any) -> Any:
        loss = original(model, part, step)  # draws random numbers, and adds to the figures of the log
        if trainer.state.global_step == 1 and part.forward.tokens > whole // 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return loss

    monkeypatch.setattr(trainer, "share_of_loss", limited)
    trainer.train()
    assert sizes(trainer) == [(2, whole // 2, 0)]

    expected = build(CHANGES | changes)
    forward_and_backward = expected.forward_and_backward

    def smaller(step: Any) -> Any:
        expected.size.tokens = whole if expected.state.global_step == 0 else whole // 2
        return forward_and_backward(expected._step(step.rows)._replace(figures=step.figures))

    monkeypatch.setattr(expected, "forward_and_backward", smaller)
    expected.train()
    for name in ("loss", "loss/gap", "loss/retention", "grad_norm"):
        assert [line[name] for line in steps(trainer)] == [line[name] for line in steps(expected)]
    assert equal(weights(trainer.model), weights(expected.model))


def test_a_padded_step_without_enough_memory_is_repeated_with_half_the_pairs_in_a_pass(
    build: Any, monkeypatch: Any
) -> None:
    changes = CHANGES | {"layout": "padded", "order": "file"}
    trainer, expected = build(changes), build(changes)
    original, passes = trainer.share_of_loss, []

    def limited(model: Any, part: Any, step: Any) -> Any:
        loss = original(model, part, step)
        if trainer.state.global_step == 1 and part.forward.pairs > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        passes.append((trainer.state.global_step + 1, part.forward.pairs))
        return loss

    monkeypatch.setattr(trainer, "share_of_loss", limited)
    trainer.train()
    # Dominant pairs before the target pairs of a pass, 6 and 12 in all.
    assert [pairs for step, pairs in passes if step == 1] == [6, 12]
    assert [pairs for step, pairs in passes if step == 2] == [3, *[2, 3] * 4]
    notes = [line for line in trainer.state.log_history if "forward/pairs" in line]
    tokens = trainer.size.tokens  # of passes of auxiliary losses
    assert tokens < ON_CPU
    assert notes == [{"step": 2, "forward/pairs": 3, "forward/tokens": tokens, "forward/recomputed_layers": 0}]
    expected.train()
    for ours, others in zip(steps(trainer), steps(expected), strict=True):
        assert ours["loss"] == pytest.approx(others["loss"], rel=1e-5)
        assert ours["grad_norm"] == pytest.approx(others["grad_norm"], rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        ({"retention.pooling": "padded_mean"}, "lower training.batch_size"),
        ({"memory": "lean", "max_grad_norm": None, "precision": "bfloat16"}, "lower training.tokens_per_forward"),
    ],
    ids=["padded_mean", "lean"],
)
def test_a_step_that_cannot_be_repeated_without_enough_memory_ends_in_one_clear_error(
    build: Any, monkeypatch: Any, changes: dict[str, Any], fix: str
) -> None:
    trainer = build(CHANGES | changes)

    def too_much(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(trainer, "share_of_loss", too_much)
    with pytest.raises(
        BadInputError, match=r"memory ran out in forward and backward passes of up to [\d,]+ tokens"
    ) as error:
        trainer.train()
    assert error.value.where == "training, step 1"
    assert fix in error.value.fix


class Step:
    """A step of padded passes that runs only where they have few pairs, and few tokens or no stored activations."""

    def __init__(self, trainer: Any, pairs: int = 99, *, all_recomputed: bool = False) -> None:
        self.trainer, self.pairs, self.all_recomputed = trainer, pairs, all_recomputed
        self.model, self.size = inner(trainer.model), trainer.size
        self.state = Progress(4)

    @property
    def forwards(self) -> list[Forward]:
        return by_rows(self.trainer.train_dataset, self.size.pairs, sources=True)

    def run(self, _: Any) -> list[bool]:
        recomputed = self.recomputed()
        if self.size.pairs > self.pairs or (self.all_recomputed and not all(recomputed)):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return recomputed

    def recomputed(self) -> list[bool]:
        return [layer.gradient_checkpointing for layer in self.model.model.layers]

    def until_it_fits(self) -> Any:
        assert not self.size.choose(self.model, [], self.state, lambda *_: None)
        return self.size.until_it_fits(self.model, self, self.run, cut=lambda: self, state=self.state)


PADDED = CHANGES | {"layout": "padded"}


@pytest.mark.parametrize("checkpointing", [True, "auto"])
def test_smaller_passes_leave_checkpointing_as_it_is_set(build: Any, checkpointing: Any) -> None:
    trainer = build(PADDED | {"gradient_checkpointing": checkpointing})
    trainer.prepare()
    step = Step(trainer, 3)
    assert step.until_it_fits() == [checkpointing is True] * 2
    assert step.state.log_history[-1]["forward/recomputed_layers"] == 2 * (checkpointing is True)


def test_a_resumed_padded_training_computes_with_the_size_of_its_log(build: Any) -> None:
    lowered = Step(build(PADDED), 3)
    lowered.until_it_fits()
    resumed = Step(build(PADDED), 3)
    assert resumed.size.pairs == 12
    assert resumed.size.choose(resumed.model, [], lowered.state, lambda *_: None)
    assert not resumed.size.choose(resumed.model, [], lowered.state, lambda *_: None)
    assert (resumed.size.pairs, resumed.size.measured) == (3, lowered.size.measured)
    again = build(PADDED | {"gradient_checkpointing": True})
    again.prepare()
    again.size.choose(again.model, [], lowered.state, lambda *_: None)
    assert Step(again).recomputed() == [True, True]  # what an error has advised


def test_a_lack_of_memory_makes_no_pass_of_an_auxiliary_loss_larger(build: Any) -> None:
    step = Step(build(PADDED | {"tokens_per_forward": 10**6}), all_recomputed=True)
    step.size.pairs = 1
    step.until_it_fits()  # no pass has several pairs, so that its size stays
    assert step.size.tokens == 10**6
    assert step.size.measured == UNMEASURED


def test_a_warning_says_what_was_done(build: Any, caplog: Any) -> None:
    Step(build(PADDED), 1, all_recomputed=True).until_it_fits()
    ours = [record.getMessage().partition("; ")[2] for record in caplog.records if "ran out" in record.getMessage()]
    assert ours == [
        "from here on forward passes have at most 6 pairs",
        "from here on forward passes have at most 3 pairs",
        "from here on forward passes have at most 1 pair",
        "from here on all layers compute their activations again in backward",
    ]


@pytest.mark.parametrize(
    ("changes", "pairs", "fix"),
    [
        ({}, 12, "Set training.gradient_checkpointing to true, or lower training.batch_size."),
        ({"gradient_checkpointing": True}, 12, "Lower training.batch_size."),
        (
            {"gradient_checkpointing": True},
            1,
            "Lower training.cutoff, or train adapters (training.lora), or set training.memory to lean.",
        ),
        ({"gradient_checkpointing": True, "lora": LoraSettings(rank=4)}, 1, "Lower training.cutoff."),
    ],
)
def test_the_advice_is_what_can_help(build: Any, changes: dict[str, Any], pairs: int, fix: str) -> None:
    trainer = build(CHANGES | {"retention.pooling": "padded_mean", "batch_size": pairs} | changes)
    with pytest.raises(BadInputError) as error:
        Step(trainer, 0).until_it_fits()
    assert error.value.fix == fix


def test_passes_of_auxiliary_losses_share_no_copies_of_weights(build: Any, monkeypatch: Any) -> None:
    changes = {"consistency": {"width": 8}, "precision": "bfloat16", "tokens_per_forward": 200, "max_steps": 2}
    trainer = build(CHANGES | changes)
    (loss,) = trainer._auxiliary
    original, share_of_loss, cached = loss.step, trainer.share_of_loss, []

    def caches() -> bool:
        with trainer._autocast():
            return torch.is_autocast_cache_enabled()

    def of_pass(*arguments: Any) -> Any:
        cached.append(("answers", caches()))
        return share_of_loss(*arguments)

    def beside(*arguments: Any) -> Any:
        cached.append(("prompts", caches()))
        return original(*arguments)

    monkeypatch.setattr(trainer, "share_of_loss", of_pass)
    monkeypatch.setattr(loss, "step", beside)
    trainer.train()
    assert set(cached) == {("answers", True), ("prompts", False)}


def test_an_auxiliary_loss_without_enough_memory_is_repeated_with_its_step(build: Any, monkeypatch: Any) -> None:
    changes = CHANGES | {"consistency": {"width": 8}, "order": "file", "tokens_per_forward": 10**6}
    trainer, expected = build(changes), build(changes)
    whole = sum(forward.tokens for forward in by_tokens(trainer.train_dataset, 1, sources=True))
    (loss,) = trainer._auxiliary
    assert len(loss.of_step(trainer.train_dataset)) == 1 < len(loss._groups)
    original, numbers = loss.step, []

    def limited(rows: Any, number: int, run: Any) -> Any:
        numbers.append(number)
        total = original(rows, number, run)  # leaves gradients, also of its own projection
        if numbers == [1, 2]:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return total

    monkeypatch.setattr(loss, "step", limited)
    trainer.train()
    assert numbers == [1, 2, 2, 3]
    assert sizes(trainer) == [(2, whole // 2, 0)]
    assert trainer.size.measured == whole // 2
    monkeypatch.setattr(trainer.size, "measured", 1)
    assert len(loss.of_step(trainer.train_dataset)) == len(loss._groups)  # the passes become smaller, too
    expected.train()
    for ours, others in zip(steps(trainer), steps(expected), strict=True):
        assert ours["loss"] == pytest.approx(others["loss"], rel=1e-5)
        assert ours["grad_norm"] == pytest.approx(others["grad_norm"], rel=1e-4)


def test_weights_that_are_learned_without_enough_memory_are_learned_once(build: Any, monkeypatch: Any) -> None:
    trainer = build(CHANGES | {"weighting": {"kind": "group_dro"}, "tokens_per_forward": 10**6})
    weighting = trainer._weighting
    original, numbers = weighting.begin, []

    def limited(rows: Any, number: int, losses: Any) -> None:
        numbers.append(number)
        if numbers == [1, 2]:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        original(rows, number, losses)

    monkeypatch.setattr(weighting, "begin", limited)
    trainer.train()
    assert numbers == [1, 2, 2, 3]
    assert [step for step, *_ in sizes(trainer)] == [2]


def test_a_pass_of_one_pair_that_does_not_fit_ends_the_training(build: Any, monkeypatch: Any) -> None:
    trainer = build(CHANGES)

    def too_much(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(trainer, "share_of_loss", too_much)
    with pytest.raises(BadInputError, match="needs more memory"):
        trainer.train()


@pytest.mark.parametrize("limit", [None, 120])
def test_a_resumed_training_computes_with_the_size_of_its_log(build: Any, tmp_path: Any, limit: Any) -> None:
    changes = {"max_steps": 4, "save_every": 2, "order": "file", "tokens_per_forward": limit}
    whole, _ = run(build, changes, 15_000)
    ((_, tokens, recomputed),) = sizes(whole)

    def break_off(line: dict[str, Any]) -> None:
        if line["step"] == 3:
            raise KeyboardInterrupt

    cut = build(CHANGES | changes)
    cut.size.memory = Card(cut.model, moments(cut.model) + 15_000)
    with pytest.raises(KeyboardInterrupt):
        cut.train(report=break_off)
    resumed = build(CHANGES | changes)
    resumed.size.memory = Card(resumed.model, 1)  # nothing would fit any more
    resumed.train(tmp_path / "checkpoints" / "checkpoint-2")
    assert resumed.size.tokens == tokens
    assert sizes(resumed) == [(1, tokens, recomputed)]
    assert equal(weights(resumed.model), weights(whole.model))


def test_moments_that_a_resumed_training_has_already_take_no_further_memory(build: Any, tmp_path: Any) -> None:
    changes = {"max_steps": 4, "save_every": 2, "order": "file"}
    room = 15_000  # less than the moments take
    measured, _ = run(build, changes, room)
    ((_, tokens, recomputed),) = sizes(measured)
    plain, _ = run(build, changes, None)  # as on a CPU, where nothing is measured
    assert sizes(plain) == []

    def break_off(line: dict[str, Any]) -> None:
        if line["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(CHANGES | changes).train(report=break_off)
    resumed = build(CHANGES | changes)
    resumed.size.memory = Card(resumed.model, room)
    assert moments(resumed.model) > room
    resumed.train(tmp_path / "checkpoints" / "checkpoint-2")
    assert sizes(resumed) == [(3, tokens, recomputed)]
    assert [line["loss"] for line in steps(resumed)] == pytest.approx([line["loss"] for line in steps(plain)], rel=1e-5)
