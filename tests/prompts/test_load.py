"""Sources into prompts: ids, kinds, splits, limits, and what is set rejected."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.prompts import PROMPT_SOURCES, PromptSource
from mpo_core.contract.tables import PROMPTS, QUARANTINE, prompt_id
from mpo_core.files.records import open_records
from mpo_core.prompts.load import load_prompts
from mpo_core.settings import PromptSettings

MULTIJAIL = Path(__file__).parents[3] / "shared" / "data" / "MultiJail.csv"


def load(
    *sources: PromptSource, seed: int = 0, validation: float = 0.1, test: float = 0.3
) -> tuple[pa.Table, pa.Table]:
    settings = PromptSettings(sources=list(sources), validation=validation, test=test)
    prompts, _, rejected = load_prompts(settings, dominant="en", seed=seed)
    return prompts, rejected


def csv_source(path: Path, text: str, **settings: object) -> PromptSource:
    path.write_bytes(text.encode())
    return PROMPT_SOURCES.parse({"source": "csv", "path": str(path), "kind": "harmless", **settings})


def test_csv_with_byte_order_mark_quotes_and_columns(tmp_path: Path) -> None:
    text = (
        "\ufefftext,label,topic,good,bad\r\n"
        '"Bake bread,\r\nplease.",safe,food,Mix flour.,No.\r\n'
        "Pick a lock.,unsafe,crime,No.,  \r\n"
    )
    source = csv_source(
        tmp_path / "a.csv",
        text,
        kind=None,
        kind_column="label",
        category_column="topic",
        chosen_column="good",
        rejected_column="bad",
        split="train",
    )
    prompts, rejected = load(source)
    assert prompts.schema.equals(PROMPTS.schema)
    assert rejected.schema.equals(QUARANTINE.schema)
    assert rejected.num_rows == 0
    assert prompts.to_pylist() == [
        {
            "prompt_id": prompt_id("en", "Bake bread,\r\nplease."),
            "text": "Bake bread,\r\nplease.",
            "kind": "harmless",
            "split": "train",
            "category": "food",
            "source": "a.csv",
            "row": 0,
            "chosen": "Mix flour.",
            "rejected": "No.",
        },
        {
            "prompt_id": prompt_id("en", "Pick a lock."),
            "text": "Pick a lock.",
            "kind": "harmful",
            "split": "train",
            "category": "crime",
            "source": "a.csv",
            "row": 1,
            "chosen": "No.",
            "rejected": None,
        },
    ]


def test_files_of_a_folder_have_the_columns_and_types_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "README.md").write_text("Rows of many files.")
    (tmp_path / "_part.parquet").write_text("hidden")
    pq.write_table(pa.table({"text": ["Bake."], "safe": [True], "topic": pa.nulls(1)}), tmp_path / "a.parquet")
    pq.write_table(
        pa.table({"text": ["Knit."], "safe": [2], "topic": ["wool"], "by": ["me"]}), tmp_path / "b" / "a.parquet"
    )
    records = open_records(tmp_path, "parquet", fix="-")
    assert records.columns == ["text", "safe", "topic", "by"]
    assert [(record.row, dict(record.values)) for record in records.rows] == [
        (0, {"text": "Bake.", "safe": True, "topic": None}),
        (1, {"text": "Knit.", "safe": 2, "topic": "wool", "by": "me"}),
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInputError, match="the folder holds no Parquet file"):
        open_records(tmp_path / "empty", "parquet", fix="-")


def test_jsonl_parquet_and_dataset_give_the_same_prompts(tmp_path: Path) -> None:
    rows = [{"text": f"Sing song {i}.\u2028", "harmful": i % 2 == 0} for i in range(6)]
    (tmp_path / "p.jsonl").write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in rows), encoding="utf-8")
    folder = tmp_path / "parquet" / "language=en"  # must not become a column
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "p.parquet")
    assert open_records(folder.parent, "parquet", fix="-").columns == ["text", "harmful"]
    datasets.DatasetDict({"dev": datasets.Dataset.from_list(rows)}).save_to_disk(str(tmp_path / "saved"))
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "single"))
    tables = [
        load(
            PROMPT_SOURCES.parse(
                {"source": kind, "path": str(path), "kind_column": "harmful"}
                | ({"dataset_split": "dev"} if kind == "dataset" else {})
            )
        )[0]
        for kind, path in (
            ("jsonl", tmp_path / "p.jsonl"),
            ("parquet", folder / "p.parquet"),
            ("dataset", tmp_path / "saved"),
            ("dataset", tmp_path / "single"),
        )
    ]
    wanted = [("harmful" if r["harmful"] else "harmless", r["text"]) for r in rows]
    for table in tables:
        assert list(zip(table["kind"].to_pylist(), table["text"].to_pylist(), strict=True)) == wanted
        assert table.drop_columns("source").equals(tables[0].drop_columns("source"))


def test_no_parquet_file_of_a_folder_is_left_out(tmp_path: Path) -> None:
    rows = {"a.parquet": "A", "b.pq": "B", "c.parquet.gz": "C", "d.PARQUET": "D", "e.pq.gz": "E", "part-00000": "F"}
    for name, text in rows.items():
        pq.write_table(pa.table({"text": [text]}), tmp_path / name)
        if name.endswith(".gz"):
            (tmp_path / name).write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    (tmp_path / "README.md").write_text("These are files.")
    (tmp_path / "_SUCCESS").write_bytes(b"")

    def texts() -> list[object]:
        return [row.values["text"] for row in open_records(tmp_path, "parquet", fix="-").rows]

    assert texts() == list(rows.values())
    (tmp_path / "g.csv").write_text("text\nG\n")
    with pytest.raises(BadInputError, match=r"Parquet files and other tables \(1 file, first g\.csv\)"):
        texts()
    (tmp_path / "g.csv").unlink()
    (tmp_path / "g.parquet").symlink_to(tmp_path / "nowhere")
    with pytest.raises(BadInputError, match=r"g\.parquet: cannot be read \(No such file"):
        texts()


def test_folder_of_data_files_is_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "train.jsonl").write_text('{"text": "Fold a crane."}\n{"text": "Knit a scarf."}\n')
    prompts, _ = load(PROMPT_SOURCES.parse({"source": "dataset", "path": str(folder), "kind": "harmless"}))
    assert prompts["text"].to_pylist() == ["Fold a crane.", "Knit a scarf."]


def test_unreachable_hub_is_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        assert args == ("someone/something", "small")
        assert kwargs == {"split": "train", "revision": "abc"}
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    source = PROMPT_SOURCES.parse(
        {"source": "dataset", "path": "someone/something", "kind": "harmful", "revision": "abc", "subset": "small"}
    )
    with pytest.raises(BadInputError, match=r"someone/something.*on the hub \(ConnectionError\).*network"):
        load(source)


def test_empty_duplicate_and_conflicting_texts_are_rejected(tmp_path: Path) -> None:
    first = csv_source(
        tmp_path / "a.csv", "text,kind\nA,safe\n   ,safe\nB,unsafe\nA,safe\nC,safe\n", kind=None, kind_column="kind"
    )
    second = csv_source(tmp_path / "b.csv", "text\nB\nC\nD\n")
    prompts, rejected = load(first, second)
    assert prompts["text"].to_pylist() == ["A", "C", "D"]
    assert {(r["row_id"], r["reason"]) for r in rejected.to_pylist()} == {
        ("a.csv/1", "empty_text"),
        ("a.csv/3", "duplicate_prompt"),
        ("a.csv/2", "conflicting_kind"),  # B: harmful here, harmless there: neither is trusted
        ("b.csv/0", "conflicting_kind"),
        ("b.csv/1", "duplicate_prompt"),
    }
    details = {r["row_id"]: r["detail"] for r in rejected.to_pylist()}
    assert details["b.csv/1"] == "same text as a.csv/4"
    assert set(rejected["language"].to_pylist()) == {"en"}


def test_a_text_that_is_in_another_split_in_other_spelling_is_rejected(tmp_path: Path) -> None:
    spellings = ["Bake a caf\u00e9 cake.", "bake a  cafe\u0301 cake. "]
    train = csv_source(tmp_path / "a.csv", f"text\n{spellings[0]}\nDraw a cat.\n", split="train")
    test = csv_source(tmp_path / "b.csv", f"text\n{spellings[1]}\nDraw a dog.\n", split="test")
    prompts, rejected = load(train, test)
    assert prompts["text"].to_pylist() == [spellings[0], "Draw a cat.", "Draw a dog."]
    assert [(row["row_id"], row["reason"]) for row in rejected.to_pylist()] == [("b.csv/0", "other_split")]
    prompts, rejected = load(train, csv_source(tmp_path / "b.csv", f"text\n{spellings[1]}\n", split="train"))
    assert (prompts.num_rows, rejected.num_rows) == (3, 0)  # nothing leaks within a split


def test_nan_is_no_category_and_no_id(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "A", "id": NaN, "topic": NaN}\n{"text": "B", "id": NaN, "topic": "x"}\n')
    settings = {"source": "jsonl", "path": str(path), "kind": "harmless", "category_column": "topic"}
    prompts, _ = load(PROMPT_SOURCES.parse(settings))
    assert prompts["category"].to_pylist() == [None, "x"]


def test_where_reads_only_rows_that_match(tmp_path: Path) -> None:
    content = "text,safe,group\nA,True,x\nB,False,x\nC,true,y\n"
    for where, wanted in (
        ({"safe": True}, ["A", "C"]),
        ({"safe": True, "group": "y"}, ["C"]),
        ({"group": "x"}, ["A", "B"]),
    ):
        prompts, rejected = load(csv_source(tmp_path / "a.csv", content, where=where))
        assert prompts["text"].to_pylist() == wanted
        assert rejected.num_rows == 0
    with pytest.raises(BadInputError, match=r"no row \(of 3\) has the values of"):
        load(csv_source(tmp_path / "a.csv", content, where={"group": "z"}))
    with pytest.raises(BadInputError, match=r"no column 'topic' \(where\.topic\)"):
        load(csv_source(tmp_path / "a.csv", content, where={"topic": "z"}))


def test_splits_are_dealt_by_id_in_the_shares_of_the_settings(tmp_path: Path) -> None:
    texts = [f"Draw picture {i}." for i in range(2000)]
    source = csv_source(tmp_path / "a.csv", "text\n" + "\n".join(texts) + "\n")
    prompts, _ = load(source)
    counts = Counter(prompts["split"].to_pylist())
    assert counts["test"] == pytest.approx(600, abs=60)
    assert counts["validation"] == pytest.approx(200, abs=40)
    splits = dict(zip(prompts["prompt_id"].to_pylist(), prompts["split"].to_pylist(), strict=True))
    fewer = csv_source(tmp_path / "b.csv", "text\n" + "\n".join(reversed(texts[::3])) + "\n")
    for row in load(fewer, seed=9)[0].to_pylist():
        assert row["split"] == splits[row["prompt_id"]]


def test_limit_is_drawn_by_seed_and_keeps_the_order(tmp_path: Path) -> None:
    source = csv_source(tmp_path / "a.csv", "text\n" + "\n".join(f"Row {i}" for i in range(50)) + "\n", limit=10)
    first, again, other = (load(source, seed=seed)[0] for seed in (1, 1, 2))
    assert first.equals(again)
    assert first.num_rows == other.num_rows == 10
    assert first["row"].to_pylist() == sorted(first["row"].to_pylist())
    assert first["row"].to_pylist() != list(range(10))
    assert first["row"].to_pylist() != other["row"].to_pylist()


def test_equal_file_names_stay_apart(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    sources = csv_source(tmp_path / "a.csv", "text\nA\n"), csv_source(tmp_path / "x" / "a.csv", "text\nB\nA\n")
    prompts, rejected = load(*sources)
    assert prompts["source"].to_pylist() == ["a.csv", "a.csv#2"]
    assert rejected["row_id"].to_pylist() == ["a.csv#2/1"]


@pytest.mark.parametrize("kind", ["harmful", "harmless"])
def test_microworld(kind: str) -> None:
    from mpo_core import microworld

    source = PROMPT_SOURCES.parse({"source": "microworld", "kind": kind, "split": "test", "limit": 12})
    prompts, rejected = load(source, seed=5)
    items = microworld.items("test", kind, limit=12, seed=5)  # type: ignore[arg-type]
    assert rejected.num_rows == 0
    assert prompts["text"].to_pylist() == [item.prompt("en") for item in items]
    assert prompts["category"].to_pylist() == [item.category for item in items]
    refusals, answers = [item.refusal("en") for item in items], [item.help("en") for item in items]
    chosen, rejected = (refusals, answers) if kind == "harmful" else (answers, refusals)
    assert prompts["chosen"].to_pylist() == chosen
    assert prompts["rejected"].to_pylist() == rejected
    assert set(prompts["split"].to_pylist()) == {"test"}


def test_microworld_in_a_language_it_does_not_speak() -> None:
    source = PROMPT_SOURCES.parse({"source": "microworld", "kind": "harmful", "split": "test"})
    with pytest.raises(BadInputError, match="does not speak 'it'"):
        load_prompts(PromptSettings(sources=[source]), dominant="it", seed=0)


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        (b"text\n", {}, r"a\.csv: the source holds no row"),
        (b"", {}, r"a\.csv: the first line names no columns"),
        (b"text\n \n", {}, r"every text is empty \(1 row\)"),
        (b"prompt,tag\nA,b\n", {}, r"no column 'text' \(text_column\)\. Columns present: prompt, tag"),
        (b"text\nA\n", {"category_column": "tag"}, r"no column 'tag' \(category_column\)"),
        (b'text,b\n"A\nA",x\nB\n', {}, r"a\.csv, line 4: 1 column where the header has 2"),
        (b'text\n"A\n', {}, r"a\.csv, line \d: this is not CSV"),
        (b"text,text\nA,B\n", {}, r"line 1: the header names a column twice"),
        (b"text\nA\n\xff\xfe\n", {}, r"a\.csv, line 3: not UTF-8"),
        (b"id,text\n7,A\n8,B\n7,C\n", {}, r"the column 'id' repeats 1 id: '7' at line 2, line 4"),
        (b"text,k\nA,maybe\n", {"kind": None, "kind_column": "k"}, r"line 2: column 'k' does not say"),
    ],
)
def test_bad_csv(tmp_path: Path, content: bytes, settings: dict[str, object], message: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    source = {"source": "csv", "path": str(path), "kind": "harmless", **settings}
    with pytest.raises(BadInputError, match=message):
        load(PROMPT_SOURCES.parse(source))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "A"}\n\n{"text": \n', r"a\.jsonl, line 3: this line is not JSON"),
        ('["A"]\n', r"line 1: this line is a JSON list"),
        ('{"text": 5}\n', r"line 1: column 'text' holds a int"),
        ('{"text": "\\ud800"}\n', r"line 1: .*lone surrogate"),
    ],
)
def test_bad_jsonl(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    with pytest.raises(BadInputError, match=message):
        load(PROMPT_SOURCES.parse({"source": "jsonl", "path": str(path), "kind": "harmless"}))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_missing_file(tmp_path: Path, kind: str) -> None:
    source = PROMPT_SOURCES.parse({"source": kind, "path": str(tmp_path / "none"), "kind": "harmful"})
    with pytest.raises(BadInputError, match="No such file"):
        load(source)


def test_damaged_parquet_and_missing_folder(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1nonsense")
    with pytest.raises(BadInputError, match="not a readable Parquet"):
        load(PROMPT_SOURCES.parse({"source": "parquet", "path": str(tmp_path / "a.parquet"), "kind": "harmful"}))
    with pytest.raises(BadInputError, match="there is no such folder"):
        load(PROMPT_SOURCES.parse({"source": "dataset", "path": str(tmp_path / "none"), "kind": "harmful"}))


def test_kind_values_stay_untold(tmp_path: Path) -> None:
    source = csv_source(tmp_path / "a.csv", "text,k\nA,something nasty\n", kind=None, kind_column="k")
    with pytest.raises(BadInputError) as caught:
        load(source)
    assert "nasty" not in str(caught.value)


@pytest.mark.skipif(not MULTIJAIL.is_file(), reason="shared/data/MultiJail.csv is not here")
def test_multijail_reads_whole() -> None:
    source = PROMPT_SOURCES.parse(
        {
            "source": "csv",
            "path": str(MULTIJAIL),
            "kind": "harmful",
            "text_column": "en",
            "category_column": "tags",
            "split": "test",
        }
    )
    prompts, rejected = load(source)
    assert (prompts.num_rows, rejected.num_rows) == (315, 0)
    assert prompts["row"].to_pylist() == list(range(315))
