"""The frozen model's gaps: right, whatever shares the batch, and never NaN."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mpo_core.contract.errors import BadInputError
from mpo_core.training import forward, reference
from mpo_core.training.encoding import EncodedText, PairText, encode_text
from mpo_core.training.layout import Item, pack
from mpo_core.training.reference import gaps, source_texts, target_texts
from tests.training import plain


def measure(model: Any, tokenizer: Any, texts: list[PairText], **changes: Any) -> Any:
    options: dict[str, Any] = {"cutoff": 1024, "system": None, "pooling": "mean"} | changes
    return gaps(model, tokenizer, texts, **options)


def test_texts_of_a_table(world: Any) -> None:
    pairs = world.pairs_table(3)
    assert [text.text_id for text in source_texts(pairs)] == pairs.column("source_id").to_pylist()[::2]
    first = pairs.to_pylist()[0]
    assert target_texts(pairs)[0] == PairText(
        first["pair_id"], "sw", first["target_prompt"], first["target_chosen"], first["target_rejected"]
    )
    assert len(target_texts(pairs)) == 6


@pytest.mark.parametrize("packed", [True, False])
def test_states_of_the_middle_layer(world: Any, model: Any, tokenizer: Any, monkeypatch: Any, packed: bool) -> None:
    if not packed:
        monkeypatch.setattr(forward, "can_pack", lambda _: False)
    texts = target_texts(world.pairs_table(2))
    middle = (model.config.num_hidden_layers + 1) // 2
    table, _ = measure(model, tokenizer, texts, pooling="last", middle=True)
    assert table["gap"].to_pylist() == pytest.approx(measure(model, tokenizer, texts)[0]["gap"].to_pylist(), abs=1e-6)
    for text, row in zip(texts, table.to_pylist(), strict=True):
        ids = encode_text(tokenizer, text, cutoff=1024, system=None)
        for answer, states in ((ids.chosen, row["chosen_pooled"]), (ids.rejected, row["rejected_pooled"])):
            tokens = torch.tensor([[*ids.prompt, *answer]])
            with torch.no_grad():
                expected = model(input_ids=tokens, output_hidden_states=True).hidden_states[middle][0, -1]
            assert states == pytest.approx(expected.tolist(), abs=1e-5)


def test_where_memory_runs_out_passes_are_halved(world: Any, model: Any, tokenizer: Any, monkeypatch: Any) -> None:
    texts = target_texts(world.pairs_table(4))
    expected, _ = measure(model, tokenizer, texts, tokens_per_forward=1)
    original, sizes, limit = reference._measure, [], 2

    def limited(model: Any, pad_id: int, batch: Any, *args: Any, **options: Any) -> Any:
        sizes.append(len(batch))
        if len(batch) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return original(model, pad_id, batch, *args, **options)

    monkeypatch.setattr(reference, "_measure", limited)
    table, _ = measure(model, tokenizer, texts)
    assert sizes == [8, 4, 2, 2, 2, 2]
    assert table["gap"].to_pylist() == pytest.approx(expected["gap"].to_pylist(), abs=1e-6)
    limit = 0
    with pytest.raises(BadInputError, match="memory is too small for the"):
        measure(model, tokenizer, texts)


@pytest.mark.parametrize("tokens_per_forward", [1, 100, 4096])
@pytest.mark.parametrize("packed", [True, False])
def test_figures_are_the_plain_ones(
    world: Any, model: Any, tokenizer: Any, monkeypatch: Any, packed: bool, tokens_per_forward: int
) -> None:
    if not packed:
        monkeypatch.setattr(forward, "can_pack", lambda _: False)
    texts = target_texts(world.pairs_table(3))
    table, rejected = measure(model, tokenizer, texts, digest="the model", tokens_per_forward=tokens_per_forward)
    assert rejected.num_rows == 0
    rows = table.to_pylist()
    assert [row["text_id"] for row in rows] == [text.text_id for text in texts]
    for text, row in zip(texts, rows, strict=True):
        chat = [{"role": "user", "content": text.prompt}]
        prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
        answers = [tokenizer(answer)["input_ids"] + [tokenizer.eos_token_id] for answer in (text.chosen, text.rejected)]
        with torch.no_grad():
            measurement = plain.measured(model, [(prompt, answer) for answer in answers])
        for part, answer, log_p, states in zip(("chosen", "rejected"), answers, *measurement[:2], strict=True):
            assert row[f"{part}_reward"] == pytest.approx(log_p.item() / len(answer), abs=1e-5)
            assert row[f"{part}_tokens"] == len(answer)
            assert row[f"{part}_pooled"] == pytest.approx(states.mean(0).tolist(), abs=1e-5)
        assert row["gap"] == pytest.approx(row["chosen_reward"] - row["rejected_reward"], abs=1e-6)
        assert row["ids"] == EncodedText(prompt, *answers).digest()
        assert (row["model"], row["language"], row["kind"]) == ("the model", text.language, text.kind)


@hypothesis_settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(8)), tokens=st.integers(1, 500), pooling=st.sampled_from(["mean", "last"]))
def test_gaps_do_not_depend_on_the_cut_into_forwards(
    world: Any, model: Any, tokenizer: Any, order: list[int], tokens: int, pooling: str
) -> None:
    texts = target_texts(world.pairs_table(4))
    whole, _ = measure(model, tokenizer, texts, tokens_per_forward=1, pooling=pooling)
    alone = {row["text_id"]: row for row in whole.to_pylist()}
    chosen = [texts[i] for i in order]
    together = measure(model, tokenizer, chosen, tokens_per_forward=tokens, pooling=pooling)[0].to_pylist()
    assert [row["text_id"] for row in together] == [text.text_id for text in chosen]
    for row in together:
        for key, value in row.items():
            assert value == pytest.approx(alone[row["text_id"]][key], abs=2e-5) or value == alone[row["text_id"]][key]


def test_bad_rows_are_quarantined_and_the_rest_measured(world: Any, model: Any, tokenizer: Any) -> None:
    good = target_texts(world.pairs_table(2))
    bad = [
        PairText("empty", "sw", "tea?", "", "ndiyo"),
        PairText("long", "ko", "tea " * 300, "no no no no no", "yes"),
    ]
    seen: list[tuple[int, int]] = []
    table, rejected = measure(
        model, tokenizer, [bad[0], *good, bad[1]], cutoff=10, tokens_per_forward=30,
        progress=lambda *done: seen.append(done),
    )  # fmt: skip
    assert table.column("text_id").to_pylist() == [text.text_id for text in good]
    assert [(r["row_id"], r["language"], r["reason"]) for r in rejected.to_pylist()] == [
        ("empty", "sw", "empty_response"),
        ("long", "ko", "over_long"),
    ]
    assert [total for _, total in seen] == [4] * len(seen)
    assert len(seen) > 1
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (4, 4)


def test_a_model_that_gives_no_number(world: Any, model: Any, tokenizer: Any) -> None:
    with torch.no_grad():
        model.lm_head.weight[0] = float("nan")
    table, rejected = measure(model, tokenizer, target_texts(world.pairs_table(1)))
    assert table.num_rows == 0
    assert set(rejected.column("reason").to_pylist()) == {"not_finite"}


def test_a_row_that_gives_no_number_is_rejected_alone(world: Any, model: Any, tokenizer: Any) -> None:
    texts = target_texts(world.pairs_table(3))
    token = tokenizer(" bread")["input_ids"][-1]
    broken = [text.text_id for text in texts if token in tokenizer(text.prompt)["input_ids"]]
    assert 0 < len(broken) < len(texts)
    with torch.no_grad():
        model.get_input_embeddings().weight[token] = float("inf")
    table, rejected = measure(model, tokenizer, texts)
    assert sorted(rejected["row_id"].to_pylist()) == sorted(broken)
    assert table["text_id"].to_pylist() == [text.text_id for text in texts if text.text_id not in broken]


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_bfloat16_is_that_of_training(world: Any, model: Any, tokenizer: Any, pooling: str) -> None:
    # So that L2 starts at nothing: the figures are those of a forward under the same autocast.
    text = target_texts(world.pairs_table(1))[0]
    [row] = measure(model, tokenizer, [text], precision="bfloat16", pooling=pooling)[0].to_pylist()
    [exact] = measure(model, tokenizer, [text], pooling=pooling)[0].to_pylist()
    ids = encode_text(tokenizer, text, cutoff=1024, system=None)
    assert isinstance(ids, EncodedText)
    with torch.no_grad(), forward.scoring(model, packed=True), torch.autocast("cpu", torch.bfloat16):
        out = model(layout=pack([Item(ids, scored=True, pooled=True)], pooling))
    assert row["chosen_pooled"] == out.pooled[0].tolist() != exact["chosen_pooled"]
    assert row["chosen_reward"] == pytest.approx(out.log_p[0].item() / len(ids.chosen), rel=1e-6)
    assert row["chosen_reward"] != exact["chosen_reward"]
    assert row["chosen_reward"] == pytest.approx(exact["chosen_reward"], rel=0.02)


@pytest.mark.parametrize("pooling", [None, "padded_mean"])
def test_no_states_where_none_belong_to_a_text(world: Any, model: Any, tokenizer: Any, pooling: str | None) -> None:
    table, _ = measure(model, tokenizer, target_texts(world.pairs_table(1)), pooling=pooling)
    assert table.column("chosen_pooled").null_count == table.num_rows == 2
