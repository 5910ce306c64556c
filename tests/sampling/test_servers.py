"""Servers that the backend `openai` starts itself: ready, used, and ended with all that they started."""

import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from transformers.utils.import_utils import is_serve_available

from mpo_core.contract.errors import BadInputError, StageFailedError
from mpo_core.contract.sampling import SampledModel
from mpo_core.http import retries
from mpo_core.models import forget_models, resolve
from mpo_core.sampling import Request, sample, servers
from mpo_core.settings import ModelSettings, SamplingSettings
from tests.session import lives

SERVER = str(Path(__file__).with_name("small_server.py"))
MODEL = ModelSettings(path="microworld")


@pytest.fixture(autouse=True)
def _ended(monkeypatch):
    monkeypatch.setattr(retries, "_exponential", lambda _state: 0.0)
    yield
    forget_models()
    assert servers._current is None


def settings(how="", **more):
    command = [sys.executable, SERVER, "{model}", "{port}", *([how] if how else [])]
    return SamplingSettings.model_validate({"backend": {"backend": "openai", "command": command, "retries": 0, **more}})


def answered(sampling, folder):
    model = SampledModel("microworld", folder, MODEL, "0" * 64)
    rows, _ = sample(model, [Request(f"p{n}", "Tea?") for n in range(20)], sampling, language="en")
    return rows.to_pylist()


def gone(pid, *, within=120.0):
    """Whether a process has ended, or ends soon."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        if not lives(pid):
            return True
        time.sleep(0.05)
    return False


def child_of(log):
    return int(re.search(r"child (\d+)", Path(log).read_text())[1])


def test_each_model_has_its_server_in_turn(tmp_path):
    base = resolve(MODEL)
    trained = tmp_path / "trained"
    trained.symlink_to(base)
    rows = answered(settings(), base)
    assert [row["text"] for row in rows] == [f"{base.name} True"] * 20
    assert (rows[0]["tokens"], rows[0]["prompt_tokens"]) == (3, 7)
    first = servers._current
    answered(settings(), base)
    assert servers._current is first  # used again
    child = child_of(first.log)
    assert first.log.stat().st_mode & 0o077 == 0
    assert answered(settings(), trained)[0]["text"] == "trained True"
    assert servers._current is not first
    assert gone(child)
    assert not first.log.exists()


@pytest.mark.parametrize(
    ("command", "patience", "message"),
    [
        (["/no/such/program", "{model}", "{port}"], 20.0, "ended with code 127 before it answered"),
        ([sys.executable, SERVER, "{model}", "{port}", "fails"], 20.0, "ended with code 1 before it answered"),
        ([sys.executable, SERVER, "{model}", "{port}", "hangs"], 1.0, "did not answer within 1 seconds"),
    ],
)
def test_a_server_that_does_not_start_names_its_log(command, patience, message):
    sampling = SamplingSettings.model_validate(
        {"backend": {"backend": "openai", "command": command, "start_timeout": patience}}
    )
    with pytest.raises(BadInputError, match=message) as caught:
        answered(sampling, resolve(MODEL))
    log = Path(re.search(r"its log (\S+\.log)", str(caught.value))[1])
    assert log.stat().st_mode & 0o077 == 0
    assert command[-1] != "fails" or "no such device" in log.read_text()
    log.unlink()


def test_a_server_that_dies_fails_the_stage_and_is_started_again():
    with pytest.raises(StageFailedError, match=r"\(connection_failed\); its log is \S+\.log") as e:
        answered(settings("dies"), resolve(MODEL))
    log = Path(re.search(r"its log is (\S+\.log)", str(e.value))[1])
    assert gone(child_of(log))
    log.unlink()
    assert servers._current is None


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_server_ends_with_the_process_that_started_it(number, tmp_path):
    program = textwrap.dedent(f"""
        import signal, sys, time
        from pathlib import Path
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` has it ignored
        from mpo_core.sampling.servers import running_server
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
        command = [sys.executable, {SERVER!r}, "{{model}}", "{{port}}"]
        with running_server(command, Path("m"), patience=300, beat=lambda: None) as (url, log):
            print(log, flush=True)
            time.sleep(60)
    """)
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    log = Path(process.stdout.readline().strip())
    child = child_of(log)
    process.send_signal(number)
    process.wait(120)
    assert gone(child)
    log.unlink(missing_ok=True)


@pytest.mark.long
@pytest.mark.skipif(not is_serve_available(), reason="needs `pip install transformers[serving]`")
def test_a_real_server_gives_the_answers_of_the_model_itself():
    """`transformers serve`, whose greedy answers are those of the backend transformers."""
    from mpo_core import microworld

    program = str(Path(sys.executable).with_name("transformers"))
    served = {"backend": "openai", "command": [program, "serve", "{model}", "--port", "{port}"], "concurrency": 4}
    items = [(item, language) for item in microworld.items("test", "harmful", limit=4) for language in ("en", "sw")]
    requests = [Request(f"p{number}", item.prompt(language)) for number, (item, language) in enumerate(items)]
    model = SampledModel("microworld", resolve(MODEL), MODEL, "0" * 64)
    local, remote = (
        sample(
            model,
            requests,
            SamplingSettings.model_validate({"max_new_tokens": 32, "backend": backend}),
            language="en",
        )
        for backend in ("transformers", served)
    )
    columns = ["prompt_id", "text", "finish_reason"]
    assert remote[0].select(columns).to_pylist() == local[0].select(columns).to_pylist()
    assert remote[1].num_rows == 0
