"""The command in hostile surroundings: streams, encodings, homes, module paths, servers and roots."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import flows.surroundings  # noqa: F401 - registers the error handler
from flows.temporary_server import end_with_us
from mpo_core.contract.artifacts import ArtifactStore, scratch_path
from mpo_core.contract.errors import BadInputError
from mpo_core.settings.profiles import load_config
from tests.session import lives

ROOT = Path(__file__).resolve().parents[2]
MPO = [sys.executable, "-c", "from mpo_command import main; main()"]
pytestmark = pytest.mark.usefixtures("prefect_server")  # or each process would start one of its own
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def shell(line, tmp_path, **variables):
    """Runs a shell line in which `mpo` is the command, in the test's folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    quoted = f"mpo() {{ '{MPO[0]}' {MPO[1]} '{MPO[2]}' \"$@\"; }}; {line}"
    return subprocess.run(
        ["bash", "-c", quoted],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


@pytest.mark.parametrize(
    ("line", "code", "err"),
    [
        pytest.param("mpo languages | head -1", 0, "", marks=pytest.mark.long),  # its twin is the next
        ("mpo languages --json | head -c 5; exit ${PIPESTATUS[0]}", 0, ""),
        ("mpo languages >&-", 0, ""),
        ("mpo languages <&- >&- 2>&-", 0, ""),
        ("mpo languages > /dev/full", 2, "mpo: stdout: cannot write (No space left on device)"),
        ("mpo --help > /dev/full", 2, "mpo: stdout: cannot write"),
        ("mpo models list --root none 2> /dev/full", 2, ""),
        ("mpo models list --root $'\\xff'", 2, r"mpo: \udcff: the argument is not UTF-8 text"),
    ],
)
def test_a_stream_that_takes_nothing(tmp_path, line, code, err):
    done = shell(line, tmp_path)
    assert done.returncode == code, done
    assert done.stderr.startswith(err)
    assert done.stderr.count("\n") == bool(err)


@pytest.mark.parametrize(
    ("first", "variables"), [("", {"PYTHONIOENCODING": "ascii"}), ("mpo languages; ", C_LOCALE)], ids=["ascii", "C"]
)
def test_output_that_is_not_utf8(tmp_path, first, variables):
    done = shell(f"{first}mpo languages --json; mpo models list --root 'ü→語'", tmp_path, **variables)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "語" not in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout.splitlines()[-1])


def test_letters_that_an_encoding_lacks_stay_json():
    text = json.dumps(["é", "語", "😀"], ensure_ascii=False)
    for encoding in ("ascii", "latin-1"):
        assert json.loads(text.encode(encoding, "mpo-ascii").decode(encoding)) == ["é", "語", "😀"]
    assert "a → b…".encode("ascii", "mpo-ascii") == b"a -> b..."


@pytest.mark.parametrize("place", ["path", "folder"])
def test_packages_of_our_names_elsewhere_are_not_run(tmp_path, place):
    for name in ("flows", "tasks"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('foreign')")
    path = os.pathsep.join([str(tmp_path), str(ROOT)] if place == "path" else [str(ROOT)])
    done = shell("mpo languages --json", tmp_path, PYTHONPATH=path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("home", ["/dev/null", "none/home"])
def test_a_home_that_cannot_be_written(tmp_path, home):
    words = "from flows.surroundings import usable_homes; usable_homes(); import prefect.settings as s; "
    words += (
        "h = s.PREFECT_HOME.value(); h.mkdir(parents=True, exist_ok=True); (h / 'x').write_text('x'); print('fine')"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PREFECT_HOME"}
    environment |= {"HOME": str(tmp_path / home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", words], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("fine\n", "")
    assert not (tmp_path / "none").exists()


# -- names and paths -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["[sw]", "[/red]", ":smile:", "[bold]x[/bold]", "\x1b[31mred"])
def test_a_name_is_printed_as_it_is(mpo, tmp_path, name):
    outcome = mpo("models", "list", "--root", tmp_path / name)
    assert outcome.code == 2
    shown = name.replace("\x1b", "\\x1b")
    assert f"--root {tmp_path}/{shown}: no such folder" in outcome.err
    (tmp_path / "root").mkdir()
    outcome = mpo("models", "promote", name, "--why", "x", "--root", tmp_path / "root")
    assert f"'{name}'".encode("unicode_escape").decode() in outcome.err.replace("\\\\", "\\")


def test_a_file_whose_name_is_markup_is_written_and_named(mpo, tmp_path, write_pairs):
    out = tmp_path / "pairs[sw].parquet"
    outcome = mpo("pairs", "import", write_pairs(), "--out", out)
    assert outcome.code == 0
    assert f"out: {out}" in outcome.out
    assert out.is_file()


@pytest.mark.parametrize("key", ["run.root", "model.path", "model.chat_template"])
def test_a_tilde_in_a_setting_is_the_home(monkeypatch, key):
    monkeypatch.setenv("HOME", "/home/somebody")
    part, leaf = key.split(".")
    assert getattr(getattr(load_config(None, [f"{key}=~/x"]), part), leaf) == "/home/somebody/x"


def test_a_tilde_in_a_list_of_settings_is_the_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    config = load_config(
        None,
        [
            "prompts.sources=[{source: csv, path: ~/p.csv, kind: harmful}]",
            "translation.engines=[{engine: memory, path: ~/m.tmx}, {engine: seq2seq, path: ~/nllb}]",
        ],
    )
    paths = [config.prompts.sources[0].path, *(engine.path for engine in config.translation.engines)]
    assert paths == ["/home/somebody/p.csv", "/home/somebody/m.tmx", "/home/somebody/nllb"]


@pytest.mark.parametrize("argument", ["--out=~/p.parquet", "--out"])
def test_a_tilde_in_an_option_is_the_home(mpo, tmp_path, monkeypatch, write_pairs, argument):
    monkeypatch.setenv("HOME", str(tmp_path))
    arguments = [argument] if "=" in argument else [argument, "~/p.parquet"]
    assert mpo("pairs", "import", write_pairs(), *arguments).code == 0
    assert (tmp_path / "p.parquet").is_file()


# -- servers and roots ---------------------------------------------------------------


@contextlib.contextmanager
def answering(status, body, pause=0.0, drip=0.0):
    """A server that answers everything alike: after a pause, and byte by byte if `drip` seconds are between them."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.do_GET()

        def do_GET(self):
            time.sleep(pause)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):  # whoever asked may have left
                for start in range(len(body)) if drip else ():
                    self.wfile.write(body[start : start + 1])
                    time.sleep(drip)
                if not drip:
                    self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://somebody:password@127.0.0.1:{server.server_address[1]}/api"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, b"", "refuses access .status 401.. Set PREFECT_API_AUTH_STRING"),
        (403, b"", "refuses access"),
        (404, b"", "status 404"),
        (500, b"oops", "status 500"),
        (307, b"", "status 307"),
        (200, b"<html>", "no Prefect server's API"),
        (200, b"{}", "no Prefect server's API"),
        (200, b'"2.20.1"', "has Prefect .2.20.1., this machine 3"),
    ],
)
def test_a_prefect_server_that_is_of_no_use(monkeypatch, status, body, message):
    from flows import prefect_api

    with answering(status, body) as address:
        monkeypatch.setattr(prefect_api, "server", lambda: address)
        with pytest.raises(BadInputError, match=message) as refusal:
            prefect_api.require_server()
    assert "password" not in str(refusal.value)


def test_a_prefect_server_that_fails_during_a_run_is_no_fault_of_ours():
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    from flows.prefect_api import server_failure

    def failure(address):
        with temporary_settings({PREFECT_API_URL: address, PREFECT_CLIENT_MAX_RETRIES: 0}):
            try:
                get_client(sync_client=True).read_flows()
            except Exception as error:  # noqa: BLE001 - whatever Prefect raises
                return server_failure(error)

    with answering(500, b"{}") as address:
        message = failure(address)
        assert "the server kept answering with status 500. The server's log says more" in message
        assert "password" not in message
    assert "the server could not be reached any more (ConnectError)" in failure(address)
    assert server_failure(ValueError("ours")) is None


def test_a_prefect_server_that_sends_a_byte_at_a_time_is_waited_for_in_bounded_time(monkeypatch):
    from flows import prefect_api

    monkeypatch.setattr(prefect_api, "_SECONDS", 0.5)
    with answering(200, b"x" * 10_000, drip=0.05) as address:
        monkeypatch.setattr(prefect_api, "server", lambda: address)
        begun = time.monotonic()
        with pytest.raises(BadInputError, match=r"no Prefect server answers .timed_out"):
            prefect_api.require_server()
        assert not prefect_api.is_healthy(address)
    assert time.monotonic() - begun < 100


def test_a_root_that_is_of_no_use_is_refused_before_a_server_is_started(mpo, monkeypatch, profile):
    def no_server():
        raise AssertionError("a server is asked for")

    monkeypatch.setattr("flows.cli.require_server", no_server)
    for command in ("run", "realign", "compare"):
        outcome = mpo(command, profile, "--set", "run.root=/dev/null/x")
        assert outcome.code == 2
        assert outcome.err.startswith("mpo: run.root /dev/null/x: cannot write here")


@pytest.mark.parametrize("address", ["http://[::1", "http://h:99999/api", "foo", "ftp://h/api", "http://"])
def test_an_address_that_is_none(mpo, monkeypatch, address):
    monkeypatch.setenv("PREFECT_API_URL", address)
    outcome = mpo("languages")
    assert outcome.code == 2
    assert outcome.err.startswith("mpo: PREFECT_API_URL: this is not the address of a Prefect server")


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("foo://x", "the address cannot be opened"),
        ("gs://user:password@b/x", "the package that reads gs://"),
        ("http://127.0.0.1:1/x", "cannot write here"),
        ("/dev/null", "cannot write here"),
        ("/dev/null/x", "cannot write here .Not a directory"),
        ("file:///dev/null/x", "cannot write here"),
    ],
)
def test_a_root_that_is_of_no_use(root, message):
    with pytest.raises(BadInputError, match=message) as refusal:
        ArtifactStore(root)
    assert "password" not in str(refusal.value)


def test_a_root_that_no_package_reads_has_no_scratch_folder_either():
    with pytest.raises(BadInputError, match="the address cannot be opened"):
        scratch_path("foo://x", "y")


# -- what is left behind -------------------------------------------------------------


def test_a_process_that_is_watched_ends_with_ours_even_by_sigkill():
    words = "import subprocess, time; from flows.temporary_server import end_with_us; "
    words += "p = subprocess.Popen(['sleep', '60']); end_with_us(p.pid); print(p.pid, flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", words], cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ
    ) as parent:
        pid = int(parent.stdout.readline())
        os.kill(pid, 0)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while lives(pid):
        assert time.monotonic() < deadline, "it lives on"
        time.sleep(0.05)


def test_a_process_is_watched_once():
    with subprocess.Popen(["sleep", "60"]) as process:
        from flows import temporary_server

        before = len(temporary_server._watched)
        end_with_us(process.pid)
        end_with_us(process.pid)
        assert len(temporary_server._watched) == before + 1
        process.kill()


def test_what_a_killed_translation_left_beside_its_output_is_swept_by_the_next(mpo, tmp_path):
    (tmp_path / "texts.csv").write_text("text\nBake bread.\n")
    with subprocess.Popen(["true"]) as process:
        process.wait()
    host = socket.gethostname()
    for name in ("x.csv", "x.quarantine.csv"):
        (tmp_path / f".{name}.{host}@{process.pid}-1.tmp").write_text("half a table")
    (tmp_path / f".x.csv.{host}@{process.pid}-2.tmp" / "half a folder").mkdir(parents=True)
    others = [tmp_path / f".x.csv.{host}@{os.getpid()}-1.tmp", tmp_path / f".y.csv.{host}@{process.pid}-1.tmp"]
    for path in others:
        path.touch()
    mpo("translate", tmp_path / "texts.csv", "--to", "sw", "--engine", "microworld", "--out", tmp_path / "x.csv",
        f"--set=run.root={tmp_path}/root")  # fmt: skip
    assert sorted(tmp_path.glob(".*")) == sorted(others)


@pytest.mark.parametrize("engine", ["deepl", "openai=some-model", "baidu"])
def test_an_estimate_needs_no_key(mpo, monkeypatch, tmp_path, engine):
    for name in ("DEEPL_API_KEY", "OPENAI_API_KEY", "BAIDU_APPID", "BAIDU_APPKEY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "texts.csv").write_text("text\nBake bread.\n")
    given = ["translate", tmp_path / "texts.csv", "--to", "zh", "--engine", engine, f"--set=run.root={tmp_path}/root"]
    outcome = mpo(*given, "--dry-run", "--json")
    assert (outcome.code, json.loads(outcome.out)[0]["requests"]) == (0, 1), outcome
    outcome = mpo(*given, "--out", tmp_path / "x.csv")
    assert (outcome.code, "needs a key" in outcome.err) == (2, True)
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.parametrize(
    ("number", "lasting"), [pytest.param(signal.SIGTERM, False, marks=pytest.mark.long), (signal.SIGHUP, True)]
)
def test_a_translation_that_is_ended_leaves_nothing_beside_its_output(prefect_server, tmp_path, number, lasting):
    """With a Prefect server that lasts, and with one of the command's own."""
    (tmp_path / "texts.txt").write_text("Bake bread.\n")
    server = {"PREFECT_API_URL": prefect_server} if lasting else {}
    with answering(200, b"", pause=60.0) as address:
        url = address.replace("somebody:password@", "").removesuffix("/api") + "/m"
        options = ["--engine", "google", f"--set=translation.engines.0.url={url}", f"--set=run.root={tmp_path}/root"]
        # `nohup` has SIGHUP ignored, and with it all that it starts.
        code = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL); from mpo_command import main; main()"
        process = subprocess.Popen(
            [sys.executable, "-c", code, "translate", "texts.txt", "--to", "sw", "--out", "out/x.csv", *options],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | server,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # noqa: PLW1509 - tests may run under `nohup`
        )
        deadline = time.monotonic() + 300
        while not list(tmp_path.glob("root/prompts/*/*.parquet")):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        err = process.communicate(timeout=120)[1]
    assert process.returncode == 128 + number
    assert err.splitlines()[-1].startswith(f"mpo: ended by {number.name}")
    assert list(tmp_path.glob("out/*")) + list(tmp_path.glob("out/.*")) == []


@pytest.mark.parametrize("error", ["BaseExceptionGroup('of a task group', [end])", "ValueError('of a serialiser')"])
def test_a_signal_ends_the_command_whatever_a_library_makes_of_its_exception(error):
    code = (
        "import signal\n"
        "from flows import cli\n"
        "@cli.app.command('wait')\n"
        "def wait() -> None:\n"
        "    try:\n"
        "        signal.raise_signal(signal.SIGTERM)\n"
        "    except SystemExit as end:\n"
        f"        raise {error}\n"
        "cli._run_command(['wait'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (128 + signal.SIGTERM, "")
    assert done.stderr == "mpo: ended by SIGTERM; finished work is saved.\n"
