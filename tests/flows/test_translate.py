"""`mpo translate`, and translation by services within a run: what they ask for, and what never again."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mpo_core import microworld
from mpo_core.contract.tables import QUARANTINE, TRANSLATED
from mpo_core.translation.memory import MemoryEngine
from tests.faults.test_bad_input import check_single_line
from tests.flows.conftest import ledger, run_small
from tests.translation.service import Service, sentences, serving

pytestmark = pytest.mark.usefixtures("prefect_server")  # or each process would start one of its own

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def service():
    with serving(Service()) as made:
        yield made


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.csv"
    write(path, sentences(30))
    return path


def write(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", "text"], *enumerate(rows)])


def google(service, **more):
    options = {"url": f"{service.url}/m", "concurrency": 4, "timeout": 30.0, **more}
    return ["--engine", "google", *(f"--set=translation.engines.0.{key}={value}" for key, value in options.items())]


def command(service, file, out, root, *more, to="sw,zh"):
    return ["translate", file, "--to", to, *google(service), "--out", out, f"--set=run.root={root}", *more]


def test_a_file_is_translated_and_counted(mpo, service, texts, tmp_path):
    out = tmp_path / "out.parquet"
    dry = mpo(*command(service, texts, out, tmp_path / "root", "--dry-run", "--json"))
    load = json.loads(dry.out)
    assert [(row["language"], row["texts"], row["requests"], row["saved"]) for row in load] == [
        ("sw", 30, 30, 0),
        ("zh", 30, 30, 0),
    ]
    assert load[0]["characters"] == sum(map(len, sentences(30)))
    assert not service.answered
    assert not out.exists()

    outcome = mpo(*command(service, texts, out, tmp_path / "root"))
    assert outcome.code == 0, outcome
    assert "what would be requested, at most" in outcome.out
    assert "google 30" in outcome.out
    table = TRANSLATED.check(pq.read_table(out))
    assert out.stat().st_mode & 0o777 == 0o600
    rows = table.to_pylist()
    assert [(row["row"], row["language"]) for row in rows[:2]] == [(0, "sw"), (1, "sw")]
    assert all(row["text"] == microworld.translate(row["source"], "en", row["language"]) for row in rows)
    assert {row["weight"] for row in rows} == {1.0}
    assert not (tmp_path / "out.quarantine.parquet").exists()

    again = json.loads(mpo(*command(service, texts, out, tmp_path / "root", "--json")).out)
    assert again["languages"]["sw"]["translated"] == 30
    assert max(service.answered.values()) == 1  # nothing was asked twice
    # What was translated is a memory for others.
    assert MemoryEngine(out).translate([rows[0]["source"]], "en", "sw")[0].text == rows[0]["text"]


def test_a_second_translation_computes_nothing(mpo, texts, tmp_path):
    given = ["translate", texts, "--to", "sw,ko", "--engine", "microworld", f"--set=run.root={tmp_path / 'root'}"]
    with ledger() as ran:
        assert mpo(*given, "--out", tmp_path / "first.csv").code == 0
    assert sorted(ran) == ["translate-ko-texts-00000", "translate-sw-texts-00000"]
    with ledger() as ran:
        assert mpo(*given, "--out", tmp_path / "second.csv").code == 0
    assert ran == []
    assert (tmp_path / "first.csv").read_bytes() == (tmp_path / "second.csv").read_bytes()


def test_what_is_rejected_lies_beside_with_its_reason(mpo, service, tmp_path):
    file, out = tmp_path / "texts.jsonl", tmp_path / "out.csv"
    good, bad = sentences(2)
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in (good, " ", bad)), encoding="utf-8")
    service.fault = lambda text, _target: "echo" if text == bad else ""
    result = json.loads(mpo(*command(service, file, out, tmp_path / "root", "--json", to="sw")).out)
    assert result["languages"]["sw"]["reasons"] == {"empty_text": 1, "echo": 1}
    with out.open(newline="", encoding="utf-8") as written:
        assert [row["text"] for row in csv.DictReader(written)] == [microworld.translate(good, "en", "sw")]
    with Path(result["quarantine"]).open(newline="", encoding="utf-8") as written:
        quarantine = [(row["row_id"], row["reason"], row["detail"]) for row in csv.DictReader(written)]
    assert quarantine == [("1/sw", "empty_text", "no text in this row"), ("2/sw", "echo", "google echo 1")]
    header = Path(result["quarantine"]).read_text(encoding="utf-8").splitlines()[0]
    assert header.replace('"', "").split(",") == QUARANTINE.schema.names


@pytest.mark.parametrize("count", [30, pytest.param(10_000, marks=pytest.mark.long)])
def test_a_new_language_and_new_rows_cost_what_is_new(mpo, service, tmp_path, count):
    def ask(name, rows, to, *more):
        write(tmp_path / "texts.csv", rows)
        result = mpo(
            *command(service, tmp_path / "texts.csv", tmp_path / name, tmp_path / "root", *more, "--json", to=to)
        )
        assert result.code == 0, result
        return sum(service.answered.values())

    known = sentences(1000)
    service.translate = lambda text, source, target: (
        f"{text.partition(' ')[0]} {microworld.translate(text.partition(' ')[2], source, target)}"
    )
    rows = [f"N{number:05} {known[number % 1000]}" for number in range(count + 10)]
    assert ask("a.parquet", rows[:count], "sw") == count
    assert ask("b.parquet", rows[:count], "sw,zh") == 2 * count
    more = [*rows[: count // 2], *rows[count:], *rows[count // 2 : count]]  # ten more, in the middle
    requests = ask("c.parquet", more, "sw,zh")
    assert requests == 2 * count + 10 * 2
    assert ask("d.parquet", more, "sw", "--set=translation.gates.max_length_factor=1.05") == requests
    marks = pq.read_table(tmp_path / "d.parquet")["marks"].to_pylist()
    assert ["length_ratio"] in marks  # judged anew, and nobody was asked


@pytest.mark.parametrize("moments", [[90], pytest.param([30, 90, 150], marks=pytest.mark.long)], ids=["once", "thrice"])
def test_killed_at_any_point_the_rerun_asks_for_nothing_that_was_answered(prefect_server, tmp_path, moments):
    file, out = tmp_path / "texts.csv", tmp_path / "out.parquet"
    write(file, sentences(120))
    with serving(Service(latency=0.1)) as service:
        arguments = [
            sys.executable,
            "-m",
            "flows.cli",
            *map(str, command(service, file, out, tmp_path / "root", "--json")),
        ]
        environment = os.environ | {"PREFECT_API_URL": prefect_server}
        for moment in moments:
            process = subprocess.Popen(
                arguments, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            while sum(service.answered.values()) < moment:
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            assert not out.exists()
        done = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, check=True, text=True)
    assert json.loads(done.stdout)["languages"]["zh"]["translated"] == 120
    assert list(tmp_path.glob(".*.tmp")) == [] or len(list(tmp_path.glob(".*.tmp"))) <= 2 * len(moments)
    # Answers that were on their way when a process died are the only ones asked for again: four connections a time.
    assert sum(service.answered.values()) - len(service.answered) <= 4 * len(moments)
    assert len(service.answered) == 240


@pytest.mark.long
def test_a_run_by_a_failing_service_gives_the_pairs_of_an_exact_service(warm, tmp_path):
    _, exact, _ = warm
    with serving(Service(rate=0.2, faults=("429", "500", "reset", "escaped twice", "<br>"))) as service:
        engine = {"engine": "deep_translator", "url": f"{service.url}/m", "concurrency": 8, "retries": 8}
        summary, _ = run_small(tmp_path / "root", translation__engines=[engine])
        requests = len(service.answered)
        run_small(tmp_path / "root", translation__engines=[engine], languages__targets=["sw", "zh", "bn"])
        assert {target for _, target in service.answered} == {"sw", "zh", "bn"}
        assert max(service.answered.values()) == 1
        assert len(service.answered) == requests // 2 * 3

    def pairs(summary):
        return sorted(ref.path for ref in summary.artifacts if ref.stage in {"pairs", "training"})

    assert pairs(summary) == pairs(exact)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--engine", "nix"], ["--engine nix: unknown engine", r"Name a service \(google, deepl,"]),
        (["--engine", "memory=none.csv"], ["none.csv: cannot be read"]),
        (["--engine", "memory=bad.tmx"], [r"bad\.tmx, line 1, column \d+: this is not XML"]),
        (["--engine", "seq2seq=./none"], ["no such folder"]),
        (["--engine", "google", "--column", "nix"], ["texts.csv: no column 'nix'", "Columns present: id, text"]),
        (["--engine", "google", "--to", "tlh"], ["unknown language 'tlh'"]),
        (["--engine", "google", "--out", "x.txt"], [r"--out x\.txt: unknown kind of file"]),
        (["--engine", "microworld", "--to", "it"], ["the engine `microworld` does not speak 'it'"]),
        (["--engine", "openai"], ["openai needs a value", "Write openai=MODEL"]),
        (["--engine", "google", "--to", "sw,sw"], ["--to sw,sw: a language is named twice"]),
        (["--engine", "google", "--set", "translation.engines.0.url=x"], [r"engines\.0\.url"]),
        ([], ["mpo translate: no translation engine is named"]),
    ],
    ids=lambda value: " ".join(value[-1:]) if isinstance(value, list) and value and value[0].startswith("--") else "",
)
def test_bad_input_is_one_line(mpo, texts, tmp_path, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    Path("bad.tmx").write_text("<tmx>", encoding="utf-8")
    arguments = ["--to", "sw", "--out", tmp_path / "out.parquet", *changes]
    check_single_line(mpo("translate", texts, *arguments), *message)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.tmx", "texts.csv"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "text\na,b\n", r"t\.csv, line 2: 2 columns where the header has 1"),
        ("t.jsonl", '{"text": "a"}\nnix\n', r"t\.jsonl, line 2: this line is not JSON"),
        ("t.jsonl", '{"text": 1}\n', r"t\.jsonl, line 1: column 'text' holds a int"),
        ("t.csv", "text\n", r"t\.csv: the file holds no row"),
        ("t.doc", "x", r"t\.doc: unknown kind of file"),
        ("t.parquet", "x", r"t\.parquet: this is not a readable Parquet file"),
    ],
)
def test_a_malformed_file_is_reported_before_a_service_gets_a_text(mpo, service, tmp_path, name, content, message):
    (tmp_path / name).write_text(content, encoding="utf-8")
    outcome = mpo(*command(service, tmp_path / name, tmp_path / "o.parquet", tmp_path / "root", "--json", to="sw"))
    check_single_line(outcome, message)
    assert not service.requests


def test_parquet_and_plain_lines_are_read_too(mpo, tmp_path):
    first, two = sentences(2)
    pq.write_table(pa.table({"n": [1, 2], "prompt": [first, two]}), tmp_path / "t.parquet")
    (tmp_path / "t.txt").write_text(f"{first}\n{two}\n", encoding="utf-8")
    outs = []
    for name, more in (("t.parquet", ["--column", "prompt"]), ("t.txt", [])):
        out = tmp_path / f"{name}.out.parquet"
        outcome = mpo("translate", tmp_path / name, "--to", "ko", "--engine", "microworld", "--out", out, *more)
        assert outcome.code == 0, outcome
        outs.append(pq.read_table(out)["text"].to_pylist())
    assert outs[0] == outs[1] == [microworld.translate(text, "en", "ko") for text in (first, two)]


def test_what_is_read_is_not_written_over(mpo, texts, tmp_path):
    before = texts.read_bytes()
    check_single_line(
        mpo("translate", texts, "--to", "ko", "--engine", "microworld", "--out", texts), "this file is an input"
    )
    memory = tmp_path / "m.csv"
    memory.write_text("en,ko\na,b\n", encoding="utf-8")
    check_single_line(
        mpo("translate", texts, "--to", "ko", "--engine", f"memory={memory}", "--out", memory), "this file is an input"
    )
    assert texts.read_bytes() == before


def test_the_csv_that_it_writes_is_a_memory(mpo, texts, tmp_path):
    out, again = tmp_path / "out.csv", tmp_path / "again.csv"
    assert mpo("translate", texts, "--to", "ko", "--engine", "microworld", "--out", out).code == 0
    result = json.loads(
        mpo("translate", texts, "--to", "ko", "--engine", f"memory={out}", "--out", again, "--json").out
    )
    assert result["languages"]["ko"]["engines"] == {"memory": 30}


def test_nothing_translated_is_a_failure(mpo, tmp_path):
    (tmp_path / "t.txt").write_text("This is no sentence of that world.\n", encoding="utf-8")
    outcome = mpo("translate", tmp_path / "t.txt", "--to", "ko", "--engine", "microworld", "--out", tmp_path / "o.csv")
    assert outcome.code == 1
    assert "no_translation" in outcome.out
