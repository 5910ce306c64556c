"""The contract of the house: schemas, keys, stable ids."""

import pyarrow as pa
import pytest

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.tables import ALL_TABLES, GAPS, QUARANTINE, TRANSLATIONS, prompt_id, source_id

ROW = {
    "prompt_id": "a",
    "role": "prompt",
    "language": "sw",
    "text": "chai",
    "engine": "memory",
    "weight": 1.0,
    "marks": [],
    "gates": [],
}


@pytest.mark.parametrize("spec", ALL_TABLES, ids=lambda spec: spec.name)
def test_every_table_is_explained_and_has_a_key_that_is_never_null(spec):
    nullable = {column.name for column in spec.columns if column.nullable}
    names = [column.name for column in spec.columns]
    assert len(names) == len(set(names))
    assert spec.key
    assert set(spec.key) <= set(names) - nullable
    assert all(field.metadata[b"meaning"] for field in spec.schema)
    assert spec.build([]).schema.equals(spec.schema, check_metadata=True)


def test_rows_come_back_as_they_were():
    assert TRANSLATIONS.build([ROW]).to_pylist() == [ROW]
    gap = {"text_id": "a", "language": "sw", "kind": "harmful", "gap": 0.1, "chosen_reward": 1, "rejected_reward": 2.0}
    more = {"chosen_tokens": 1, "rejected_tokens": 2, "ids": "i", "model": "m"}
    [row] = GAPS.build([gap | more]).to_pylist()
    assert row["gap"] == pa.scalar(0.1, pa.float32()).as_py()
    assert row["chosen_pooled"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.drop_columns("engine"),
            r"here: columns differ.*missing \['engine'\].*Expected exactly: prompt_id,",
        ),
        (lambda t: t.append_column("x", pa.array([1])), r"here: columns differ.*unexpected \['x'\]"),
        (lambda t: t.select(t.column_names[::-1]), "here: columns differ"),
        (lambda t: t.set_column(3, "text", pa.array([["list"]])), "here: a column has another type"),
        (lambda t: t.set_column(3, "text", pa.array([None], pa.string())), "here: .*null"),
        (lambda t: pa.concat_tables([t, t]), "here: the key .* repeats in 1 row"),
    ],
    ids=["missing", "unexpected", "order", "type", "null", "key"],
)
def test_what_breaks_the_contract_is_refused(change, message):
    with pytest.raises(BadInputError, match=message):
        TRANSLATIONS.check(change(TRANSLATIONS.build([ROW])), where="here")


def test_a_key_of_several_columns_repeats_only_as_a_whole():
    both = [{"row_id": "a", "language": None, "reason": reason, "detail": ""} for reason in ("echo", "too_alike")]
    assert QUARANTINE.build(both).num_rows == 2
    with pytest.raises(BadInputError, match="repeats in 1 row"):
        QUARANTINE.build([*both, both[0]])


def test_ids_are_stable_for_ever():
    # Written down: a change of these would part every artifact from its prompts.
    assert prompt_id("en", "Bake bread.") == "c694e3077db4abd6"
    assert source_id("a", "b", "c") == "8badde10c760e9b7"
    assert prompt_id("en", "x") != prompt_id("sw", "x")
    assert source_id("a", "bc", "d") != source_id("ab", "c", "d")
