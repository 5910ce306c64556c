"""Pairs that leave for another tool and come back: every column is as it was."""

import json

import pytest

from mpo_core.contract.tables import PAIRS
from mpo_core.pairs import export_official, export_trl, import_pairs
from tests.faults.conftest import pair_rows

CHANGES = {
    "weights": {"weight": 0.3},
    "a weight of one": {"weight": 1.0},
    "a tiny weight": {"weight": 1e-30},
    "origin translated": {"origin": "translated"},
    "origin sampled": {"origin": "sampled"},
    "origin mixed": {"origin": "mixed"},
    "harmless": {"kind": "harmless"},
    "a split": {"split": "validation"},
    "ids of one's own": {"pair_id": "mine/0", "source_id": "mine", "prompt_id": "also mine"},
    "a language that is not the identified one": {"language": "ko"},
    "equal texts": {"target_prompt": "OK 42", "source_prompt": "OK 42"},
    "odd characters": {"target_chosen": ' a\u2028b\r\n\t"c" \\ \x7f &#39; <b> 😀 '},
}
FORMS = {"official": (export_official, "out.json"), "trl": (export_trl, "out.jsonl")}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_column_comes_back(tmp_path, form, change):
    export, name = FORMS[form]
    rows = pair_rows(3)
    rows[0] |= change
    table = PAIRS.build(rows)
    export(table, tmp_path / name)
    back, rejected = import_pairs(tmp_path / name)
    assert rejected.num_rows == 0
    assert [column for column in PAIRS.schema.names if not back[column].equals(table[column])] == []


@pytest.mark.parametrize("form", FORMS)
def test_through_the_command(mpo, tmp_path, form):
    import pyarrow.parquet as pq

    rows = pair_rows(2)
    rows[0] |= {"weight": 0.25, "origin": "translated"}
    pq.write_table(PAIRS.build(rows), tmp_path / "a.parquet")
    out = tmp_path / FORMS[form][1]
    exported = mpo("pairs", "export", tmp_path / "a.parquet", "--format", form, "--out", out, "--json")
    counts = {"languages": {"sw": 2}, "kinds": {"harmful": 2}, "splits": {"train": 2}}
    assert json.loads(exported.out) == {"pairs": 2, **counts, "out": str(out)}
    back = json.loads(mpo("pairs", "import", out, "--out", tmp_path / "b.parquet", "--json").out)
    assert (back["pairs"], back["quarantined"], "quarantine" in back) == (2, 0, False)
    assert pq.read_table(tmp_path / "b.parquet").equals(pq.read_table(tmp_path / "a.parquet"))


def _exported(tmp_path, **changes):
    path = tmp_path / "out.json"
    export_official(PAIRS.build(pair_rows(2)), path)
    items = json.loads(path.read_text())
    items[1] |= changes
    path.write_text(json.dumps(items))
    return path


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"language": "xx"}, "unknown_language"),
        ({"pair_id": pair_rows(1)[0]["pair_id"]}, "repeated_id"),
        ({"source_id": pair_rows(1)[0]["source_id"]}, "source_differs"),
    ],
)
def test_labels_that_do_not_fit_reject_the_row(tmp_path, changes, reason):
    pairs, rejected = import_pairs(_exported(tmp_path, **changes))
    assert pairs.num_rows == 1
    assert [(row["row_id"], row["reason"]) for row in rejected.to_pylist()] == [("1", reason)]
