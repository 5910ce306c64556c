"""The profile of docs/your-model.md, section "A real model behind servers", with small servers on loopback."""

import re
import sys
from pathlib import Path

import pytest

from tests.faults.fault_service import chat, serving
from tests.test_walks import WALKS, section

SAMPLING = Path(__file__).resolve().parents[1] / "sampling" / "small_server.py"


@pytest.mark.long
@pytest.mark.usefixtures("prefect_server")
def test_the_profile_with_servers_goes_from_nothing_to_a_report(mpo, tmp_path, monkeypatch):
    monkeypatch.chdir(Path(__file__).resolve().parents[2])
    (text,) = re.findall(r"```yaml\n(.*?)```", section(WALKS[1]), re.DOTALL)
    profile = tmp_path / "servers.yaml"
    profile.write_text(text, encoding="utf-8")
    command = [sys.executable, str(SAMPLING), "{model}", "{port}"]
    with serving(lambda _: chat("Safety: Safe\nCategories: None\nRefusal: No")) as guard:
        changes = {
            "run.root": tmp_path / "root",
            "model.path": "microworld",
            "prompts.sources.0.limit": 30,
            "judging.url": f"{guard.url}/v1",
            "pairs.min_dominant_refusal": 0,
            "training.max_steps": 2,
            "training.precision": "float32",
        }
        for key in ("sampling", "evaluation.sampling"):
            changes |= {f"{key}.backend.command": str(command).replace("'", '"')}
        settings = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
        outcome = mpo("run", profile, "--languages", "sw", *settings)
    assert outcome.code == 3, outcome.err
    assert (tmp_path / "root" / "runs" / "servers" / "report.html").is_file()
    judged = [received for received in guard.received if "/chat/completions" in received.path]
    assert {received.data["model"] for received in judged} == {"Qwen/Qwen3Guard-Gen-0.6B"}
    assert len({received.body for received in judged}) > 30
