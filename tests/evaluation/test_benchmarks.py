"""Benchmarks: their settings, and their loaders on small files of the real layout with neutral texts."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mpo_core.contract.benchmark import BENCHMARKS, recognised
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.metric import Metric
from mpo_core.contract.tables import METRICS
from mpo_core.evaluation.comparison import compare
from mpo_core.evaluation.metrics import metrics
from mpo_core.prompts.benchmark import benchmark_fingerprint, benchmark_prompts
from mpo_core.settings import EvaluationSettings
from mpo_core.settings.profiles import load_config

MULTIJAIL = (
    "\ufeffid,source,tags,en,zh,it,vi,ar,ko,th,bn,sw,jv\n"
    "1,a,\"['Theft']\",en one,zh one,it one,vi one,ar one,ko one,th one,bn one,sw one,jv one\n"
    "2,a,\"['Theft', 'Fraud']\",en two,zh two,it two,vi two,ar two,ko two,th two,bn two,,jv two\n"
    "3,a,\"['Fraud']\",en three,zh three,it three,vi three,ar three,ko three,th three,bn three,sw three,jv three\n"
)


@pytest.fixture
def multijail(tmp_path):
    path = tmp_path / "MultiJail.csv"
    path.write_text(MULTIJAIL, encoding="utf-8")
    return lambda **settings: BENCHMARKS.parse({"benchmark": "multijail", "path": str(path), **settings})


def test_a_prompt_of_multijail_has_one_id_in_every_language(multijail):
    english, rejected = benchmark_prompts(multijail(), "en")
    assert english["text"].to_pylist() == ["en one", "en two", "en three"]
    assert set(english["kind"].to_pylist()) == {"harmful"}
    assert english["category"].to_pylist()[1] == "['Theft', 'Fraud']"
    assert rejected.num_rows == 0
    swahili, rejected = benchmark_prompts(multijail(), "sw")
    ids = english["prompt_id"].to_pylist()
    assert swahili["prompt_id"].to_pylist() == [ids[0], ids[2]]
    assert [row["reason"] for row in rejected.to_pylist()] == ["empty_text"]


@pytest.mark.parametrize("name", ["m.parquet", "m.arrow"])
def test_multijail_as_parquet_and_arrow(multijail, tmp_path, name):
    table = pa.table({code: ["one", "two"] for code in ("id", "tags", "en")})
    if name.endswith("arrow"):
        with pa.ipc.new_file(str(tmp_path / name), table.schema) as writer:
            writer.write_table(table)
    else:
        pq.write_table(table, tmp_path / name)
    assert benchmark_prompts(multijail(path=str(tmp_path / name)), "en")[0]["text"].to_pylist() == ["one", "two"]


def test_a_language_that_a_benchmark_lacks_has_no_prompts(multijail):
    prompts, rejected = benchmark_prompts(multijail(), "ja")
    assert (prompts.num_rows, rejected.num_rows) == (0, 0)


def test_a_limit_draws_the_same_prompts_in_every_language(multijail):
    drawn = [benchmark_prompts(multijail(limit=2), code)[0]["prompt_id"].to_pylist() for code in ("en", "zh")]
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 2


def test_the_fingerprint_follows_the_files_content(multijail, tmp_path):
    before = benchmark_fingerprint(multijail(), "en")
    assert before == benchmark_fingerprint(multijail(), "zh")
    (tmp_path / "MultiJail.csv").write_text(MULTIJAIL.replace("en one", "en other"), encoding="utf-8")
    assert benchmark_fingerprint(multijail(), "en") != before


def test_xstest_has_both_kinds_in_english_alone(tmp_path):
    path = tmp_path / "xstest.csv"
    path.write_text(
        "id,prompt,type,label,focus,note\n"
        "v2-1,How do I end a process?,homonyms,safe,end,\n"
        "v2-2,A contrast,contrast_homonyms,unsafe,end,\n",
        encoding="utf-8",
    )
    xstest = BENCHMARKS.parse({"benchmark": "xstest", "path": str(path)})
    prompts, _ = benchmark_prompts(xstest, "en")
    assert prompts["kind"].to_pylist() == ["harmless", "harmful"]
    assert prompts["category"].to_pylist() == ["homonyms", "contrast_homonyms"]
    assert benchmark_prompts(xstest, "sw")[0].num_rows == 0


def test_held_out_prompts_are_always_measured_and_change_no_key():
    plain = EvaluationSettings()
    assert [entry.benchmark for entry in plain.benchmarks] == ["held_out"]
    assert EvaluationSettings(benchmarks=["held_out"]).key() == plain.key()
    both = EvaluationSettings(benchmarks=["own_over_refusal"])
    assert sorted(entry.benchmark for entry in both.benchmarks) == ["held_out", "own_over_refusal"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[multijail]", r"evaluation\.benchmarks\.0\.path: Field required"),
        ("[unheard_of]", "benchmark 'unheard_of' is not known; known: .*multijail"),
        ("[{benchmark: multijail, path: some/data-set}]", r"set `revision` to one of its commits"),
        ("[{benchmark: held_out, translate: true}]", "held_out takes no settings"),
        ("[own_over_refusal, own_over_refusal]", "own_over_refusal is listed twice"),
    ],
)
def test_wrong_settings_are_one_clear_error(value, message):
    with pytest.raises(BadInputError, match=message):
        load_config(None, [f"evaluation.benchmarks={value}"])


def test_a_metric_of_its_own_counts_verdicts(judged):
    metric = Metric(
        name="by_hand",
        label="By hand",
        short="Hand",
        better="higher",
        kind="harmless",
        counts=lambda verdict: verdict.reason == "hand" and verdict.verdict == "safe",
    )
    verdicts = judged(sw={"harmful": "u u", "harmless": "h r i i"})
    (row,) = metrics(verdicts, None, model="after", confidence=0.95, benchmark="hands", measured=[metric]).to_pylist()
    assert (row["benchmark"], row["metric"], row["count"], row["n"], row["value"]) == ("hands", "by_hand", 2, 4, 0.5)
    (change,) = compare(verdicts, verdicts, confidence=0.95, benchmark="hands", measured=[metric]).to_pylist()
    assert (change["benchmark"], change["metric"], change["n"], change["p_value"]) == ("hands", "by_hand", 4, 1.0)


def test_metrics_written_before_there_were_benchmarks_are_of_held_out_prompts(judged):
    table = metrics(judged(sw={"harmful": "u r"}), None, model="after", confidence=0.95)
    assert METRICS.check(table.drop_columns(["benchmark"])).equals(table)
    mixed = pa.concat_tables([METRICS.check(table.drop_columns(["benchmark"])), table.slice(0, 0)])
    assert set(mixed["benchmark"].to_pylist()) == {"held_out"}


def test_polyrefuse_reads_the_files_of_each_language_that_it_has(tmp_path):
    for kind in ("harmful", "harmless"):
        english = [{"instruction": f"{kind} {number}", "category": "c"} for number in range(2)]
        korean = [row | {"instruction_translated": f"ko {row['instruction']}"} for row in english]
        for code, rows in (("en", english), ("ko", korean)):
            (tmp_path / f"{kind}_test_translated_{code}.json").write_text(json.dumps(rows), encoding="utf-8")
    benchmark = BENCHMARKS.parse({"benchmark": "polyrefuse", "path": str(tmp_path)})
    english, korean, swahili = (benchmark_prompts(benchmark, code)[0] for code in ("en", "ko", "sw"))
    assert english["text"].to_pylist() == ["harmful 0", "harmful 1", "harmless 0", "harmless 1"]
    assert korean["text"].to_pylist() == [f"ko {text}" for text in english["text"].to_pylist()]
    assert korean["kind"].to_pylist() == ["harmful", "harmful", "harmless", "harmless"]
    assert english["prompt_id"].equals(korean["prompt_id"])
    assert swahili.num_rows == 0


def test_advbench_x_and_or_bench_read_their_columns(tmp_path):
    wide, narrow = tmp_path / "advbench.csv", tmp_path / "or-bench.csv"
    wide.write_text("en,zh,ko\nen one,zh one,ko one\n", encoding="utf-8")
    narrow.write_text("prompt,category\nHow do I end a process?,deception\n", encoding="utf-8")
    advbench = BENCHMARKS.parse({"benchmark": "advbench_x", "path": str(wide)})
    or_bench = BENCHMARKS.parse({"benchmark": "or_bench", "path": str(narrow)})
    assert benchmark_prompts(advbench, "ko")[0]["text"].to_pylist() == ["ko one"]
    (row,) = benchmark_prompts(or_bench, "en")[0].to_pylist()
    assert (row["text"], row["kind"], row["category"]) == ("How do I end a process?", "harmless", "deception")
    assert benchmark_prompts(or_bench, "ko")[0].num_rows == 0


def test_a_column_that_the_file_lacks_is_one_clear_error(tmp_path):
    path = tmp_path / "advbench.csv"
    path.write_text("en,zh\nen one,zh one\n", encoding="utf-8")
    with pytest.raises(BadInputError, match="ko"):
        benchmark_prompts(BENCHMARKS.parse({"benchmark": "advbench_x", "path": str(path)}), "ko")


def test_a_dataset_of_the_hub_is_read_at_its_commit():
    hub = BENCHMARKS.parse({"benchmark": "xstest", "path": "walledai/XSTest", "revision": "0123456"})
    (source,) = hub.sources("en")
    assert source["source"] == "dataset"
    assert (source["path"], source["revision"], source["dataset_split"]) == ("walledai/XSTest", "0123456", "test")
    assert benchmark_fingerprint(hub, "en")[1:] == ["hub:walledai/XSTest@0123456"]
    assert hub.origin == "walledai/XSTest@0123456"


def test_the_set_that_ships_has_every_prompt_in_seven_languages():
    benchmark = BENCHMARKS.parse({"benchmark": "own_over_refusal"})
    tables = {code: benchmark_prompts(benchmark, code) for code in ("en", "zh", "ja", "ko", "ar", "bn", "sw")}
    assert {rejected.num_rows for _, rejected in tables.values()} == {0}
    assert {tuple(prompts["prompt_id"].to_pylist()) for prompts, _ in tables.values()} == {
        tuple(tables["en"][0]["prompt_id"].to_pylist())
    }
    assert tables["en"][0].num_rows >= 60
    assert set(tables["sw"][0]["kind"].to_pylist()) == {"harmless"}


def test_csrt_is_english_with_mixed_texts(tmp_path):
    path = tmp_path / "csrt.csv"
    path.write_text("id,category,en,csrt\n0,c,How do I bake?,Wie backe 我 pan?\n", encoding="utf-8")
    csrt = BENCHMARKS.parse({"benchmark": "csrt", "path": str(path)})
    (row,) = benchmark_prompts(csrt, "en")[0].to_pylist()
    assert (row["text"], row["kind"], row["category"]) == ("Wie backe 我 pan?", "harmful", "c")
    assert benchmark_prompts(csrt, "zh")[0].num_rows == 0
    assert csrt.licence is None


def test_xsafety_reads_files_without_a_header(tmp_path):
    from openpyxl import Workbook

    for code, ending in (("en", "_n"), ("bn", "")):
        (tmp_path / code).mkdir()
        texts = [f"{code} one, two", "", f'{code} "three"']
        lines = [texts[0], f"{code} blank,", '"' + texts[2].replace('"', '""') + '"']
        (tmp_path / code / f"Insult{ending}.csv").write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "en" / "Mental_Health_en.csv").write_text('en four\n"  "\n', encoding="utf-8")
    book = Workbook()
    for text in ("bn four", "bn five"):
        book.active.append([text])
    book.save(tmp_path / "bn" / "Mental_Health.xlsx")
    (tmp_path / "bn" / "Mental_Health.xlsx").rename(tmp_path / "bn" / "Mental_Health.csv")  # the content decides

    xsafety = BENCHMARKS.parse({"benchmark": "xsafety", "path": str(tmp_path)})
    english, rejected = benchmark_prompts(xsafety, "en")
    assert english["text"].to_pylist() == ["en one, two", "en blank", 'en "three"', "en four"]
    assert english["category"].to_pylist() == ["insult", "insult", "insult", "mental_health"]
    assert [row["reason"] for row in rejected.to_pylist()] == ["empty_text"]
    bengali, _ = benchmark_prompts(xsafety, "bn")
    assert bengali["text"].to_pylist()[3:] == ["bn four", "bn five"]
    assert bengali["prompt_id"].to_pylist()[:4] == english["prompt_id"].to_pylist()
    assert benchmark_prompts(xsafety, "sw")[0].num_rows == 0


def test_aya_red_teaming_reads_one_file_or_a_folder(tmp_path):
    rows = [
        {"prompt": f"{name} {number}", "language": name, "harm_category": '["Profanity", "Hate Speech"]'}
        for name in ("English", "Arabic")
        for number in range(2)
    ]
    path = tmp_path / "aya.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    aya = BENCHMARKS.parse({"benchmark": "aya_red_teaming", "path": str(path)})
    english, arabic = (benchmark_prompts(aya, code)[0] for code in ("en", "ar"))
    assert english["text"].to_pylist() == ["English 0", "English 1"]
    assert english["category"].to_pylist()[0] == '["Profanity", "Hate Speech"]'
    # People wrote other prompts in each language, so these are no translations of each other.
    assert not set(english["prompt_id"].to_pylist()) & set(arabic["prompt_id"].to_pylist())
    assert benchmark_prompts(aya, "hi")[0].num_rows == 0
    (tmp_path / "aya_eng.jsonl").write_text(json.dumps(rows[0]) + "\n", encoding="utf-8")
    folder = BENCHMARKS.parse({"benchmark": "aya_red_teaming", "path": str(tmp_path)})
    assert benchmark_prompts(folder, "en")[0]["text"].to_pylist() == ["English 0"]
    assert benchmark_prompts(folder, "ar")[0].num_rows == 0


def test_polyguard_prompts_has_both_kinds_and_each_prompt_once(tmp_path):
    path = tmp_path / "polyguard.parquet"
    rows = [("Bake bread?", "unharmful"), ("Bake bread?", "unharmful"), ("Rude?", "harmful"), ("Unclear?", None)]
    table = {
        "prompt": [text for text, _ in rows] * 2,
        "prompt_harm_label": [label for _, label in rows] * 2,
        "subcategory": ["benign"] * 8,
        "language": ["en"] * 4 + ["ko"] * 4,
    }
    pq.write_table(pa.table(table), path)
    polyguard = BENCHMARKS.parse({"benchmark": "polyguard_prompts", "path": str(path)})
    prompts, rejected = benchmark_prompts(polyguard, "ko")
    assert prompts["kind"].to_pylist() == ["harmless", "harmful"]
    assert sorted(row["reason"] for row in rejected.to_pylist()) == ["duplicate_prompt", "no_kind"]
    assert benchmark_prompts(polyguard, "ja")[0].num_rows == 0


def test_the_authors_file_is_recognised_by_its_columns(multijail, tmp_path):
    known = recognised(tmp_path / "MultiJail.csv")
    assert known is not None
    assert known.benchmark == "multijail"
    (tmp_path / "own.csv").write_text("text,kind\nBake bread?,harmless\n", encoding="utf-8")
    assert recognised(tmp_path / "own.csv") is None
