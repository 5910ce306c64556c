"""Ctrl-C or SIGTERM in a training: the checkpoint is saved, the child is gone, the command leaves."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from flows import interrupt
from tests.flows.conftest import small_settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.long
@pytest.mark.parametrize("wish", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_to_the_group_saves_a_checkpoint_and_leaves(tmp_path, wish):
    profile = tmp_path / "small.yaml"
    settings = small_settings(tmp_path / "root", training__max_steps=100_000, training__save_every=100_000)
    profile.write_text(yaml.safe_dump(settings))
    with (tmp_path / "err").open("wb") as err:
        command = [sys.executable, "-c", "from flows.cli import main; main()", "run", str(profile)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=err, stderr=err, start_new_session=True)
    lock = wait_for(lambda: next((tmp_path / "root").glob("training/.work/*/lock"), None))
    child = int(wait_for(lambda: lock.read_text().strip()))
    time.sleep(8)  # past the child's imports, into its steps
    os.killpg(process.pid, wish)
    assert process.wait(timeout=30) == 128 + wish
    assert list((tmp_path / "root").glob("training/.work/*/*/checkpoint-*"))
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    messages = (tmp_path / "err").read_bytes()
    assert b"mpo: stopping" in messages
    assert b"Traceback" not in messages


def test_sigterm_stays_with_whoever_had_it():
    @contextlib.contextmanager
    def taking():  # as Ray's start does
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        yield

    before = signal.getsignal(signal.SIGTERM)
    try:
        with interrupt.started(taking()):
            assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGTERM, before)


def wait_for(what, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := what():
            return value
        time.sleep(0.2)
    raise TimeoutError("it did not come")
