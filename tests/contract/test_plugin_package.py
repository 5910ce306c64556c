"""A package of another team's, on the path of Python, through the real command."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from tests.flows.conftest import small_settings
from tests.session import shared_process

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "tests" / "plugin_package"


READS = """
import json, sys
from mpo_core.prompts.load import fingerprint, load_prompts
from mpo_core.settings.profiles import load_config
config = load_config(None, sys.argv[1:])
loaded = load_prompts(config.prompts, dominant="en", seed=0)
prompts = [(row["text"], row["kind"], row["source"]) for row in loaded.prompts.to_pylist()]
print(json.dumps([prompts, [row["row_id"] for row in loaded.quarantine.to_pylist()], fingerprint(config.prompts)]))
"""


def surroundings():
    """The environment of a process that knows the package, with the server that all tests share."""
    return os.environ | {"PYTHONPATH": str(PACKAGE), "PREFECT_API_URL": shared_process("prefect_server.py")}


def mpo(*arguments):
    return python("-m", "mpo_command", *arguments, environment=surroundings())


class Outcome(NamedTuple):
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


IN_TURN = """
import json, sys
from mpo_command import main
from tests.session import forked_trainings
with forked_trainings():
    for arguments in json.loads(sys.argv[1]):
        sys.argv, code = ["mpo", *arguments], 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        for stream in (sys.stdout, sys.stderr):
            print(f"\\0{code}\\0", end="", file=stream, flush=True)
"""


def mpo_in_turn(*commands):
    """Runs several commands in a single process, which spares the start of the others."""
    given = json.dumps([[str(argument) for argument in command] for command in commands])
    done = python("-c", IN_TURN, given, environment=surroundings())
    assert done.returncode == 0, done.stderr
    out, err = done.stdout.split("\0"), done.stderr.split("\0")
    return [Outcome(int(code), *texts) for code, *texts in zip(out[1::2], out[::2], err[::2], strict=False)]


def python(*arguments, environment=None):
    environment = environment or os.environ | {"PYTHONPATH": str(PACKAGE)}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_judge_and_a_sampling_backend_of_another_package(tmp_path, prompts_csv):
    arguments = ["evaluate", "--model", "microworld", "--prompts", prompts_csv, "--out", tmp_path / "out", "--json"]
    changes = ["languages.targets=[sw]", f"run.root={tmp_path / 'root'}"]
    changes.append(f"judging={json.dumps({'judge': 'short_answers', 'most_words': 2})}")
    changes.append(f"evaluation.sampling.backend={json.dumps({'backend': 'echo', 'words': 2})}")
    done = mpo(*arguments, *(part for change in changes for part in ("--set", change)))
    assert done.returncode == 0, done.stderr
    rows = pq.read_table(tmp_path / "out" / "model" / "answers.parquet").to_pylist()
    assert {row["language"] for row in rows} == {"en", "sw"}
    assert [row["text"] for row in rows] == [" ".join(row["prompt"].split()[:2]) for row in rows]
    assert {row["backend"] for row in rows} == {"echo"}
    rows = [row for row in json.loads(done.stdout)["metrics"] if row["language"] == "sw"]
    # Two words of the question are no refusal; only this judge takes every short answer for one.
    assert {row["metric"]: row["value"] for row in rows if row["metric"] in {"unsafe", "over_refusal"}} == {
        "unsafe": 0.0,
        "over_refusal": 1.0,
    }


def test_a_prompt_source_of_another_package_brings_prompts(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("Bake bread.\n\nPour tea.\n")
    source = {"source": "text_lines", "path": str(path), "kind": "harmless"}
    done = python("-c", READS, f"prompts.sources={json.dumps([source])}")
    assert done.returncode == 0, done.stderr
    prompts, rejected, digests = json.loads(done.stdout)
    assert prompts == [[text, "harmless", "lines.txt"] for text in ("Bake bread.", "Pour tea.")]
    assert rejected == ["lines.txt/1"]
    assert digests == [f"text_lines:{hashlib.sha256(path.read_bytes()).hexdigest()}"]


def test_the_command_reports_its_mistakes(tmp_path, prompts_csv):
    cases = (
        ({"path": str(tmp_path / "none.txt"), "kind": "harmless"}, "none.txt: cannot be read (No such file"),
        ({"path": "x", "kind": "harmless", "delimiter": ";"}, "`prompts.sources.0.delimiter` is a setting of"),
    )
    sources = [json.dumps([{"source": "text_lines"} | settings]) for settings, _ in cases]
    root = ["--set", f"run.root={tmp_path / 'root'}"]
    judge = json.dumps({"judge": "short_answers", "min_letters": 3})
    outcomes = mpo_in_turn(
        *(["run", "--set", f"prompts.sources={source}", *root] for source in sources),
        ["evaluate", "--model", "microworld", "--prompts", prompts_csv, "--set", f"judging={judge}"],
    )
    of_judge = "`judging.min_letters` is a setting of guard, openai, refusal_rules, not of short_answers."
    for outcome, message in zip(outcomes, (*(message for _, message in cases), of_judge), strict=True):
        assert outcome.code == 2, outcome
        assert message in outcome.err


def test_a_benchmark_of_another_package_is_measured_before_and_after(tmp_path):
    judge = {"judge": "short_answers", "most_words": 1000}
    benchmarks = [{"benchmark": "riddles", "judging": judge}]
    settings = small_settings(tmp_path, evaluation__benchmarks=benchmarks)
    profile = tmp_path / "profile.yaml"
    profile.write_text(json.dumps(settings), encoding="utf-8")
    done, again = mpo_in_turn(["run", profile, "--json"], ["run", profile])
    assert done.code in {0, 3}, done.err  # four steps of training may not pass the gate
    summary = json.loads(done.out)
    rows = [row for row in summary["metrics"] if row["benchmark"] == "riddles"]
    # All answers are brief to this judge, and brief answers are refusals to it.
    assert {(row["model"], row["language"], row["metric"], row["n"], row["value"]) for row in rows} == {
        (model, language, metric, 2, 1.0)
        for model in ("before", "after")
        for language in ("en", "sw", "targets")
        for metric in ("brief", "over_refusal")
    }
    card = next(card for card in summary["benchmarks"] if card["name"] == "riddles")
    assert (card["missing"], card["judge"], card["licence"]) == (["zh"], "short_answers", "Apache-2.0")
    page = (tmp_path / "runs" / "small" / "report.html").read_text(encoding="utf-8")
    assert "Riddles: harmless prompts" in page
    assert "Riddles has no prompts in Chinese, so nothing was measured there." in page
    assert "0 tasks computed" in again.out
    assert "Riddles: before → after, % of 2 harmless prompts" in again.out
    assert "the benchmark has no prompts in Chinese" in again.out
