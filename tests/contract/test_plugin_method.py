"""A training method of another package: through `mpo train`, and through the flow."""

import hashlib
import json
import os
import subprocess
import sys
import time

import pytest

from tests.contract.test_plugin_package import PACKAGE, ROOT, mpo, mpo_in_turn, surroundings
from tests.faults.conftest import write_pairs  # noqa: F401 - a fixture
from tests.flows.conftest import small_settings

HINGE = {"method": "hinge", "margin": 50.0, "learning_rate": 1e-3, "batch_size": 2, "threads": 1, "save_every": 1}
FLOW = """
import json, sys
from flows.full_pipeline import full_pipeline
from mpo_core.settings.profiles import parse_config
from tests.flows.conftest import ledger
config, overrides = parse_config(json.loads(sys.argv[1]), where="test"), json.loads(sys.argv[2])
with ledger() as ran:
    full_pipeline(config, overrides)
print(json.dumps([name for name in ran if name.startswith("train-")]))
"""


def train_command(pairs, out, **changes):
    settings = [part for item in (HINGE | changes).items() for part in ("--set", "training.{}={}".format(*item))]
    where = ["--out", str(out), "--set", f"run.root={out.parent / out.name}-root"]
    return ["train", "--pairs", str(pairs), "--model", "microworld", *where, "--json", *settings]


def steps_of(out):
    log = json.loads((out / "trainer_state.json").read_text())["log_history"]
    return [entry for entry in log if "loss" in entry]


def test_it_trains_on_a_file_of_pairs(write_pairs, tmp_path):  # noqa: F811
    done = mpo(*train_command(write_pairs(), tmp_path / "out", max_steps=3))
    assert done.returncode == 0, done.stderr
    steps = steps_of(tmp_path / "out")
    assert len(steps) == 3
    for step in steps:  # every gap is below so large a margin
        assert step["loss"] == pytest.approx(50.0 - step["reward_gap/target"], rel=1e-6)
    assert len({step["loss"] for step in steps}) == 3
    assert "loss/retention" not in steps[0]  # it does not need the dominant pairs


def test_its_settings_are_checked_like_ours(write_pairs, tmp_path):  # noqa: F811
    cases = [
        ({"beta": 1.0}, "dpo, epsilon_mpo, ipo, kto, mpo, orpo, r_dpo, rdpo, simpo, not of hinge"),
        (
            {"method": "dpo"},
            "`training.margin` is a setting of hinge, not of dpo. Remove it, or set training.method",
        ),
        ({"margin": -1}, "training.margin: Input should be greater than 0, given -1"),
    ]
    pairs = write_pairs()
    outcomes = mpo_in_turn(*(train_command(pairs, tmp_path / "out", **changes) for changes, _ in cases))
    for outcome, (_, message) in zip(outcomes, cases, strict=True):
        assert (outcome.code, outcome.out) == (2, "")
        assert message in outcome.err
        assert len(outcome.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_it_resumes_to_the_same_weights(write_pairs, tmp_path):  # noqa: F811
    pairs = write_pairs()
    whole, cut, root = tmp_path / "whole", tmp_path / "cut", tmp_path / "cut-root"
    assert mpo(*train_command(pairs, whole, max_steps=30)).returncode == 0
    command = [sys.executable, "-m", "mpo_command", *train_command(pairs, cut, max_steps=30)]
    running = subprocess.Popen(command, cwd=ROOT, env=surroundings(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 300
    while not list(root.rglob("checkpoint-*/complete.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    running.kill()
    running.communicate()
    assert list(root.rglob("checkpoint-*/complete.json"))
    assert not (cut / "model").exists()
    assert mpo(*train_command(pairs, cut, max_steps=30)).returncode == 0
    assert [step["loss"] for step in steps_of(cut)] == [step["loss"] for step in steps_of(whole)]
    digests = {hashlib.sha256((out / "model" / "model.safetensors").read_bytes()).hexdigest() for out in (whole, cut)}
    assert len(digests) == 1


@pytest.mark.long
def test_it_trains_in_the_flow_and_is_cached(tmp_path):
    settings = small_settings(tmp_path / "root")

    def trained(training, overrides=None):
        done = subprocess.run(
            [sys.executable, "-c", FLOW, json.dumps(settings | {"training": training}), json.dumps(overrides or {})],
            cwd=ROOT,
            env=surroundings() | {"PYTHONPATH": os.pathsep.join([str(PACKAGE), str(ROOT)])},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout.splitlines()[-1])

    hinge = settings["training"] | {"method": "hinge"}
    assert len(trained(hinge)) == 1
    assert trained(hinge) == []
    assert trained(hinge | {"margin": 1.0}) == []  # its default takes no part in the key
    assert trained(settings["training"], {"training.method": "hinge"}) == []
    assert len(trained(hinge | {"margin": 2.0})) == 1
