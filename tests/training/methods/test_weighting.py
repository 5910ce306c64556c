"""Learned weights: their update against plain forwards and numpy, what they learn, and exact resume."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.training import TRAINING_METHODS, WeightingSettings
from mpo_core.training import trainer
from mpo_core.training.checkpoints import newest_checkpoint
from mpo_core.training.collator import PairRow
from mpo_core.training.compiled import compile_layers
from mpo_core.training.encoding import EncodedText
from mpo_core.training.stop import Stop
from mpo_core.training.weighting import Barfi, GroupDro, Weighting, last_layer
from tests.training.runs import equal, steps, weights


def trusted_rows(tiny: Any, reference: Any, count: int = 4) -> list[PairRow]:
    return [row._replace(pair_id=f"t{row.pair_id}") for row in tiny.rows(reference, count, languages="sw ko", seed=7)]


def shares(made: Weighting) -> dict[str, float]:
    return {name.removeprefix("weight/"): value for name, value in made.figures().items()}


def test_group_dro_is_the_formula_in_numpy_whatever_the_forwards(tiny: Any) -> None:
    rows = tiny.rows(tiny.llama(1), 6, languages="sw ko bn")
    whole, parts = (GroupDro(WeightingSettings(kind="group_dro", rate=0.5), rows) for _ in range(2))
    assert shares(whole) == {"bn": 1.0, "ko": 1.0, "sw": 1.0}
    first, second = torch.tensor([3.0, 1.0, 2.0, 5.0, 1.0, 4.0]), torch.tensor([2.0, 0.0, 1.0])
    rounds = [
        (whole, [rows], [first], [second]),
        (parts, [rows[:2], rows[:4], rows[4:]], [first[:2], first[:4], first[4:]], [second]),  # a pass is repeated
    ]
    for made, cut, losses, later in rounds:
        made.begin(rows, 1, lambda _: [])
        for some, loss in zip(cut, losses, strict=True):
            made.note(some, loss)
        made.finish()
        made.begin(rows[:3], 2, lambda _: [])
        made.note(rows[:3], later[0])
        made.finish()
        made.begin(rows, 3, lambda _: [])
    # bn has rows 2 and 5, ko 1 and 4, sw 0 and 3.
    means = 0.9 * np.array([(2.0 + 4.0) / 2, (1.0 + 1.0) / 2, (3.0 + 5.0) / 2]) + 0.1 * np.array([1.0, 0.0, 2.0])
    expected = np.clip(3 * np.exp(0.5 * means) / np.exp(0.5 * means).sum(), 0.2, 5)
    assert list(shares(whole).values()) == pytest.approx(expected)
    assert shares(parts) == shares(whole)


def gradient(model: Any, rows: list[PairRow], total: float) -> torch.Tensor:
    """Of the sum of DPO losses, over the last layer, by transformers' own forward."""
    loss = torch.zeros(())
    for row in rows:
        h = []
        for answer, reference in zip(row.target[1:], row.reference or (), strict=True):
            logits = model(torch.tensor([row.target.prompt + answer])).logits[0, len(row.target.prompt) - 1 : -1]
            h.append(logits.log_softmax(-1)[range(len(answer)), answer].sum() - reference)
        loss = loss - row.weight * torch.nn.functional.logsigmoid(0.1 * (h[0] - h[1])) / total
    parts = torch.autograd.grad(loss, list(model.model.layers[-1].parameters()))
    return torch.cat([part.flatten() for part in parts]).double()


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("per", ["language", "row"])
def test_barfi_s_first_update_is_that_of_plain_gradients(tiny: Any, build_on: Any, layout: str, per: str) -> None:
    reference = tiny.llama(1)
    rows = [row._replace(weight=1.0 + n % 2) for n, row in enumerate(tiny.rows(reference, 5, languages="sw ko"))]
    trusted = trusted_rows(tiny, reference)
    changes = {"method": "dpo", "layout": layout, "weighting": {"per": per, "rate": 0.3}}
    made = build_on(tiny.llama(0), rows, trusted=trusted, max_steps=1, **changes)
    made.train()

    model, total = tiny.llama(0), sum(row.weight for row in rows)
    outer = gradient(model, trusted, len(trusted))
    names = sorted({row.language if per == "language" else row.pair_id for row in rows})
    parts = [gradient(model, [row for row in rows if name in (row.language, row.pair_id)], total) for name in names]
    s = np.array([float(outer @ part) for part in parts]) / float(outer.norm() * torch.stack(parts).sum(0).norm())
    phi = 0.3 * (s - s.mean())
    expected = np.clip(len(names) * np.exp(phi) / np.exp(phi).sum(), 0.2, 5)
    got = made._weighting._weights().numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    assert float(np.abs(got - 1).max()) > 1e-3


def test_barfi_s_updates_are_the_formula_in_numpy_from_any_weights(tiny: Any) -> None:
    """Three steps, none with all groups, from weights beyond both bounds; the losses are linear in the last layer."""
    model, random = tiny.llama(0), np.random.default_rng(3)
    rows = [row._replace(weight=1.0 + n % 3) for n, row in enumerate(tiny.rows(tiny.llama(1), 8, languages="sw ko"))]
    trusted = trusted_rows(tiny, tiny.llama(1), 3)
    layer = list(last_layer(model).parameters())
    slopes = {row.pair_id: random.normal(size=sum(part.numel() for part in layer)) for row in (*rows, *trusted)}

    def losses(some: list[PairRow]) -> Any:
        flat = torch.cat([part.flatten() for part in layer])
        for cut in (some[:2], some[2:]):  # two forwards
            if cut:
                yield cut, torch.stack([torch.tensor(slopes[row.pair_id], dtype=torch.float32) @ flat for row in cut])

    made = Barfi(WeightingSettings(per="row", rate=0.7), rows, trusted, model, step_rows=9, seed=0)
    phi = np.array([3.0, -2.0, 0.5, 0.0, 0.0, 0.3, -0.5, 1.0])
    made.load_state_dict({"logits": torch.tensor(phi)})
    clipped = np.clip(8 * np.exp(phi) / np.exp(phi).sum(), 0.2, 5)
    assert (clipped.min(), clipped.max()) == (0.2, 5.0)
    np.testing.assert_allclose(made.factors(rows), clipped)
    outer = np.mean([slopes[row.pair_id] for row in trusted], axis=0)
    for number, some in enumerate(([0, 1, 2], [4, 0, 7, 3], [5, 6]), start=1):
        made.begin([rows[place] for place in some], number, losses)
        w = 8 * np.exp(phi) / np.exp(phi).sum()
        total = sum(rows[place].weight for place in some)
        parts = np.array([rows[place].weight / total * slopes[rows[place].pair_id] for place in some])
        whole = np.clip(w[some], 0.2, 5) @ parts
        s = parts @ outer / (np.linalg.norm(outer) * np.linalg.norm(whole))
        of_step = np.exp(phi[some]) / np.exp(phi[some]).sum()
        phi[some] += 0.7 * w[some] * (s - of_step @ s)
        np.testing.assert_allclose(made.state_dict()["logits"], phi, rtol=1e-4, atol=1e-5)


def test_barfi_computes_without_compiled_code(tiny: Any, build_on: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The short twin of the next."""
    stances: list[str] = []
    monkeypatch.setattr(torch.compiler, "set_stance", lambda stance: nullcontext(stances.append(stance)))
    monkeypatch.setattr(trainer, "compile_layers", lambda *_, **__: None)
    rows, trusted = tiny.rows(tiny.llama(1), 4, languages="sw ko"), trusted_rows(tiny, tiny.llama(1))
    for compiles in (False, True):
        build_on(
            tiny.llama(0), rows, trusted=trusted, max_steps=1, method="dpo", weighting={}, compile_layers=compiles
        ).train()
    assert stances == ["force_eager"]


@pytest.mark.long
def test_barfi_keeps_graphs_that_compiled_layers_would_give_up(
    tiny: Any, build_on: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The backend divides a graph in two as inductor does, and generates no code.
    backend = "aot_eager_decomp_partition"
    monkeypatch.setattr(trainer, "compile_layers", partial(compile_layers, backend=backend))
    rows, changes = tiny.rows(tiny.llama(1), 4, languages="sw ko"), {"method": "dpo", "weighting": {"rate": 0.3}}
    plain, compiled = (
        build_on(
            tiny.llama(0), rows, trusted=trusted_rows(tiny, tiny.llama(1)), max_steps=1, compile_layers=on, **changes
        )
        for on in (False, True)
    )
    plain.train()
    compiled.train()
    assert shares(compiled._weighting) == pytest.approx(shares(plain._weighting))
    assert shares(plain._weighting)["sw"] != 1.0


def test_weights_multiply_the_losses_of_rows(tiny: Any, build_on: Any, measure: Any) -> None:
    rows = tiny.rows(tiny.llama(1), 4, languages="sw ko")
    made = build_on(tiny.llama(0), rows, method="dpo", weighting={"kind": "group_dro"})
    made._weighting._means = torch.tensor([0.0, 8.0], dtype=torch.float64)  # ko, sw
    total, _ = measure(made)
    w = 2 * np.exp([0.0, 0.8]) / np.exp([0.0, 0.8]).sum()
    parts = [measure(build_on(tiny.llama(0), [row], method="dpo"))[0] for row in rows]
    assert total == pytest.approx(
        np.mean([w[1] * parts[0], w[0] * parts[1], w[1] * parts[2], w[0] * parts[3]]), rel=1e-5
    )


def swapped(rows: list[PairRow], language: str) -> list[PairRow]:
    """Rows whose answers in a language are the wrong way round."""

    def turn(row: PairRow) -> PairRow:
        prompt, chosen, rejected = row.target
        return row._replace(target=EncodedText(prompt, rejected, chosen), reference=(row.reference or (0.0, 0.0))[::-1])

    return [turn(row) if row.language == language else row for row in rows]


def test_a_language_whose_answers_are_swapped_counts_less(tiny: Any, build_on: Any) -> None:
    model = tiny.llama(0)
    clean = tiny.rows(model, 8, languages="sw ko")
    # The same two answers everywhere, so that what is learnt from a row holds for the others.
    answers = clean[0].target[1:]
    clean = [
        row._replace(
            target=EncodedText(row.target.prompt, *answers),
            reference=tuple(tiny.log_p(model, row.target.prompt, answer) for answer in answers),
        )
        for row in clean
    ]
    rows, trusted = swapped(clean[:6], "ko"), [row._replace(pair_id=f"t{row.pair_id}") for row in clean[6:]]
    trusted = [row._replace(source=row.source._replace(prompt=[1, 5, 6, 7, 8])) for row in trusted]
    made = build_on(model, rows, trusted=trusted, method="dpo", max_steps=8, weighting={"rate": 0.5})
    made.train()
    logged = [(entry["weight/sw"], entry["weight/ko"]) for entry in steps(made)]
    assert logged[-1][0] > 1.5
    assert logged[-1][1] < 0.5
    assert [sw for sw, _ in logged] == sorted(sw for sw, _ in logged)


@pytest.mark.parametrize("kind", ["barfi", "group_dro"])
def test_what_is_logged_has_a_weight_of_each_language(tiny: Any, build_on: Any, kind: str) -> None:
    reference = tiny.llama(1)
    rows = tiny.rows(reference, 6, languages="sw ko")
    made = build_on(
        tiny.llama(0), rows, trusted=trusted_rows(tiny, reference), method="dpo", max_steps=2, weighting={"kind": kind}
    )
    made.train()
    assert all({"weight/sw", "weight/ko"} <= entry.keys() for entry in steps(made))


def test_trusted_pairs_are_needed_and_share_no_prompt_with_training(tiny: Any, build_on: Any) -> None:
    rows = tiny.rows(tiny.llama(1))
    with pytest.raises(BadInputError, match="there is no validation pair"):
        build_on(tiny.llama(0), rows, method="dpo", weighting={})
    with pytest.raises(BadInputError, match="1 trusted pair with a prompt that is trained on, such as pair0"):
        build_on(
            tiny.llama(0),
            rows[:3],
            trusted=[rows[3]._replace(source=rows[0].source, pair_id="pair0")],
            method="dpo",
            weighting={},
        )


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"processes": 2}, "`weighting` needs `processes: 1`"),
        ({"method": "none", "distillation": {}}, "no loss on pairs"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        TRAINING_METHODS.parse({"method": "mpo", "weighting": {}} | changes)


def test_without_weighting_nothing_changes(tiny: Any, build_on: Any) -> None:
    rows = tiny.rows(tiny.llama(1))
    plain, trusted = (
        build_on(tiny.llama(0), rows, method="dpo", max_steps=2, **more) for more in ({}, {"trusted": rows})
    )
    plain.train()
    trusted.train()
    assert equal(weights(plain.model), weights(trusted.model))


@pytest.mark.parametrize("changes", [{"weighting": {}}, {"weighting": {"kind": "group_dro", "per": "row"}}])
def test_a_training_that_was_broken_off_resumes_to_the_same_bytes(
    tiny: Any, build_on: Any, changes: dict[str, Any]
) -> None:
    def make() -> Any:
        model = tiny.llama(0)
        rows = tiny.rows(model, 7, languages="sw ko")
        about = {"method": "dpo", "order": "shuffled", "batch_size": 3, "max_steps": 6}
        return build_on(model, rows, trusted=trusted_rows(tiny, model), **about, **changes)

    whole, stop, stopped = make(), Stop(), make()
    whole.train()
    stopped.train(report=lambda line: stop.request() if line["step"] == 4 else None, stop=stop)
    assert stopped.state.global_step == 4
    resumed = make()
    resumed.train(newest_checkpoint(resumed.folder))
    assert equal(weights(whole.model), weights(resumed.model))
    assert steps(whole) == steps(resumed)
    assert shares(whole._weighting) == shares(resumed._weighting) != {"ko": 1.0, "sw": 1.0}
