"""Files of pairs: the forms of other tools are read; a bad row is rejected with its reason, the rest goes on."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mpo_core.languages.known import LANGUAGES
from mpo_core.pairs import import_pairs
from mpo_core.pairs.rows import read_pairs
from tests.faults.conftest import pair_rows
from tests.faults.test_bad_input import check_single_line, left

GOOD = {
    "source": ("How do I bake a loaf of bread?", "Use a heavy pot with a lid.", "I cannot help you with this."),
    "target": ("Ninawezaje kuoka mkate nyumbani?", "Tumia sufuria nzito yenye kifuniko.", "Siwezi kukusaidia na hili."),
}
NAMES = ("prompt", "chosen", "rejected")


def sharegpt(role, text):
    return {"from": {"user": "human", "assistant": "gpt"}.get(role, role), "value": text}


def openai(role, text):
    return {"role": role, "content": text}


def official(**changes):
    """A row of the official format; `changes` by key, None to drop it."""
    row = {}
    for side, (prompt, chosen, rejected) in GOOD.items():
        row[f"{side}_conversations"] = [sharegpt("user", prompt)]
        row |= {f"{side}_chosen": sharegpt("assistant", chosen), f"{side}_rejected": sharegpt("assistant", rejected)}
    return {key: value for key, value in (row | changes).items() if value is not None}


def written(form):
    """A good row in another form, by the name of the tool that writes it."""
    row = {}
    for side, (prompt, chosen, rejected) in GOOD.items():
        answers = {"chosen": chosen, "rejected": rejected}
        for name, text in answers.items():
            row[f"{side}_{name}"] = {
                "texts": text,
                "official": sharegpt("assistant", text),
                "sharegpt lists": [sharegpt("assistant", text)],
                "trl": [openai("assistant", text)],
                "trl implicit": [openai("user", prompt), openai("assistant", text)],
                "openai parts": [openai("assistant", [{"type": "text", "text": text}])],
            }[form]
        key, value = {
            "texts": ("prompt", prompt),
            "official": ("conversations", [sharegpt("user", prompt)]),
            "sharegpt lists": ("conversations", [sharegpt("user", prompt)]),
            "trl": ("prompt", [openai("user", prompt)]),
            "trl implicit": ("", None),
            "openai parts": ("messages", [openai("user", [{"type": "text", "text": prompt}])]),
        }[form]
        if key:
            row[f"{side}_{key}"] = value
    return row


def to_json(path, rows):
    path.write_text(json.dumps(rows))


def to_lines(path, rows):
    path.write_text("\n\n".join(json.dumps(row) for row in rows) + "\n")


def to_parquet(path, rows):
    pq.write_table(pa.Table.from_pylist([dict(reversed(({"kind": None} | row).items())) for row in rows]), path)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("p.json", to_json),
        ("P.JSON", to_json),
        ("p.jsonl", to_lines),
        ("lines.json", to_lines),
        ("p.ndjson", to_lines),
        ("p.parquet", to_parquet),
        ("P.PARQUET", to_parquet),
    ],
)
@pytest.mark.parametrize("form", ["texts", "official", "sharegpt lists", "trl", "trl implicit", "openai parts"])
def test_every_form_gives_the_same_pairs(mpo, tmp_path, name, write, form):
    row = written(form)
    write(tmp_path / name, [row, row | {"kind": "harmless"}])
    outcome = mpo("pairs", "import", tmp_path / name, "--out", tmp_path / "o" / "p.parquet", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    report = json.loads(outcome.out)
    assert (report["pairs"], report["quarantined"], report["languages"]) == (2, 0, {"sw": 2})
    rows = pq.read_table(tmp_path / "o" / "p.parquet").to_pylist()
    assert [tuple(rows[0][f"{side}_{n}"] for n in NAMES) for side in GOOD] == list(GOOD.values())
    assert [row["kind"] for row in rows] == ["harmful", "harmless"]


def test_a_prompt_at_the_beginning_of_both_answers_is_no_part_of_them(tmp_path):
    row = written("texts")
    repeats = {key: f"{row[key.split('_')[0] + '_prompt']}\n\n{row[key]}" for key in row if "_prompt" not in key}
    to_json(tmp_path / "p.json", [row | repeats, row | {"target_chosen": repeats["target_chosen"]}])
    pairs, _ = import_pairs(tmp_path / "p.json")
    first, second = pairs.to_pylist()
    assert [tuple(first[f"{side}_{n}"] for n in NAMES) for side in GOOD] == list(GOOD.values())
    assert second["target_chosen"] == repeats["target_chosen"]  # an answer may begin with the question


def test_a_prompt_in_chinese_at_the_beginning_of_both_answers_is_no_part_of_them(tmp_path):
    texts = {"prompt": "怎么烤面包？", "chosen": "混合面粉和水。", "rejected": "我不能说。"}
    target = {f"target_{name}": text for name, text in texts.items()}
    repeats = {f"target_{name}": f"{texts['prompt']}\n{texts[name]}" for name in ("chosen", "rejected")}
    to_json(tmp_path / "p.json", [written("texts") | {"language": "zh"} | target | repeats])
    (pair,) = import_pairs(tmp_path / "p.json")[0].to_pylist()
    assert {name: pair[name] for name in target} == target


def test_nan_is_a_missing_value(tmp_path):
    nan = float("nan")
    gaps = dict.fromkeys(("kind", "split", "weight", "language", "source_prompt"), nan)
    to_json(tmp_path / "p.json", [official(**gaps), official(**dict.fromkeys(gaps))])
    first, second = import_pairs(tmp_path / "p.json")[0].to_pylist()
    assert {**first, "pair_id": None} == {**second, "pair_id": None}
    alpaca = {"instruction": GOOD["source"][0], "output": list(GOOD["source"][1:]), "id": 1.0}
    other = dict(zip(NAMES, GOOD["target"], strict=True)) | {"id": 1.0}
    to_json(tmp_path / "p.json", [row | dict.fromkeys(("input", "system", "history"), nan) for row in (alpaca, other)])
    (pair,) = import_pairs(tmp_path / "p.json")[0].to_pylist()
    assert [tuple(pair[f"{side}_{n}"] for n in NAMES) for side in GOOD] == list(GOOD.values())


def test_ends_of_turns_behind_answers_are_no_part_of_them(tmp_path):
    ends = {"source_chosen": "<|im_end|>", "target_chosen": "<|im_end|>\n<|endoftext|>", "target_rejected": " </s>"}
    row = written("texts")
    to_json(tmp_path / "p.json", [row | {key: row[key] + end for key, end in ends.items()}])
    (pair,) = import_pairs(tmp_path / "p.json")[0].to_pylist()
    assert [tuple(pair[f"{side}_{n}"] for n in NAMES) for side in GOOD] == list(GOOD.values())


def test_marks_of_turns_that_the_prompt_has_too_are_data(tmp_path):
    prompt = "What do <|im_end|> and [INST] mean in a template?"
    answers = {
        "target_prompt": prompt,
        "target_chosen": "<|im_end|> ends a turn.",
        "target_rejected": "No <s>old</s> x.",
    }
    to_json(tmp_path / "p.json", [written("texts") | answers | {"source_language": "en", "language": "sw"}])
    (pair,) = import_pairs(tmp_path / "p.json")[0].to_pylist()
    assert {name: pair[name] for name in answers} == answers


def test_a_folder_of_parquet_files_by_any_name(tmp_path):
    for name in ("a.PARQUET", "b.pq", "part-00000"):
        to_parquet(tmp_path / name, [official()])
    assert [row.fault for row in read_pairs(tmp_path)] == [None] * 3


@pytest.mark.parametrize(("name", "write"), [("p.json", to_json), ("p.parquet", to_parquet)])
def test_thoughts_are_no_part_of_an_imported_answer(mpo, tmp_path, name, write):
    row = written("texts")
    thoughtful = {key: f"<think>x</think>\n\n{row[key]}" for key in row if key.endswith(("_chosen", "_rejected"))}
    write(tmp_path / name, [row | thoughtful])
    assert mpo("pairs", "import", tmp_path / name, "--out", tmp_path / "o.parquet").code == 0
    (pair,) = pq.read_table(tmp_path / "o.parquet").to_pylist()
    assert [tuple(pair[f"{side}_{n}"] for n in NAMES) for side in GOOD] == list(GOOD.values())


BAD_ROWS = {
    "system turn": (
        official(source_conversations=[sharegpt("system", "Be kind."), sharegpt("user", GOOD["source"][0])]),
        "system_message",
    ),
    "developer turn": (official(target_chosen=[openai("developer", "x"), openai("assistant", "y")]), "system_message"),
    "empty conversation": (official(source_conversations=[]), "no_turn"),
    "empty answer list": (official(target_rejected=[]), "no_turn"),
    "several turns": (official(target_conversations=[sharegpt("user", "a"), sharegpt("user", "b")]), "multi_turn"),
    "other prompts": (
        {**written("trl implicit"), "source_rejected": [openai("user", "Other?"), openai("assistant", "No.")]},
        "multi_turn",
    ),
    "answer by the user": (official(source_chosen=sharegpt("user", "x")), "wrong_role"),
    "prompt by the model": (official(source_conversations=[sharegpt("assistant", "x")]), "wrong_role"),
    "unknown speaker": (official(source_chosen={"from": "narrator", "value": "x"}), "unknown_speaker"),
    "speaker a number": (official(source_chosen={"from": 7, "value": "x"}), "unknown_speaker"),
    "no speaker": (official(source_chosen={"value": "x"}), "not_text"),
    "missing key": (official(target_chosen=None), "missing_key"),
    "missing prompt": (official(target_conversations=None), "missing_key"),
    "no keys": ({}, "missing_key"),
    "number for text": (official(source_chosen={"from": "gpt", "value": 3}), "not_text"),
    "number for a turn": (official(source_chosen=3), "not_text"),
    "list of texts": (official(source_chosen=["x"]), "not_text"),
    "written messages": (official(source_chosen='[{"role": "user", "content": "x"}]'), "wrong_role"),
    "messages of NumPy": (official(source_chosen="[{'role': 'user'}\n {'role': 'x'}]"), "unreadable_messages"),
    "picture": (official(source_chosen=[openai("assistant", [{"type": "image_url"}])]), "not_text"),
    "null text": (official(source_chosen={"from": "gpt", "value": None}), "not_text"),
    "lone surrogate": (official(target_rejected=sharegpt("assistant", "a\ud800")), "broken_unicode"),
    "a thought that never ends": (official(target_chosen=sharegpt("assistant", "<think>a")), "unfinished_thought"),
    "nothing but thoughts": (official(source_rejected=sharegpt("assistant", "<think>a</think>")), "only_thoughts"),
    "NUL": (official(target_rejected=sharegpt("assistant", "a\0b")), "nul_character"),
    "empty prompt": (official(source_conversations=[sharegpt("user", " ")]), "empty_prompt"),
    "empty answer": (official(target_chosen=sharegpt("assistant", "")), "empty_response"),
    "equal answers": (official(target_chosen=sharegpt("assistant", GOOD["target"][2] + "\n")), "equal_answers"),
    "turns within": (
        {**written("texts"), "source_chosen": "[INST] How? [/INST] So.", "source_rejected": "[INST] How? [/INST] No."},
        "template_marks",
    ),
    "one language": ({"prompt": "a", "chosen": "b", "rejected": "c"}, "one_language"),
    "unknown kind": (official(kind="toxic"), "unknown_kind"),
    "kind a list": (official(kind=["harmful"]), "unknown_kind"),
    "weight infinite": (official(weight=float("inf")), "bad_weight"),
    "weight below 0": (official(weight=-1.0), "bad_weight"),
    "weight of 400 digits": (official(weight=10**400), "bad_weight"),
    "source and target in one language": (official(source_language="en", language="eng"), "untranslated"),
    "a thought without an end": (official(target_chosen=sharegpt("assistant", "<think>Hmm.")), "unfinished_thought"),
    "nothing but a thought": (official(source_chosen=sharegpt("assistant", "<think>Hm.</think> ")), "only_thoughts"),
    "weight a text": (official(weight="much"), "bad_weight"),
    "a text": ("text", "not_an_object"),
    "null": (None, "not_an_object"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_rejected_and_not_the_file(mpo, tmp_path, case):
    row, reason = BAD_ROWS[case]
    to_json(tmp_path / "p.json", [official(), row, official()])
    outcome = mpo("pairs", "import", tmp_path / "p.json", "--out", tmp_path / "o.parquet", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    report = json.loads(outcome.out)
    assert (report["pairs"], report["quarantined"], report["reasons"]) == (2, 1, {reason: 1})
    (rejected,) = pq.read_table(report["quarantine"]).to_pylist()
    assert (rejected["row_id"], rejected["reason"]) == ("1", reason)
    audited = json.loads(mpo("pairs", "audit", tmp_path / "p.json", "--json").out)
    assert sum(counts["rows"] for counts in audited["languages"].values()) == 3


@pytest.mark.parametrize("command", ["import", "export", "train"])
def test_a_file_without_any_usable_row_is_a_single_line(mpo, tmp_path, command):
    to_json(tmp_path / "p.json", [BAD_ROWS["equal answers"][0]] * 3)
    out = tmp_path / ("out.parquet" if command == "import" else "out")
    given = {
        "import": ["pairs", "import", tmp_path / "p.json"],
        "export": ["pairs", "export", tmp_path / "p.json"],
        "train": ["train", "--model", "microworld", "--pairs", tmp_path / "p.json"],
    }[command]
    check_single_line(
        mpo(*given, "--out", out), r"p\.json: no pair can be used \(equal_answers 3\); the first is row 0: target\. Fix"
    )
    assert left(tmp_path) == ["p.json"]


def test_a_line_that_is_no_json_is_a_rejected_row(mpo, tmp_path):
    lines = [json.dumps(official()), "{", "[" * 100_000, '{"n": ' + "9" * 5000 + "}", json.dumps(official())]
    (tmp_path / "p.jsonl").write_text("\n".join(lines))
    outcome = mpo("pairs", "import", tmp_path / "p.jsonl", "--out", tmp_path / "o.parquet", "--json")
    assert json.loads(outcome.out)["reasons"] == {"not_json": 3}


def test_a_parquet_row_that_is_not_utf8_is_rejected(mpo, tmp_path):
    rows = pair_rows(3)
    table = pa.Table.from_pylist(rows)
    texts = [row["target_chosen"].encode() for row in rows]
    texts[1] = b"\xff\xfe broken"
    broken = pa.Array.from_buffers(pa.string(), 3, pa.array(texts, pa.binary()).buffers())
    at = table.column_names.index("target_chosen")
    pq.write_table(table.set_column(at, "target_chosen", broken), tmp_path / "p.parquet")
    outcome = mpo("pairs", "import", tmp_path / "p.parquet", "--out", tmp_path / "o.parquet", "--json")
    report = json.loads(outcome.out)
    assert (report["pairs"], report["reasons"]) == (2, {"broken_unicode": 1})


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_a_table_with_values_that_python_cannot_hold(tmp_path, form):
    table = pa.Table.from_pylist(pair_rows(2))
    table = table.append_column("when", pa.array([0, 1], pa.timestamp("us", "Mars/Phobos")))
    path = tmp_path / f"p.{form}"
    if form == "parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
    assert [read.fault for read in read_pairs(path)] == [None, None]


def test_an_array_with_a_row_that_cannot_be_read(tmp_path):
    rows = [json.dumps(official()), "[" * 9000 + "]" * 9000, json.dumps(official())[:-1] + ', "n": ' + "9" * 5000 + "}"]
    (tmp_path / "p.json").write_text(f"[{','.join(rows)}]")
    assert [read.fault and read.fault[0] for read in read_pairs(tmp_path / "p.json")] == [None, "not_json", None]


@pytest.mark.parametrize("name", ["pairs[sw].parquet", "pairs[/red].parquet", "[bold]x.parquet"])
def test_the_path_that_is_printed_is_the_path_that_is_written(mpo, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    to_json(tmp_path / "p.json", [official(), BAD_ROWS["one language"][0]])
    outcome = mpo("pairs", "import", "p.json", "--out", f"o/{name}")
    assert outcome.code == 0
    assert f"out: o/{name}" in outcome.out.splitlines()
    assert (tmp_path / "o" / name).is_file()


@pytest.mark.parametrize("code", ["swh", "SW", "swa", "sw"])
def test_another_code_of_a_known_language_is_that_language(mpo, tmp_path, code):
    to_json(tmp_path / "p.json", [official(source_language="eng", language=code), official(language=code)])
    outcome = mpo("pairs", "import", tmp_path / "p.json", "--out", tmp_path / "o.parquet", "--json")
    assert json.loads(outcome.out)["languages"] == {"sw": 2}
    assert {row["source_language"] for row in pq.read_table(tmp_path / "o.parquet").to_pylist()} == {"en"}


RUSSIAN = ("Как мне испечь буханку хлеба дома?", "Возьмите кастрюлю с крышкой.", "Я не могу помочь вам с этим.")


@pytest.mark.parametrize("named", [True, False], ids=["named", "identified"])
def test_pairs_in_a_registered_language(mpo, tmp_path, monkeypatch, named):
    """The language is known where its root is given; elsewhere the row is rejected with the way to register it."""
    before = dict(LANGUAGES)
    (tmp_path / "root").mkdir()
    assert mpo("languages", "add", "ru", "--name", "Russian", "--script", "Cyrl", "--root", tmp_path / "root").code == 0
    LANGUAGES.pop("ru")  # a new process knows the table alone
    texts = zip(NAMES, RUSSIAN, strict=True)
    row = written("texts") | {f"target_{name}": text for name, text in texts}
    to_json(tmp_path / "p.json", [row | ({"source_language": "en", "language": "ru"} if named else {})])
    given = ["pairs", "import", tmp_path / "p.json", "--out", tmp_path / "o.parquet"]
    monkeypatch.chdir(tmp_path)
    check_single_line(mpo(*given), r"unknown_language 1.*register it: mpo languages add ru")
    check_single_line(mpo(*given, "--root", tmp_path / "nowhere"), "--root .*nowhere: no such folder")
    outcome = mpo(*given, "--root", tmp_path / "root", "--json")
    assert json.loads(outcome.out)["languages"] == {"ru": 1}
    LANGUAGES.pop("ru")
    for command, more in (("audit", []), ("export", ["--out", tmp_path / "e.json"])):
        outcome = mpo("pairs", command, tmp_path / "p.json", *more, "--root", tmp_path / "root", "--json")
        assert "ru" in json.loads(outcome.out)["languages"]
        LANGUAGES.pop("ru")
    assert before == LANGUAGES


def test_import_does_not_write_over_what_it_reads(mpo, write_pairs):
    path = write_pairs()
    check_single_line(mpo("pairs", "import", path, "--out", path), "this file is the input")


def test_the_examples_of_the_faults(mpo, shared_data, tmp_path):
    """Rows of other tools: one answer as a list is read; equal answers and a system message are told by name."""
    folder = shared_data / "faults" / "24"
    if not folder.is_dir():
        pytest.skip("the examples are not here")
    result = {}
    for name in ("code", "listans", "same", "sys", "lf"):
        outcome = mpo("pairs", "import", folder / f"{name}.json", "--out", tmp_path / f"{name}.parquet", "--json")
        assert (outcome.code, len(outcome.err.splitlines())) in {(0, 0), (2, 1)}
        result[name] = (outcome.code, next((r for r in ("equal", "system", "one_lang") if r in outcome.err), None))
    assert result == {
        "code": (0, None),
        "listans": (0, None),
        "same": (2, "equal"),
        "sys": (2, "system"),
        "lf": (2, "one_lang"),
    }
