"""One place reads every kind of file, for prompts and translation alike; a bad row spoils no other."""

import bz2
import gzip
import json
import lzma
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.prompts import PROMPT_SOURCES
from mpo_core.files import read as files
from mpo_core.files.messages import Fault, text_of
from mpo_core.files.records import FORMS, form_of
from mpo_core.files.texts import read_texts
from mpo_core.prompts.load import load_prompts
from mpo_core.settings import PromptSettings
from mpo_core.translation.memory import MemoryEngine
from tests.faults.conftest import pair_rows

TEXTS = ["Bake bread.", "Brühe Tee; \u2028bitte.\nJetzt."]
ROWS = [{"text": text, "kind": "harmless"} for text in TEXTS]


def as_csv(delimiter):
    return "".join(
        delimiter.join(f'"{value}"' for value in row) + "\r\n" for row in [["text", "kind"], *map(dict.values, ROWS)]
    ).encode()


def as_arrow(write):
    sink = pa.BufferOutputStream()
    write(sink)
    return sink.getvalue().to_pybytes()


def stream(sink):
    stream_of(pa.Table.from_pylist(ROWS), sink)


def stream_of(table, sink):
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode()
FILES = {
    "a.csv": as_csv(","),
    "a.TSV": as_csv("\t"),
    "a.json": json.dumps(ROWS, indent=1).encode(),
    "lines.json": LINES,
    "pretty.json": "\n".join(json.dumps(row, indent=1) for row in ROWS).encode(),
    "a.jsonl": LINES,
    "a.NDJSON": b"\xef\xbb\xbf" + LINES + b"\n\n",
    "a.parquet": as_arrow(lambda sink: pq.write_table(pa.Table.from_pylist(ROWS), sink)),
    "a.arrow": as_arrow(stream),
}
PACKED = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".GZ": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pa.Codec("zstd").compress(data).to_pybytes(),
}


def read(path, **settings):
    """Texts and rejected rows of a source of harmless prompts."""
    source = {"source": form_of(path), "path": str(path), "kind": "harmless"} | settings
    source["source"] = {"arrow": "parquet"}.get(source["source"], source["source"])
    settings = PromptSettings(sources=[PROMPT_SOURCES.parse(source)])
    prompts, _, rejected = load_prompts(settings, dominant="en", seed=0)
    return prompts["text"].to_pylist(), [(row["row_id"].split("/")[1], row["reason"]) for row in rejected.to_pylist()]


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_reads_alike(tmp_path, name, packed):
    path = tmp_path / f"{name}{packed}"
    path.write_bytes(PACKED[packed](FILES[name]))
    assert read(path) == (TEXTS, [])
    assert list(read_texts(path, "text")) == TEXTS
    plain = path.rename(tmp_path / name)  # the content decides whether it is compressed
    assert list(read_texts(plain, "text")) == TEXTS


@pytest.mark.parametrize("packed", [".gz", ".bz2", ".xz", ".zst"])
def test_damaged_compression_is_a_single_line(tmp_path, packed):
    whole = PACKED[packed](LINES * 50)
    path = tmp_path / f"a.jsonl{packed}"
    for data in (whole[:-20], whole[:30] + b"\xff" * 20 + whole[50:]):
        path.write_bytes(data)
        with pytest.raises(BadInputError, match=r"the compressed data is damaged|not UTF-8|not JSON"):
            list(read_texts(path, "text"))


@pytest.mark.parametrize("name", ["a", "a.xlsx", "a.gz", "a.csv.zip"])
def test_an_unknown_kind_is_named_with_the_known_ones(tmp_path, name):
    with pytest.raises(BadInputError, match=r"unknown kind of file\. Give one of .csv, .tsv, .json, .jsonl, .ndjson"):
        list(read_texts(tmp_path / name, "text"))
    assert set(FORMS.values()) == {"csv", "json", "jsonl", "parquet", "arrow", "txt"}


@pytest.mark.parametrize(
    ("name", "form"),
    [("a.tsv.csv", "csv"), ("a.csv.json", "json"), ("v1.2.jsonl", "jsonl"), ("A.TSV.GZ", "csv"), ("a.gz.txt", "txt")],
)
def test_the_last_ending_of_a_name_decides(tmp_path, name, form):
    assert form_of(Path(name)) == form
    assert files.default_delimiter(Path(name)) == ("\t" if name == "A.TSV.GZ" else ",")


def test_a_name_that_contradicts_the_settings(tmp_path):
    (tmp_path / "a.parquet").write_bytes(FILES["a.parquet"])
    with pytest.raises(BadInputError, match=r"the file's name says parquet, the settings say csv"):
        read(tmp_path / "a.parquet", source="csv")


# -- CSV -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (b",text,\n0,Bake bread.,\n1,Pour tea.,\n", ["Bake bread.", "Pour tea."]),  # an index and a trailing comma
        (b" text , kind\nBake bread.,x\n", ["Bake bread."]),
        (b"text,,\nBake bread.\nPour tea.,,\n", ["Bake bread.", "Pour tea."]),
        (b"kind,text\nx,Bake bread.\n", ["Bake bread."]),
        (b"text\n" + b"a" * 300_000 + b"\n", ["a" * 300_000]),
    ],
    ids=["nameless", "spaces", "trailing", "order", "large"],
)
def test_csv_of_the_wild(tmp_path, content, texts):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    assert read(path) == (texts, [])


@pytest.mark.parametrize(("delimiter", "written"), [(";", ";"), ("\t", r"\\t"), ("|", r"\|")])
def test_another_delimiter_is_hinted_at(tmp_path, delimiter, written):
    path = tmp_path / "a.csv"
    hint = f'The header looks separated by "{written}": set {{}} to "{written}"'
    for row in ("Bake bread", "Bake bread, please"):
        path.write_text(f"text{delimiter}kind\n{row}{delimiter}harmless\n")
        with pytest.raises(BadInputError, match=hint.format(r"prompts\.sources\.0\.delimiter")):
            read(path)
        with pytest.raises(BadInputError, match=hint.format("--delimiter")):
            list(read_texts(path, "text"))
        assert read(path, delimiter=delimiter) == ([row], [])
        assert list(read_texts(path, "text", delimiter=delimiter)) == [row]


@pytest.mark.parametrize("delimiter", [";;", '"', "", "\n"])
def test_no_delimiter(tmp_path, delimiter):
    with pytest.raises(ValueError, match="delimiter"):
        PROMPT_SOURCES.parse({"source": "csv", "path": "a", "kind": "harmful", "delimiter": delimiter})
    assert PROMPT_SOURCES.parse({"source": "csv", "path": "a", "kind": "harmful", "delimiter": "tab"}).delimiter == "\t"


# -- rows that cannot be read -------------------------------------------------------------

DEEP = '{"text": "x", "more": ' + "[" * 10_000 + "]" * 10_000 + "}"
BAD_ROWS = {
    "surrogate": ('{"text": "a \\ud800 b"}', "broken_unicode"),
    "surrogate in messages": ('{"text": [{"role": "user", "content": "\\udfff"}]}', "broken_unicode"),
    "number": ('{"text": 5}', "not_text"),
    "huge number as text": ('{"text": ' + "9" * 5000 + "}", "not_text"),
    "deep": (DEEP, "unreadable_row"),
    "no object": ("[1]", "no_object"),
    "null": ('{"text": null}', "empty_text"),
    "NaN": ('{"text": NaN}', "empty_text"),
    "lacking": ('{"other": "x"}', "empty_text"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
@pytest.mark.parametrize("array", [False, True], ids=["lines", "array"])
def test_a_bad_row_is_rejected_and_the_rest_goes_on(tmp_path, case, array):
    row, reason = BAD_ROWS[case]
    rows = ['{"text": "Bake bread."}', row, '{"text": "Pour tea.", "n": ' + "9" * 5000 + ', "s": "\\ud800"}']
    path = tmp_path / ("a.json" if array else "a.jsonl")
    path.write_text(f"[{','.join(rows)}]" if array else "\n".join(rows))
    assert read(path) == (["Bake bread.", "Pour tea."], [("1", reason)])
    first, bad, last = read_texts(path, "text")
    assert (first, last) == ("Bake bread.", "Pour tea.")
    assert bad == "" if reason == "empty_text" else bad.reason == reason


@pytest.mark.parametrize("column", ["category_column", "chosen_column", "rejected_column", "kind_column"])
def test_every_named_column_is_checked(tmp_path, column):
    path = tmp_path / "a.jsonl"
    good, bad = {"text": "Bake bread.", "x": "safe"}, {"text": "Pour tea.", "x": "\ud800"}
    path.write_text(f"{json.dumps(good)}\n{json.dumps(bad)}\n")
    kind = {"kind": None} if column == "kind_column" else {}
    assert read(path, **{column: "x"}, **kind) == (["Bake bread."], [("1", "broken_unicode")])


def not_utf8():
    return pa.array([b"Bake bread.", b"\xff\xfe", b"Pour tea."]).view(pa.string())


@pytest.mark.parametrize("place", ["text", "messages"])
def test_parquet_strings_that_are_not_utf8(tmp_path, place):
    text = not_utf8()
    if place == "messages":
        message = pa.StructArray.from_arrays([pa.array(["user"] * 3), text], names=["role", "content"])
        text = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), message)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": text, "other": not_utf8()}), path)
    assert read(path) == (["Bake bread.", "Pour tea."], [("1", "broken_unicode")])
    assert [isinstance(text, Fault) for text in read_texts(path, "text")] == [False, True, False]


def test_a_row_of_which_nobody_knows_whether_it_matches_is_rejected(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a", "b", "c"], "group": not_utf8()}), path)
    assert read(path, where={"group": "Pour tea."}) == (["c"], [("1", "broken_unicode")])


def test_dates_that_python_does_not_know(tmp_path):
    path = tmp_path / "a.parquet"
    dates = pa.array([0, 2**31 - 1], pa.int32()).view(pa.date32())
    pq.write_table(pa.table({"text": ["a", "b"], "day": dates}), path)
    assert read(path) == (["a", "b"], [])
    assert read(path, category_column="day") == (["a"], [("1", "unreadable_value")])


def test_a_file_whose_rows_are_all_bad_is_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "\\ud800"}\n{"text": "\\ud801"}\n')
    with pytest.raises(BadInputError, match=r"line 1: column 'text' holds broken Unicode.*all 2 rows are rejected"):
        read(path)
    with pytest.raises(BadInputError, match=r"line 1: column 'text' holds broken Unicode.*Every row is rejected"):
        list(read_texts(path, "text"))


@pytest.mark.parametrize(
    "content", ["[", '[{"text": "a"}', '[{"text": "a"} {}]', '[{"text": "a"}] x', "nix", "[" * 9999]
)
def test_json_that_is_cut_or_none_is_a_single_line(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(BadInputError, match=r"a\.json, line 1: this is not JSON"):
        read(tmp_path / "a.json")


def test_a_name_of_half_a_pair_is_shown(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"\\ud800": "a"}\n')
    with pytest.raises(BadInputError) as caught:
        read(tmp_path / "a.jsonl", text_column="\udc00")
    assert "udc00' (text_column)" in str(caught.value).encode().decode()


# -- messages ------------------------------------------------------------------------

USER, HELPER = {"role": "user", "content": "Bake bread."}, {"role": "assistant", "content": "Mix flour."}
HUMAN, GPT = {"from": "human", "value": "Bake bread."}, {"from": "gpt", "value": "Mix flour."}
SYSTEM = {"role": "system", "content": "Be brief."}
PARTS = {"role": "user", "content": [{"type": "text", "text": "Bake "}, {"type": "text", "text": "bread."}]}
PICTURE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}


@pytest.mark.parametrize(
    ("value", "user", "assistant"),
    [
        ([USER], "Bake bread.", "no_turn"),
        ([USER, HELPER], "Bake bread.", "Mix flour."),
        ([HUMAN, GPT], "Bake bread.", "Mix flour."),
        ([HELPER], "no_turn", "Mix flour."),
        ([PARTS], "Bake bread.", "no_turn"),
        ([SYSTEM | {"content": " "}, USER], "Bake bread.", "no_turn"),
        (json.dumps([USER, HELPER]), "Bake bread.", "Mix flour."),
        (repr([USER, HELPER]), "Bake bread.", "Mix flour."),
        ({"messages": [USER]}, "Bake bread.", "no_turn"),
        ({"from": ["human", "gpt"], "value": ["Bake bread.", "Mix flour."]}, "Bake bread.", "Mix flour."),
        (USER, "Bake bread.", "no_turn"),
        ([USER, GPT], "Bake bread.", "Mix flour."),
        ([{"role": "user", "parts": [{"text": "Bake "}, {"text": "bread."}]}], "Bake bread.", "no_turn"),
        ([{"speaker": "Human", "text": "Bake bread."}], "Bake bread.", "no_turn"),
        ([{"id": 1} | USER], "Bake bread.", "no_turn"),
        (json.dumps([{"id": 1} | USER, HELPER]), "Bake bread.", "Mix flour."),
        (json.dumps(USER), "Bake bread.", "no_turn"),
        (json.dumps({"messages": [USER, HELPER]}), "Bake bread.", "Mix flour."),
        (json.dumps([USER]).replace("role", "Role"), "unreadable_messages", "unreadable_messages"),
        (json.dumps([USER])[:-2], "unreadable_messages", "unreadable_messages"),
        (f"[{USER}\n {HELPER}]", "unreadable_messages", "unreadable_messages"),  # as NumPy writes it
        (f"array([{USER}], dtype=object)", "unreadable_messages", "unreadable_messages"),
        ('[{"role": ' + "[" * 9000, "unreadable_messages", "unreadable_messages"),
        ('{"from": "Rome", "to": "Bari"}', '{"from": "Rome", "to": "Bari"}', '{"from": "Rome", "to": "Bari"}'),
        ('[{"name": "tea"}]', '[{"name": "tea"}]', '[{"name": "tea"}]'),
        ("a\0b", "nul_character", "nul_character"),
        ([USER | {"content": "a\0b"}], "nul_character", "nul_character"),
        ([USER | {"content": None}], "not_text", "not_text"),
        ([], "", ""),
        ([SYSTEM, USER], "system_message", "system_message"),
        ([USER, HELPER, USER], "multi_turn", "multi_turn"),
        ([USER, HELPER, USER, HELPER], "multi_turn", "multi_turn"),
        ([HELPER, USER], "multi_turn", "multi_turn"),
        ([USER, HELPER, HELPER], "multi_turn", "multi_turn"),
        ([USER, {"role": "tool", "content": "x"}], "unknown_speaker", "unknown_speaker"),
        ([PICTURE], "not_text", "not_text"),
        ([HELPER | {"tool_calls": [{"id": 1}]}], "not_text", "not_text"),
        ([USER, {"content": "x"}], "unknown_speaker", "unknown_speaker"),
        ([1, 2], "not_text", "not_text"),
        ({"en": "x"}, "not_text", "not_text"),
    ],
)
def test_messages(value, user, assistant):
    for speaker, wanted in (("user", user), ("assistant", assistant)):
        result = text_of(value, speaker)
        assert (result.reason if isinstance(result, Fault) else result) == wanted


def test_messages_wherever_a_text_column_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    row = {"prompt": [USER], "chosen": [HELPER], "rejected": [USER, HELPER | {"content": "No."}]}
    path.write_text(json.dumps(row) + "\n" + json.dumps({"prompt": [USER, HELPER, USER]}) + "\n")
    source = PROMPT_SOURCES.parse(
        {
            "source": "jsonl",
            "path": str(path),
            "kind": "harmless",
            "text_column": "prompt",
            "chosen_column": "chosen",
            "rejected_column": "rejected",
        }
    )
    prompts, _, rejected = load_prompts(PromptSettings(sources=[source]), dominant="en", seed=0)
    result = [(r["text"], r["chosen"], r["rejected"]) for r in prompts.to_pylist()]
    assert result == [("Bake bread.", "Mix flour.", "No.")]
    assert rejected["reason"].to_pylist() == ["multi_turn"]


# -- names and bytes that are no file of texts ---------------------------------------------


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (b"PK\x03\x04\x14\x00\x00\x00\xff", "a ZIP archive"),
        (b"PAR1\xff", "a Parquet file"),
        (b"ARROW1\0\0\xff", "an Arrow file"),
        ("text\n".encode("utf-16"), "text in UTF-16"),
        (b"\x04\x22\x4d\x18\xff", "LZ4"),
        (gzip.compress(gzip.compress(LINES)), "compressed twice"),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.jsonl"])
def test_another_format_is_named(tmp_path, name, content, form):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInputError, match=rf"{name}, line \d: not UTF-8 text.*{form}"):
        list(read_texts(tmp_path / name, "text"))


@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.parquet", "a.arrow"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    for path in (tmp_path / name, tmp_path / "zero.csv"):
        with pytest.raises(BadInputError, match=r"cannot be read \(not a regular file"):
            read(path)
        with pytest.raises(BadInputError, match=r"cannot be read \(not a regular file"):
            PROMPT_SOURCES.parse({"source": "csv", "path": str(path), "kind": "harmful"}).digest()


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "a" * 5000])
@pytest.mark.parametrize("ending", [".csv", ".json", ".parquet", ".arrow"])
def test_a_name_that_no_file_can_have(name, ending):
    with pytest.raises(BadInputError, match=r"cannot be read \((no file can have|File name too long)") as bad:
        list(read_texts(Path(name + ending), "text"))
    assert len(str(bad.value)) < 500


def test_empty_and_skippable_frames_of_compression(tmp_path):
    (tmp_path / "a.jsonl.zst").write_bytes(b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + PACKED[".zst"](LINES))
    assert read(tmp_path / "a.jsonl.zst") == (TEXTS, [])
    (tmp_path / "a.jsonl.bz2").write_bytes(bz2.compress(b""))
    with pytest.raises(BadInputError, match="the source holds no row"):
        read(tmp_path / "a.jsonl.bz2")


def test_an_arrow_file_with_a_bad_offset_does_not_end_the_process(tmp_path):
    offsets = pa.array([0, 1, 30_000_000, 4], pa.int32()).buffers()[1]
    table = pa.table({"text": pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"abcd")])})
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(BadInputError, match=r"not a readable Arrow file"):
        read(tmp_path / "a.arrow")


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_a_name_of_a_column_that_is_not_utf8(tmp_path, form):
    table = pa.table({"text": ["Bake bread."], "qqqq": [1]})
    write = pq.write_table if form == "parquet" else stream_of
    data = as_arrow(lambda sink: write(table, sink)).replace(b"qqqq", b"q\xffqq")
    (tmp_path / f"a.{form}").write_bytes(data)
    with pytest.raises(BadInputError, match=rf"a\.{form}: this is not a readable {form.capitalize()} file"):
        read(tmp_path / f"a.{form}")


@pytest.mark.parametrize("packed", [pa.array, lambda values: pa.array(values).dictionary_encode()])
@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_a_dictionary_and_a_time_zone_that_python_does_not_know(tmp_path, form, packed):
    text = pa.array([b"Bake bread.", b"\xff\xfe", b"Pour tea."]).view(pa.string())
    if packed is not pa.array:
        text = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2], pa.int32()), text)
    table = pa.table({"text": text, "day": pa.array([0, 1, 2], pa.timestamp("us", "Mars/Phobos"))})
    path = tmp_path / f"a.{form}"
    if form == "parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_stream(str(path), table.schema) as writer:
            writer.write_table(table)
    assert read(path) == (["Bake bread.", "Pour tea."], [("1", "broken_unicode")])


def test_the_shared_inputs(shared_data):
    folder = Path(shared_data) / "faults"
    for name, column in (
        ("03/p.jsonl.gz", "text"),
        ("03/p.jsonl", "text"),
        ("05/p.json", "text"),
        ("05/p.ndjson", "text"),
        ("11/trl.parquet", "prompt"),
        ("11/messages.jsonl", "messages"),
    ):
        assert list(read_texts(folder / name, column)) == ["What is the capital city of Kenya?"]


@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
@pytest.mark.parametrize("name", [name for name in FILES if name != "a.arrow"] + ["a.tmx"])
def test_a_memory_is_read_in_the_same_place(tmp_path, name, packed):
    unit = '<tuv xml:lang="en"><seg>tea</seg></tuv><tuv xml:lang="sw"><seg>chai</seg></tuv>'
    tmx = f"<tmx><body><tu>{unit}</tu></body></tmx>"
    rows = [{"id": 1, "en": "tea", "sw": "chai"}, {"id": 2, "en": "bread", "sw": None}]
    table = pa.Table.from_pylist(rows)
    for column in ("en", "sw"):
        at = table.column_names.index(column)
        table = table.set_column(at, column, table[column].combine_chunks().dictionary_encode())
    data = {
        "a.csv": b"id,en,sw\n1,tea,chai\n2,bread,\n",
        "a.TSV": b"id\ten\tsw\n1\ttea\tchai\n2\tbread\t\n",
        "a.parquet": as_arrow(lambda sink: pq.write_table(table, sink)),
        "a.json": json.dumps(rows).encode(),
        "a.tmx": tmx.encode(),
    }
    lines = "\n".join(map(json.dumps, rows)).encode()
    path = tmp_path / f"{name}{packed}"
    path.write_bytes(PACKED[packed](data.get(name, lines)))
    replies = MemoryEngine(path).translate(["tea", "bread"], "en", "sw")
    assert [reply.text or None for reply in replies] == ["chai", None]


def test_the_delimiter_of_a_memory(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("en;sw\ntea, please;chai\n")
    with pytest.raises(BadInputError, match=r'translation\.engines\[\]\.delimiter to ";"'):
        MemoryEngine(path)
    assert MemoryEngine(path, delimiter=";").translate(["tea, please"], "en", "sw")[0].text == "chai"


def test_a_value_of_a_memory_that_is_no_text_is_no_translation(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"en": "tea", "sw": "\\ud800"}\n{"en": "bread", "sw": "mkate"}\n[]\n')
    replies = MemoryEngine(path).translate(["tea", "bread"], "en", "sw")
    assert [reply.text or None for reply in replies] == [None, "mkate"]


@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
@pytest.mark.parametrize("form", ["PARQUET", "json", "jsonl"])
def test_compressed_files_of_pairs(mpo, tmp_path, form, packed):
    rows = pair_rows(2)
    lines = "\n".join(map(json.dumps, rows))
    table = pa.Table.from_pylist(rows)
    data = {
        "PARQUET": as_arrow(lambda sink: pq.write_table(table, sink)),
        "json": json.dumps(rows).encode(),
        "jsonl": lines.encode(),
    }
    path = tmp_path / f"pairs.{form}{packed}"
    path.write_bytes(PACKED[packed](data[form]))
    outcome = mpo("pairs", "import", path, "--out", tmp_path / "out.parquet", "--json")
    assert outcome.code == 0, outcome
    assert json.loads(outcome.out)["pairs"] == 2
