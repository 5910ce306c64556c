"""The frozen model's gaps: right, whatever shares the batch, and never NaN."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mpo_core.training import PairText, gaps, source_texts, target_texts


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


def test_figures_equal_a_plain_loop(world: Any, model: Any, tokenizer: Any) -> None:
    texts = target_texts(world.pairs_table(3))
    rows = measure(model, tokenizer, texts)[0].to_pylist()
    for text, row in zip(texts, rows, strict=True):
        chat = [{"role": "user", "content": text.prompt}]
        prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
        for part in ("chosen", "rejected"):
            answer = tokenizer(getattr(text, part))["input_ids"] + [tokenizer.eos_token_id]
            ids = torch.tensor([prompt + answer])
            with torch.no_grad():
                out = model(ids, output_hidden_states=True)
            log_p = out.logits[0].log_softmax(-1)
            steps = [log_p[len(prompt) + i - 1, token].item() for i, token in enumerate(answer)]
            assert row[f"{part}_reward"] == pytest.approx(sum(steps) / len(steps), abs=1e-5)
            assert row[f"{part}_tokens"] == len(answer)
            assert row[f"{part}_pooled"] == pytest.approx(out.hidden_states[-1][0].mean(0).tolist(), abs=1e-5)
        assert row["gap"] == pytest.approx(row["chosen_reward"] - row["rejected_reward"], abs=1e-6)


@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(8)), batch_size=st.integers(1, 8), pooling=st.sampled_from(["mean", "last"]))
def test_gaps_do_not_depend_on_the_batch(
    world: Any, model: Any, tokenizer: Any, order: list[int], batch_size: int, pooling: str
) -> None:
    texts = target_texts(world.pairs_table(4))
    alone = {r["text_id"]: r for r in measure(model, tokenizer, texts, batch_size=1, pooling=pooling)[0].to_pylist()}
    chosen = [texts[i] for i in order]
    together = measure(model, tokenizer, chosen, batch_size=batch_size, pooling=pooling)[0].to_pylist()
    assert [row["text_id"] for row in together] == [text.text_id for text in chosen]
    for row in together:
        for key, value in row.items():
            assert value == pytest.approx(alone[row["text_id"]][key], abs=2e-5) or value == alone[row["text_id"]][key]


def test_bad_rows_are_quarantined_and_the_rest_kept(world: Any, model: Any, tokenizer: Any) -> None:
    good = target_texts(world.pairs_table(2))
    bad = [
        PairText("empty", "sw", "tea?", "", "ndiyo"),
        PairText("long", "ko", "tea " * 300, "no no no no no", "yes"),
    ]
    seen: list[tuple[int, int]] = []
    table, aside = measure(
        model, tokenizer, [bad[0], *good, bad[1]], cutoff=10, batch_size=3, progress=lambda *done: seen.append(done)
    )
    assert table.column("text_id").to_pylist() == [text.text_id for text in good]
    assert [(r["row_id"], r["language"], r["reason"]) for r in aside.to_pylist()] == [
        ("empty", "sw", "empty_response"),
        ("long", "ko", "over_long"),
    ]
    assert seen == [(3, 4), (4, 4)]


def test_a_model_that_gives_no_number(world: Any, model: Any, tokenizer: Any) -> None:
    with torch.no_grad():
        model.lm_head.weight[0] = float("nan")
    table, aside = measure(model, tokenizer, target_texts(world.pairs_table(1)))
    assert table.num_rows == 0
    assert set(aside.column("reason").to_pylist()) == {"not_finite"}


@pytest.mark.parametrize("pooling", [None, "padded_mean"])
def test_no_states_where_none_belong_to_a_text(world: Any, model: Any, tokenizer: Any, pooling: str | None) -> None:
    table, _ = measure(model, tokenizer, target_texts(world.pairs_table(1)), pooling=pooling)
    assert table.column("chosen_pooled").null_count == table.num_rows == 2
