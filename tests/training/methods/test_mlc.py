"""The consistency loss: its limits, and a training step against transformers' own forward and numpy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from mpo_core.contract.errors import BadInputError
from mpo_core.training.collator import PairRow
from mpo_core.training.consistency import consistency_loss, groups
from mpo_core.training.encoding import EncodedText
from tests.training.runs import equal, steps, weights

MLC = {"weight": 0.5, "width": 6, "every": 1}


def loss_of(vectors: Any, **changes: Any) -> float:
    settings = {"temperature": 0.2, "anchor": False} | changes
    return float(consistency_loss(torch.as_tensor(vectors, dtype=torch.float64), **settings))


def test_equal_directions_and_orthogonal_ones_are_the_limits() -> None:
    equal_rows = torch.tensor([[3.0, -1.0, 2.0, 0, 1, 1, -4]]) * torch.arange(1.0, 8.0)[:, None]
    assert loss_of(equal_rows) == pytest.approx(math.log(1 + 6 * math.exp(-5)), abs=1e-12)
    assert round(loss_of(equal_rows), 4) == 0.0396
    assert loss_of(3.0 * torch.eye(7, 9)) == pytest.approx(math.log(7), abs=1e-12)
    assert loss_of(equal_rows * torch.tensor([1.0, -1, 1, -1, 1, -1, 1])[:, None]) == pytest.approx(loss_of(equal_rows))


def test_states_that_are_not_finite_give_no_loss() -> None:
    assert math.isnan(loss_of([[1.0, math.nan], [1.0, 2.0]]))
    assert math.isnan(loss_of([[1.0, math.inf], [1.0, 2.0]]))


def test_it_is_that_of_numpy_whatever_the_order_of_languages() -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 8))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    q = np.sqrt(np.maximum(np.linalg.eigvalsh(unit @ unit.T)[::-1], 0))  # another road to singular values
    q = q / q[0] / 0.3
    assert loss_of(vectors, temperature=0.3) == pytest.approx(-q[0] + math.log(np.exp(q).sum()), rel=1e-9)
    assert loss_of(vectors[[3, 1, 4, 0, 2]]) == pytest.approx(loss_of(vectors), rel=1e-12)


@pytest.mark.parametrize("anchor", [False, True])
def test_the_gradient_holds_the_largest_singular_value_and_the_anchor_constant(anchor: bool) -> None:
    start = torch.randn(4, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    vectors = start.clone().requires_grad_()
    consistency_loss(vectors, temperature=0.2, anchor=anchor).backward()  # type: ignore[no-untyped-call]
    largest = float(torch.linalg.svdvals(torch.nn.functional.normalize(start))[0])

    def moved(place: tuple[int, int], by: float) -> float:
        changed = start.clone()
        changed[place] += by
        q = torch.linalg.svdvals(torch.nn.functional.normalize(changed)) / largest / 0.2
        return float(q.logsumexp(0) - q[0])

    assert vectors.grad is not None
    for place in ((0, 1), (2, 3), (3, 5)):
        expected = 0.0 if anchor and place[0] == 0 else (moved(place, 1e-6) - moved(place, -1e-6)) / 2e-6
        assert float(vectors.grad[place]) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def translated(tiny: Any) -> list[PairRow]:
    """Two source prompts in two languages each, the second also in one without pairs; then a second pair for the first
    of them, and one that is untranslated."""
    some: list[PairRow] = tiny.rows(tiny.llama(1), 6, languages="sw ko")
    prompts = [row.target.prompt for row in some]
    sources = [prompts[4], prompts[4], prompts[5], prompts[5], prompts[4], prompts[5]]
    others = [(), (), (("tl", prompts[0]), ("tl", prompts[3])), (("tl", prompts[0]),), (), (("bn", prompts[5]),)]
    return [
        row._replace(source=EncodedText(source, *row.source[1:]), language=language, translations=translations)
        for row, source, language, translations in zip(
            some, sources, ["sw", "ko", "sw", "ko", "sw", "bn"], others, strict=True
        )
    ]


def test_groups_are_by_source_prompt_with_a_language_once_and_no_untranslated_prompt(tiny: Any) -> None:
    rows = translated(tiny)
    prompts = [row.target.prompt for row in rows]
    assert rows[5].source.prompt == prompts[5]
    made = groups(rows)
    assert [group.prompts for group in made.values()] == [
        [prompts[4], prompts[0], prompts[1]],
        [prompts[5], prompts[2], prompts[0], prompts[3]],
    ]
    assert groups(rows[5:]) == {}


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("layer", [None, 1, 2])
@pytest.mark.parametrize("anchor", [False, True])
def test_a_step_has_the_loss_and_the_gradients_of_a_plain_forward(
    tiny: Any, build_on: Any, measure: Any, layout: str, layer: int | None, anchor: bool
) -> None:
    rows, extra = translated(tiny), MLC | {"layer": layer, "anchor": anchor}
    plain, base = measure(build_on(tiny.llama(0), rows, method="dpo", layout=layout))
    made = build_on(tiny.llama(0), rows, method="dpo", layout=layout, consistency=extra)
    total, gradients = measure(made)

    model, projection = tiny.llama(0), made._auxiliary[0].projection
    losses = []
    for group in groups(rows).values():
        states = []
        for number, ids in enumerate(group.prompts):
            out = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[2 if layer is None else layer]
            states.append(out[0, -1].detach() if anchor and number == 0 else out[0, -1])
        z = torch.nn.functional.normalize(torch.stack(states) @ projection.weight.detach().T + projection.bias.detach())
        if anchor:
            z = torch.cat([z[:1].detach(), z[1:]])
        s = torch.linalg.svd(z)[1]
        losses.append(torch.nn.functional.cross_entropy((s / s[0].detach() / 0.2)[None], torch.tensor([0])))
    expected = 0.5 * torch.stack(losses).mean()
    expected.backward()
    assert total - plain == pytest.approx(float(expected.detach()), rel=1e-4)
    for name, weight in model.named_parameters():
        added = torch.zeros_like(weight) if weight.grad is None else weight.grad
        torch.testing.assert_close(gradients[name] - base[name], added, rtol=1e-3, atol=2e-6)
    assert projection.weight.grad.norm() > 0


@pytest.mark.parametrize("off", [{"weight": 0.0}, {"every": 1000}], ids=["no weight", "never counts"])
def test_without_weight_a_training_is_that_of_its_method_bit_for_bit(build: Any, off: dict[str, Any]) -> None:
    plain, with_it = build(), build({"consistency": MLC | off})
    plain.train()
    with_it.train()
    assert equal(weights(plain.model), weights(with_it.model))
    assert all("loss/consistency" not in entry for entry in steps(with_it))


def test_it_counts_in_every_second_step_and_trains_its_projection(build: Any) -> None:
    made = build({"consistency": MLC | {"every": 2}})
    before = made._auxiliary[0].projection.weight.detach().clone()
    made.train()
    logged = [entry.get("loss/consistency") for entry in steps(made)]
    assert [figure is not None for figure in logged] == [False, True, False, True]
    assert 0.0 < logged[3] < math.log(3)
    assert not torch.equal(made._auxiliary[0].projection.weight, before)
    assert not any("projection" in name for name, _ in made.model.named_parameters())


def test_what_cannot_be_compared_is_refused(build: Any, tiny: Any, build_on: Any) -> None:
    with pytest.raises(BadInputError, match="there is no layer 9"):
        build({"consistency": {"layer": 9}})
    with pytest.raises(BadInputError, match="no prompt of the pairs has a translation"):
        build_on(tiny.llama(0), tiny.rows(tiny.llama(1)), method="dpo", consistency=MLC)
