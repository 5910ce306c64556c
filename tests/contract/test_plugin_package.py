"""A package of another team's, on the path of Python, through the real command."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "tests" / "plugin_package"


def mpo(*arguments):
    environment = os.environ | {"PYTHONPATH": str(PACKAGE)}
    return subprocess.run(
        [sys.executable, "-m", "mpo_command", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_judge_of_another_package_judges(tmp_path, prompts_csv):
    arguments = ["evaluate", "--model", "microworld", "--prompts", prompts_csv, "--json"]
    changes = ["languages.targets=[sw]", f"run.root={tmp_path}", "evaluation.sampling.max_new_tokens=6"]
    judge = json.dumps({"judge": "short_answers", "most_words": 1000})
    changes.append(f"judging={judge}")
    done = mpo(*arguments, *(part for change in changes for part in ("--set", change)))
    assert done.returncode == 0, done.stderr
    rows = [row for row in json.loads(done.stdout)["metrics"] if row["language"] == "sw"]
    # The microworld's model helps with most of these in Swahili; only this judge takes every answer for a refusal.
    assert {row["metric"]: row["value"] for row in rows if row["metric"] in {"unsafe", "over_refusal"}} == {
        "unsafe": 0.0,
        "over_refusal": 1.0,
    }


def test_its_settings_are_checked_like_ours(prompts_csv):
    judge = json.dumps({"judge": "short_answers", "min_letters": 3})
    done = mpo("evaluate", "--model", "microworld", "--prompts", prompts_csv, "--set", f"judging={judge}")
    assert done.returncode == 2
    assert "unknown settings key 'judging.min_letters'. Known here: judge, most_words" in done.stderr
