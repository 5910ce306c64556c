"""What goes wrong in the training process: bad input comes back as bad input, anything else without its words."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from mpo_core.contract.errors import BadInputError, StageFailedError
from mpo_core.contract.training import TRAINING_METHODS
from mpo_core.settings import ModelSettings
from mpo_core.training import child, launch


def job(tmp_path):
    (tmp_path / "pairs.parquet").write_text("no table")
    return launch.TrainingJob(
        model_folder=tmp_path,
        pairs=tmp_path / "pairs.parquet",
        references=tmp_path / "none.parquet",
        model=ModelSettings(),
        training=TRAINING_METHODS.parse({"method": "mpo", "device": "cpu"}),
        out=tmp_path,
        work=tmp_path,
    )


EVENTS = {
    "bad input": (
        {"event": "bad_input", "what": "no number", "where": "training.beta", "fix": "Give one."},
        2,
        BadInputError,
        "^training.beta: no number. Give one.$",
    ),
    "an error of a library": (
        {"event": "failed", "error": "KeyError", "at": "a.py:1 f"},
        1,
        StageFailedError,
        "^the training failed: KeyError at a.py:1 f; see .*log$",
    ),
}


@pytest.mark.parametrize("case", EVENTS)
def test_what_the_process_sends_is_raised(tmp_path, monkeypatch, case):
    event, code, kind, pattern = EVENTS[case]
    script = f"import sys; print({json.dumps(event)!r}); sys.exit({code})"
    monkeypatch.setattr(launch, "_command", lambda _: [sys.executable, "-c", script])
    with pytest.raises(kind, match=pattern):
        launch.train(job(tmp_path))


def test_the_process_sends_bad_input_and_ends_with_2(tmp_path, monkeypatch):
    sent, code, kind, _ = EVENTS["bad input"]
    events = []

    def refuse(*_):
        raise kind(sent["what"], where=sent["where"], fix=sent["fix"])

    channel = SimpleNamespace(send=lambda event, fields: events.append({"event": event, **fields}))
    monkeypatch.setattr(child, "_Channel", lambda: channel)
    monkeypatch.setattr(child, "_die_with_parent", lambda: None)
    monkeypatch.setattr(child, "run", refuse)
    (tmp_path / "job.json").write_text(job(tmp_path).model_dump_json())
    assert child.main(tmp_path / "job.json") == code
    assert events == [sent]


@pytest.mark.long
def test_the_real_process_sends_bad_input_and_ends_with_2(tmp_path):
    (tmp_path / "job.json").write_text(job(tmp_path).model_dump_json())
    command = [sys.executable, "-m", "mpo_core.training.child", str(tmp_path / "job.json")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    out = process.stdout.read()
    assert process.wait(60) == 2
    event = json.loads(out)
    assert event["event"] == "bad_input"
    assert "pairs.parquet" in event["where"]
