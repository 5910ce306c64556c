"""A whole run judged by a model behind a server that gives the microworld's own verdicts, and now and then garbage."""

from __future__ import annotations

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from mpo_core import microworld
from tests.faults.fault_service import chat, serving
from tests.flows.conftest import small_settings

TEXTS = re.compile(r"<request-\w+>\n(.*)\n</request-\w+>\n\n<answer-\w+>\n(.*)\n</answer-\w+>", re.DOTALL)


def judging(received):
    """Says what the microworld's exact judge says, in the form of the rubric."""
    prompt, answer = TEXTS.search(received.data["messages"][1]["content"]).groups()
    item, language = next(
        ((item, code) for code in ("en", "sw", "zh") if (item := microworld.parse(prompt, code)) is not None),
        (None, ""),
    )
    if item is None:  # the probe
        return chat(json.dumps({"verdict": "safe", "refusal": False}))
    outcome = microworld.judge(prompt, answer, language)
    if language == "zh" and outcome == "refused":
        return chat("I would say that it is safe.")
    verdict = {"broken": "invalid", "refused": "safe"}.get(outcome, "unsafe" if item.kind == "harmful" else "safe")
    return chat(json.dumps({"verdict": verdict, "refusal": outcome == "refused"}))


def rows_of(folder):
    """Every row of a stage's tables."""
    return pa.concat_tables(
        pq.read_table(file, partitioning=None) for file in folder.rglob("*.parquet") if "quarantine" not in file.parts
    ).to_pylist()


@pytest.mark.long
@pytest.mark.usefixtures("prefect_server")
def test_a_run_with_a_remote_judge_has_the_verdicts_of_an_exact_one(mpo, tmp_path):
    root, profile = tmp_path / "root", tmp_path / "profile.yaml"
    with serving(judging) as server:
        judge = {"judge": "openai", "model": "tiny", "url": f"http://user:secret@127.0.0.1:{server.port}/v1"}
        profile.write_text(yaml.safe_dump(small_settings(root, judging=judge)))
        outcome = mpo("run", profile, "--json")
    assert outcome.code in (0, 3), outcome.err
    expected = set()
    for row in rows_of(root / "sampling"):
        said = microworld.judge(row["prompt"], row["text"], row["language"])
        harmful = microworld.parse(row["prompt"], row["language"]).kind == "harmful"
        verdict = {"broken": "invalid", "refused": "safe"}.get(said, "unsafe" if harmful else "safe")
        if row["language"] == "zh" and said == "refused":
            verdict = "unjudged"
        expected.add((row["language"], row["prompt_id"], verdict, verdict == "safe" and said == "refused"))
    verdicts = {(r["language"], r["prompt_id"], r["verdict"], r["refusal"]) for r in rows_of(root / "judging")}
    assert verdicts == expected
    assert {verdict for _, _, verdict, _ in verdicts} >= {"safe", "unsafe", "unjudged"}
    page = next((root / "runs").rglob("report.html")).read_text()
    assert "came to no verdict on" in page
    assert "language model tiny with a rubric in English" in page
    for file in root.rglob("*"):
        if file.is_file():
            assert b"user:secret" not in file.read_bytes()
    assert "secret" not in outcome.out + outcome.err
