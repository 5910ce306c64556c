"""Pairs joined with their reference: by id, of the right model and text, or not at all."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.tables import PAIRS, TRANSLATIONS
from mpo_core.models.chat import encode_prompt
from mpo_core.training.collator import join
from mpo_core.training.encoding import PairText, encode_text


def joined(pairs: pa.Table, references: pa.Table, tokenizer: Any, settings: Any, **options: Any) -> Any:
    options = {"system": None} | options
    return join(pairs, references=references, tokenizer=tokenizer, settings=settings, **options)


def changed(pairs: pa.Table, changes: dict[int, dict[str, Any]]) -> pa.Table:
    rows = pairs.to_pylist()
    for number, change in changes.items():
        rows[number] |= change
    return PAIRS.build(rows)


def test_joining_by_id(world: Any, model: Any, tokenizer: Any) -> None:
    pairs = world.pairs_table(4)
    references = world.references_for(model, tokenizer, pairs)
    known = {row["text_id"]: row for row in references.to_pylist()}
    shuffled = references.take(list(reversed(range(references.num_rows))))
    for mode in ("own", "dominant"):
        rows, rejected = joined(pairs, shuffled, tokenizer, world.settings(anchor_gap=mode))
        assert rejected.num_rows == 0
        for row, pair in zip(rows, pairs.to_pylist(), strict=True):
            own = mode == "own" and pair["kind"] == "harmless"
            assert (row.pair_id, row.source_id, row.language) == tuple(
                pair[name] for name in ("pair_id", "source_id", "language")
            )
            assert row.anchor_gap == known[pair["pair_id"] if own else pair["source_id"]]["gap"]
            assert row.pooled is not None
            assert row.pooled[0].tolist() == known[pair["source_id"]]["chosen_pooled"]
            assert row.pooled[1].tolist() == known[pair["source_id"]]["rejected_pooled"]
            for side in ("source", "target"):
                text = PairText("", "", *(pair[f"{side}_{part}"] for part in ("prompt", "chosen", "rejected")))
                assert getattr(row, side) == encode_text(tokenizer, text, cutoff=1024, system=None)


def test_beta_of_the_language_and_weight_of_the_row(world: Any, model: Any, tokenizer: Any) -> None:
    pairs = changed(world.pairs_table(2), {1: {"weight": 0.25}, 2: {"weight": 3.0}})
    references = world.references_for(model, tokenizer, pairs)
    for beta, expected in (
        ({"sw": 1.5, "default": 0.5}, [1.5, 0.5, 1.5, 0.5]),
        ({"sw": 1.5}, [1.5, 1.0, 1.5, 1.0]),
        (2.0, [2.0] * 4),
    ):
        rows, _ = joined(pairs, references, tokenizer, world.settings(beta=beta))
        assert [row.beta for row in rows] == expected
        assert [row.weight for row in rows] == [1.0, 0.25, 3.0, 1.0]


def test_rows_that_cannot_train_are_rejected_with_the_reason(world: Any, model: Any, tokenizer: Any) -> None:
    pairs = world.pairs_table(4)
    rows = pairs.to_pylist()
    references = world.references_for(model, tokenizer, pairs)
    gone = {rows[2]["source_id"], rows[6]["pair_id"]}  # a dominant gap; an own gap (row 6 is harmless)
    remaining = references.filter([value not in gone for value in references.column("text_id").to_pylist()])
    table = changed(
        pairs,
        {0: {"target_rejected": " "}, 1: {"weight": 0.0}, 4: {"weight": -1.0}, 5: {"weight": float("nan")}},
    )
    trained, rejected = joined(table, remaining, tokenizer, world.settings(anchor_gap="own"))
    assert {(row["row_id"], row["reason"], row["detail"]) for row in rejected.to_pylist()} == {
        (rows[0]["pair_id"], "empty_response", "empty: rejected"),
        (rows[1]["pair_id"], "no_weight", "weight 0.0"),
        (rows[2]["pair_id"], "no_reference", "dominant pair"),
        (rows[3]["pair_id"], "no_reference", "dominant pair"),
        (rows[4]["pair_id"], "no_weight", "weight -1.0"),
        (rows[5]["pair_id"], "no_weight", "weight nan"),
        (rows[6]["pair_id"], "no_reference", "target pair"),
    }
    assert [row.pair_id for row in trained] == [rows[7]["pair_id"]]


@pytest.mark.parametrize(
    "other",
    [
        {"system": "Be kind."},  # another rendering of the template
        {"cutoff": 20},
        {"source_chosen": "I would rather talk about something else."},
    ],
    ids=["template", "cut-off", "text"],
)
def test_references_of_another_text_are_refused(world: Any, model: Any, tokenizer: Any, other: dict[str, Any]) -> None:
    pairs = world.pairs_table(2)
    references = world.references_for(model, tokenizer, pairs)
    if "source_chosen" in other:  # the id is the table's word, the digest is of the text
        pairs = changed(pairs, {0: other, 1: other})
    settings = world.settings(cutoff=other.get("cutoff", 1024))
    with pytest.raises(
        BadInputError, match="the reference was measured with another text, chat template, tokenizer or cut-off"
    ) as e:
        joined(pairs, references, tokenizer, settings, system=other.get("system"))
    assert pairs["source_id"][0].as_py() in e.value.where
    assert "\n" not in str(e.value)
    assert not any(text in str(e.value) for text in pairs["source_prompt"].to_pylist())


def test_translations_without_pairs_join_by_prompt_and_are_not_cut(world: Any, model: Any, tokenizer: Any) -> None:
    pairs = world.pairs_table(2)
    first, second = dict.fromkeys(pairs["prompt_id"].to_pylist())
    long = "tala " * 400
    given = [(first, "tl", "ulan"), (first, "bn", "a b"), (second, "tl", long), ("of no pair", "tl", long)]
    about = {"role": "prompt", "engine": "imported", "weight": 1.0, "marks": [], "gates": []}
    table = TRANSLATIONS.build(
        {"prompt_id": prompt_id, "language": code, "text": text} | about for prompt_id, code, text in given
    )
    references = world.references_for(model, tokenizer, pairs)
    rows, rejected = joined(pairs, references, tokenizer, world.settings(cutoff=400), translations=table)
    expected = [(code, encode_prompt(tokenizer, text)) for prompt_id, code, text in given if prompt_id == first]
    assert [list(row.translations) for row in rows] == [expected, expected, [], []]
    (reason,) = rejected.to_pylist()
    assert (reason["row_id"], reason["language"], reason["reason"]) == (f"{second}/tl", "tl", "over_long")
    assert rows[0].longest == max(rows[0].source.longest, rows[0].target.longest)
    assert rows[0]._replace(translations=(("tl", [1] * 300),)).longest == 300


def test_references_of_another_template_are_refused(world: Any, model: Any, tokenizer: Any) -> None:
    pairs = world.pairs_table(1)
    references = world.references_for(model, tokenizer, pairs)
    joined(pairs, references, tokenizer, world.settings())
    tokenizer.chat_template = tokenizer.chat_template.replace("assistant\n", "model\n")
    with pytest.raises(BadInputError, match="another text, chat template"):
        joined(pairs, references, tokenizer, world.settings())


def test_references_of_another_model_are_refused(world: Any, model: Any, tokenizer: Any) -> None:
    pairs = world.pairs_table(1)
    references = world.references_for(model, tokenizer, pairs, digest="a" * 64)
    assert joined(pairs, references, tokenizer, world.settings(), model="a" * 64)[1].num_rows == 0
    with pytest.raises(BadInputError, match=r"on another model \(aaaaaaaaaaaa\)"):
        joined(pairs, references, tokenizer, world.settings(), model="b" * 64)


def test_states_are_required_where_retention_needs_them(world: Any, model: Any, tokenizer: Any) -> None:
    pairs = world.pairs_table(1)
    references = world.references_for(model, tokenizer, pairs, pooling="padded_mean")
    with pytest.raises(BadInputError, match="pooled hidden states"):
        joined(pairs, references, tokenizer, world.settings())
    rows, _ = joined(pairs, references, tokenizer, world.settings(**{"retention.pooling": "padded_mean"}))
    assert [row.pooled for row in rows] == [None, None]
