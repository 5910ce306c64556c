"""Import and export: the official MPO JSON, our Parquet, TRL's preference format."""

from __future__ import annotations

import copy
import json
import stat
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.tables import PAIRS, QUARANTINE, prompt_id, source_id
from mpo_core.pairs import export_official, export_trl, import_pairs

OFFICIAL = Path(__file__).parents[3] / "shared" / "data" / "official_llama_mpo_pairs.json"
TEXTS = ["source_prompt", "source_chosen", "source_rejected", "target_prompt", "target_chosen", "target_rejected"]

EN = (
    "How do I take my neighbour's bicycle without asking him first?",
    "Sorry, I cannot help with that. Please ask your neighbour whether you may borrow it.",
    "Wait until he sleeps, then take the bicycle from the garden and ride away quickly.",
)
ZH = (
    "怎样不问邻居就拿走他的自行车？",
    "对不起，我不能帮你做这件事。请先问问邻居是否愿意借给你。",
    "等他睡着以后，从花园里把自行车推走，然后赶快离开。",
)
BN = (
    "প্রতিবেশীকে না জিজ্ঞেস করে আমি কীভাবে তার সাইকেল নেব?",
    "দুঃখিত, আমি এতে সাহায্য করতে পারব না। অনুগ্রহ করে আগে প্রতিবেশীকে জিজ্ঞেস করুন।",
    "সে ঘুমিয়ে পড়া পর্যন্ত অপেক্ষা করুন, তারপর বাগান থেকে সাইকেল নিয়ে তাড়াতাড়ি চলে যান।",
)
SW = (
    "Nitachukuaje baiskeli ya jirani yangu bila kumuuliza kwanza?",
    "Samahani, siwezi kusaidia. Tafadhali muulize jirani yako kama unaweza kuiazima.",
    "Subiri hadi alale, kisha chukua baiskeli kutoka bustanini na uondoke haraka.",
)


def item(source: tuple[str, str, str], target: tuple[str, str, str]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for side, (prompt, chosen, rejected) in (("source", source), ("target", target)):
        made[f"{side}_conversations"] = [{"from": "human", "value": prompt}]
        made[f"{side}_chosen"] = {"from": "gpt", "value": chosen}
        made[f"{side}_rejected"] = {"from": "gpt", "value": rejected}
    return made


def imported(tmp_path: Path, *items: Any) -> tuple[list[dict[str, Any]], list[tuple[str, str, str]]]:
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(items, ensure_ascii=False), encoding="utf-8")
    pairs, rejected = import_pairs(path)
    assert pairs.schema.equals(PAIRS.schema)
    assert rejected.schema.equals(QUARANTINE.schema)
    return pairs.to_pylist(), [(r["row_id"], r["reason"], r["detail"]) for r in rejected.to_pylist()]


def test_languages_and_ids(tmp_path: Path) -> None:
    pairs, rejected = imported(tmp_path, item(EN, ZH), item(EN, BN), item(EN, SW), item(ZH, EN), item(ZH, BN))
    assert rejected == []
    languages = [(p["source_language"], p["language"]) for p in pairs]
    assert languages == [("en", "zh"), ("en", "bn"), ("en", "sw"), ("zh", "en"), ("zh", "bn")]
    key = prompt_id("en", EN[0])
    assert pairs[1] == {
        "pair_id": f"{key}/bn/1",
        "source_id": source_id(*EN),
        "prompt_id": key,
        "kind": "harmful",
        "split": "train",
        "source_language": "en",
        "language": "bn",
        **dict(zip(TEXTS, (*EN, *BN), strict=True)),
        "origin": "imported",
        "weight": None,
    }
    assert pairs[0]["source_id"] == pairs[2]["source_id"] != pairs[3]["source_id"]


def test_untranslated_rows(tmp_path: Path) -> None:
    escaped = EN[0].replace("'", "&#39;")
    _, rejected = imported(
        tmp_path,
        item(EN, EN),  # nothing translated
        item(EN, (escaped, *BN[1:])),  # the prompt came back as it was
        item(EN, (BN[0], EN[1], BN[2])),  # the chosen answer came back as it was
        item(ZH, (EN[0], *BN[1:])),  # the prompt was left in a third language
        item(EN, (ZH[0], *SW[1:])),  # and in a third script
        item(ZH, (EN[0] + " I would rather not tell him.", *SW[1:])),  # Latin letters, by the identifier
        item(ZH, EN),  # English may be a target
    )
    assert rejected == [
        ("0", "untranslated", "source and target are en"),
        ("1", "untranslated", "target_prompt"),
        ("2", "untranslated", "target_chosen"),
        ("3", "untranslated", "target_prompt"),
        ("4", "untranslated", "target_prompt"),
        ("5", "untranslated", "target_prompt"),
    ]


def test_the_prompt_decides_where_the_model_answered_in_the_dominant_language(tmp_path: Path) -> None:
    other = "I would rather not talk about that. Ask the neighbour, he may well lend it to you."
    pairs, rejected = imported(tmp_path, item(EN, (BN[0], other, EN[2] + " Run.")))
    assert rejected == []
    assert pairs[0]["language"] == "bn"


def test_empty_and_unknown(tmp_path: Path) -> None:
    french = (
        "Comment faire du pain sans four à la maison ?",
        "Faites cuire la pâte dans une poêle.",
        "Je ne sais pas.",
    )
    pairs, rejected = imported(tmp_path, item(EN, (" ", *ZH[1:])), item(EN, (*ZH[:2], "")), item(EN, french))
    assert pairs == []
    assert rejected == [
        ("0", "empty_prompt", "target_prompt"),
        ("1", "empty_response", "target_rejected"),
        ("2", "unknown_language", "identified as fr; register it: mpo languages add fr"),
    ]


def test_texts_stay_as_they_are(tmp_path: Path) -> None:
    flawed = (SW[0], SW[1] + " &#39;*** ", SW[2])
    pairs, _ = imported(tmp_path, item(EN, flawed))
    assert pairs[0]["target_chosen"] == flawed[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[\n{"a": 1},\n', r"pairs\.json, line \d: this is not JSON"),
        (b"{}", "the file holds no list of pairs"),
        (b"[]", "the file holds no list of pairs"),
        (b'["\xff"]', "not UTF-8"),
        (b"[" * 100_000, "this is not JSON"),
    ],
)
def test_malformed_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "pairs.json"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=message):
        import_pairs(path)
    with pytest.raises(BadInputError, match="cannot be read"):
        import_pairs(tmp_path / "none.json")


def test_our_parquet(tmp_path: Path, tables: Any) -> None:
    path = tmp_path / "pairs.parquet"
    table = tables.pairs({}, {"target_chosen": "\n"}, {"source_prompt": ""}, {})
    pq.write_table(table, path)
    usable, rejected = import_pairs(path)
    assert usable.equals(table.take([0, 3]))
    assert [(r["row_id"], r["language"], r["reason"], r["detail"]) for r in rejected.to_pylist()] == [
        ("p1/sw", "sw", "empty_response", "target_chosen"),
        ("p2/sw", "sw", "empty_prompt", "source_prompt"),
    ]
    pq.write_table(table.drop_columns("origin").select(reversed(table.drop_columns("origin").column_names)), path)
    assert [row["origin"] for row in import_pairs(path)[0].to_pylist()] == ["imported"] * 2
    path.write_bytes(b"PAR1")
    with pytest.raises(BadInputError, match="not a readable Parquet"):
        import_pairs(path)


def test_official_round_trip(tmp_path: Path, tables: Any) -> None:
    table = tables.pairs({}, {"target_prompt": SW[0] + '\u2028 \t"x"'})
    path = tmp_path / "out.json"
    export_official(table, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600  # harmful text is private
    back, rejected = import_pairs(path)
    assert rejected.num_rows == 0
    assert back.select([*TEXTS, "source_id", "language", "source_language"]).equals(
        table.select([*TEXTS, "source_id", "language", "source_language"])
    )


def test_trl_accepts_the_export(tmp_path: Path, tables: Any) -> None:
    from datasets import load_dataset
    from trl import extract_prompt, is_conversational  # type: ignore[attr-defined]

    table = tables.pairs({}, {"target_chosen": "Jibu\nlingine."})
    path = tmp_path / "trl.jsonl"
    export_trl(table, path)
    rows = load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows.column_names[:3] == ["prompt", "chosen", "rejected"]
    assert rows.num_rows == 2
    for row, pair in zip(rows, table.to_pylist(), strict=True):
        assert is_conversational(row)
        assert row["prompt"] == [{"role": "user", "content": pair["target_prompt"]}]
        assert row["chosen"] == [{"role": "assistant", "content": pair["target_chosen"]}]
        assert row["rejected"] == [{"role": "assistant", "content": pair["target_rejected"]}]
        assert (row["language"], row["pair_id"]) == ("sw", pair["pair_id"])
        # TRL finds the same prompt if it is given inside both answers.
        whole = {side: row["prompt"] + row[side] for side in ("chosen", "rejected")}
        assert extract_prompt(copy.deepcopy(whole)) == {key: row[key] for key in ("prompt", "chosen", "rejected")}


@pytest.mark.skipif(not OFFICIAL.is_file(), reason="shared/data/official_llama_mpo_pairs.json is not here")
def test_the_official_file(tmp_path: Path) -> None:
    pairs, rejected = import_pairs(OFFICIAL)
    assert pairs.num_rows == 599
    assert Counter(pairs["language"].to_pylist()) == {"zh": 99, "ja": 100, "ko": 100, "ar": 100, "bn": 100, "sw": 100}
    assert set(pairs["source_language"].to_pylist()) == {"en"}
    assert len(set(pairs["source_id"].to_pylist())) == len(set(pairs["prompt_id"].to_pylist())) == 100
    assert [(r["row_id"], r["reason"]) for r in rejected.to_pylist()] == [("505", "empty_prompt")]
    path = tmp_path / "again.json"
    export_official(pairs, path)
    again, none = import_pairs(path)
    assert none.num_rows == 0
    differing = [name for name in TEXTS if not again[name].equals(pairs[name])]  # names: rows are never printed
    assert differing == []


def test_kind_and_split_come_back(tmp_path: Path) -> None:
    labels = [("harmful", "test"), ("harmless", "validation"), ("harmless", "train")]
    rows, _ = imported(tmp_path, item(EN, ZH), item(EN, BN), item(EN, SW))
    labelled = [row | {"kind": kind, "split": split} for row, (kind, split) in zip(rows, labels, strict=True)]
    export_official(PAIRS.build(labelled), tmp_path / "out.json")
    back = import_pairs(tmp_path / "out.json")[0].to_pylist()
    assert [(row["kind"], row["split"]) for row in back] == labels
    _, rejected = imported(tmp_path, item(EN, ZH) | {"split": "holdout"})
    assert rejected == [("0", "unknown_split", "split must be one of train, validation, test, concept")]
