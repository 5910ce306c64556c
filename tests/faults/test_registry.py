"""The registry under damage and odd words: one line, the right exit code, and nothing written."""

import json
import os
import shutil
from pathlib import Path

import pytest

from mpo_core import registry
from tests.faults.conftest import files
from tests.faults.test_bad_input import check_single_line
from tests.registered import register
from tests.tiny_models import tiny_model

FAILED = 1


# -- models that are not there ---------------------------------------------------------


def _flip(path):
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(bytes(data))


DAMAGE = {
    "missing": shutil.rmtree,
    "without a manifest": lambda folder: (folder / "manifest.json").unlink(),
    "a flipped byte": lambda folder: _flip(folder / "config.json"),
    "a file less": lambda folder: (folder / "config.json").unlink(),
    "an empty file": lambda folder: (folder / "config.json").write_bytes(b""),
    "another manifest": lambda folder: (folder / "manifest.json").write_text("[]"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("command", [["promote", "v1"], ["promote", "v2"], ["rollback"]], ids=" ".join)
def test_a_damaged_model_is_not_promoted(mpo, store, command, damage):
    version = "v1" if command == ["rollback"] else command[1]
    model = {known.version: known.entry.model for known in registry.versions(store)}[version]
    damage(store.local_path(model.path))
    before = files(store.root)
    outcome = mpo("models", *command, "--why", "better", "--who", "Ann", "--root", store.root)
    check_single_line(outcome, f"the model of {version} is missing or damaged", "Nothing was changed")
    assert files(store.root) == before


# -- a log that cannot be --------------------------------------------------------------


def _change(number, **fields):
    def change(events):
        path = events / f"{number:08d}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return change


def _write(number, data):
    return lambda events: (events / f"{number:08d}.json").write_bytes(data)


def _add(**fields):
    def add(events):
        event = {"sequence": 5, "who": "x", "why": "x", "when": "2026-01-01T00:00:00Z"} | fields
        (events / "00000005.json").write_text(json.dumps(event))

    return add


def _folder(events):
    (events / "00000004.json").unlink()
    (events / "00000004.json").mkdir()


def _pipe(events):
    (events / "00000004.json").unlink()
    os.mkfifo(events / "00000004.json")


def _begins_with_a_rollback(events):
    for path in events.iterdir():
        path.unlink()
    event = {"sequence": 1, "kind": "rolled_back", "version": "v1", "who": "x", "why": "x"}
    (events / "00000001.json").write_text(json.dumps(event | {"when": "2026-01-01T00:00:00Z"}))


def _a_file_for_the_folder(events):
    shutil.rmtree(events)
    events.write_text("")


LOGS = {
    "begins with a rollback": _begins_with_a_rollback,
    "an event that is a folder": _folder,
    "an event that is a pipe": _pipe,
    "a file for the folder": _a_file_for_the_folder,
    "an empty event": _write(4, b""),
    "a truncated event": _write(4, b'{"sequence": 4, "kind"'),
    "no JSON": _write(4, b"<html>"),
    "no UTF-8": _write(4, b"\xff\xfe"),
    "nested deeply": _write(4, b"[" * 100_000),
    "a list": _write(4, b"[]"),
    "another schema": _write(4, b'{"schema": 2, "sequence": 4}'),
    "another number": _change(4, sequence=9),
    "promotes what is unknown": _change(4, version="v9"),
    "rolls back to what is unknown": _add(kind="rolled_back", version="v9"),
    "rolls back to what was not in use": _add(kind="rolled_back", version="v2"),
    "withdraws what is unknown": _add(kind="withdrawn", version="v9"),
    "withdraws what was not in use": _add(kind="withdrawn", version="v2"),
    "evaluates what is unknown": _add(
        kind="evaluated", version="v9", evaluation={"stage": "evaluation", "path": "x", "sha256": "x"}
    ),
    "registers out of turn": _change(3, version="v7"),
    "a missing event": lambda events: (events / "00000002.json").unlink(),
    "an unknown kind": _change(4, kind="deleted"),
}
COMMANDS = {
    "list": ["models", "list"],
    "history": ["models", "history"],
    "promote": ["models", "promote", "v1", "--why", "x", "--who", "Ann"],
    "rollback": ["models", "rollback", "--why", "x", "--who", "Ann"],
    "push": ["models", "push", "v1", "--to", "a/b"],
    "languages add": ["languages", "add", "ko"],
}


@pytest.mark.parametrize("damage", LOGS.values(), ids=LOGS)
def test_a_log_that_cannot_be(mpo, store, damage):
    damage(store.local_path("registry/events"))
    before = set(Path(store.root).rglob("*"))
    for command in COMMANDS.values():
        outcome = mpo(*command, "--root", store.root)
        assert outcome.code == FAILED, (command, outcome)
        (line,) = outcome.err.splitlines()
        assert line.startswith("mpo: registry/events"), line
        assert "Restore it from a copy of the root" in line
    assert set(Path(store.root).rglob("*")) == before


LANGUAGE_FILES = {
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "empty": Path.touch,
    "another schema": lambda path: path.write_text('{"code": "ko"}'),
    "another language": lambda path: shutil.copy(path.with_name("zh.json"), path),
    "nested deeply": lambda path: path.write_text("[" * 100_000),
    "no UTF-8": lambda path: path.write_bytes(b"\xff\xfe"),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
}


@pytest.mark.parametrize("damage", LANGUAGE_FILES.values(), ids=LANGUAGE_FILES)
def test_a_language_file_that_cannot_be(mpo, store, damage):
    mpo("languages", "add", "ko", "--root", store.root)
    mpo("languages", "add", "zh", "--root", store.root)
    path = store.local_path("registry/languages/ko.json")
    path.unlink()
    damage(path)
    outcome = mpo("languages", "add", "ja", "--root", store.root)
    assert outcome.code == FAILED
    (line,) = outcome.err.splitlines()
    assert line.startswith("mpo: registry/languages/ko.json: the registration cannot be read. Delete it, and register")


def test_a_file_for_the_folder_of_languages(mpo, store):
    store.local_path("registry/languages").write_text("")
    for command in (["languages"], ["languages", "add", "ko"], ["pairs", "audit", "none.json"]):
        outcome = mpo(*command, "--root", store.root)
        assert outcome.code == FAILED
        assert "registry/languages: this is not a folder" in outcome.err


# -- names and reasons -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("why", "wrong"),
    [
        (os.fsdecode(b"caf\xe9"), "is not UTF-8 text"),
        ("\ud800", "is not UTF-8 text"),
        ("", "'why' is empty"),
        ("\n\t", "'why' is empty"),
        ("\x1b[31mred", "'why' holds control characters"),
        ("null \x00", "'why' holds control characters"),
        ("x" * 1001, "'why' has 1,001 characters, at most 1,000 are allowed"),
        ("long " * 100_000, "'why' has 499,999 characters"),
    ],
    ids=["Latin-1", "surrogate", "empty", "blank", "escape", "null", "long", "huge"],
)
@pytest.mark.parametrize("command", [["promote", "v1"], ["rollback"]], ids=" ".join)
def test_a_reason_that_is_no_plain_text(mpo, store, command, why, wrong):
    before = files(store.root)
    check_single_line(mpo("models", *command, "--why", why, "--who", "Ann", "--root", store.root), wrong)
    if why:
        check_single_line(
            mpo("models", *command, "--why", "x", "--who", why, "--root", store.root), wrong.replace("why", "who")
        )
    assert files(store.root) == before


@pytest.mark.parametrize("why", ["two\nlines", "a\r\n\tb", "[/red] and [bold]", "ünïcödé 安全 🙂", "--why", "a\u2028b"])
def test_a_reason_is_a_single_line_in_the_history(mpo, store, why):
    assert mpo("models", "promote", "v1", "--why", why, "--who", "[/x]", "--root", store.root).code == 0
    assert registry.history(store)[-1].why == " ".join(why.split())
    listed = mpo("models", "history", "--root", store.root)
    assert listed.code == 0
    assert "[/x]" in listed.out


@pytest.mark.parametrize("who", ["gate", "pipeline", " Pipeline "])
def test_a_person_is_not_mpo_itself(mpo, store, who):
    for command in (["rollback"], ["promote", "v1"]):
        check_single_line(
            mpo("models", *command, "--why", "x", "--who", who, "--root", store.root),
            f"a person cannot have this name: the history uses it for the {who.strip().lower()}. Name the person",
        )


@pytest.mark.parametrize("command", ["list", "history"])
def test_a_folder_that_is_no_root_has_no_empty_list(mpo, tmp_path, command):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("")
    line = check_single_line(mpo("models", command, "--root", tmp_path / "mine"), "this is no folder of artifacts")
    assert line.endswith("Name the run.root of an earlier run.")
    (tmp_path / "begun" / ".results").mkdir(parents=True)
    assert json.loads(mpo("models", command, "--root", tmp_path / "begun", "--json").out) == []


@pytest.mark.parametrize("version", ["v9", "", "V1", "../v1", "\udcff", "v" * 5000, "1"])
def test_an_unknown_version(mpo, store, version):
    line = check_single_line(
        mpo("models", "promote", "--why", "x", "--who", "Ann", "--root", store.root, "--", version),
        "unknown version|is not UTF-8 text",
    )
    assert len(line) < 400


def test_what_a_person_gives_up_is_said(mpo, store):
    registry.promote(store, "v1", who="Ann", why="six")
    outcome = mpo("models", "promote", "v2", "--why", "x", "--who", "Ann", "--root", store.root, "--json")
    assert json.loads(outcome.out) == {"promoted": "v2", "no_longer_covered": ["sw"]}


# -- languages -------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["en", "EN", "eng", "English", "en-GB", "en_US", "en-Latn", " en "])
def test_the_dominant_language_is_no_target(mpo, tmp_path, code):
    check_single_line(mpo("languages", "add", code, "--root", tmp_path), "this is the dominant language")
    given = ["--name", "Mine", "--script", "Latn", "--resource", "low"]
    check_single_line(mpo("languages", "add", code, *given, "--root", tmp_path), "this is the dominant language")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", ["tlh", "xx", "zz-ZZ", "", "../x", "\udcff", "x" * 3000])
def test_an_unknown_language_needs_its_facts(mpo, tmp_path, code):
    check_single_line(
        mpo("languages", "add", "--root", tmp_path, "--", code), "mpo does not know the language|is not UTF-8 text"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", ["sw", "SW", "Swahili", "swh", " sw"])
def test_a_language_has_a_single_name(mpo, store, code, monkeypatch):
    monkeypatch.setattr("flows.commands.languages.server", lambda: None)  # others of this process may have one
    result = json.loads(mpo("languages", "add", code, "--root", store.root, "--json").out)
    # v2, the promoted version, is of Chinese alone.
    assert result == {"language": "sw", "registered": "now", "server_notified": False}
    assert [path.name for path in store.local_path("registry/languages").iterdir()] == ["sw.json"]


def test_a_target_already_there_is_said(mpo, store, monkeypatch):
    monkeypatch.setattr("flows.commands.languages.server", lambda: None)  # others of this process may have one
    result = json.loads(mpo("languages", "add", "zh", "--root", store.root, "--json").out)
    assert result == {"language": "zh", "registered": "now", "server_notified": False, "covered_by": "v2"}


def test_the_dominant_language_is_that_of_the_promoted_version(mpo, store):
    entry = registry.Entry(run="x", model=tiny_model(store, "c"), base="b", targets=["en"], dominant="zh")
    registry.promote(store, register(store, entry).version, who="Ann", why="Chinese leads")
    check_single_line(mpo("languages", "add", "zh", "--root", store.root), "this is the dominant language")
    assert mpo("languages", "add", "en", "--root", store.root).code == 0
    assert mpo("languages", "add", "zh", "--dominant", "en", "--root", store.root).code == 0


# -- to look is not to write -----------------------------------------------------------


@pytest.mark.parametrize("command", ["list", "history"])
def test_a_command_that_reads_writes_nothing(mpo, store, monkeypatch, command):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    for name in ("pipe_file", "makedirs", "mkdir"):
        monkeypatch.setattr(type(store.fs), name, refuse)
    outcome = mpo("models", command, "--root", store.root)
    assert (outcome.code, outcome.err) == (0, "")
    assert "v2" in outcome.out
    check_single_line(
        mpo("models", "promote", "v1", "--why", "x", "--who", "Ann", "--root", store.root), "cannot write here"
    )


@pytest.mark.parametrize("root", ["nowhere", "file.txt"])
def test_a_root_that_is_no_folder_is_not_made(mpo, tmp_path, root):
    (tmp_path / "file.txt").write_text("")
    for place in (tmp_path / root, f"file://{tmp_path / root}"):
        for command in COMMANDS.values():
            check_single_line(mpo(*command, "--root", place), "no such folder")
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("root", ["", " ", "file://"])
def test_a_root_without_a_name_is_not_the_current_folder(mpo, tmp_path, monkeypatch, root):
    monkeypatch.chdir(tmp_path)
    others = [["languages"], ["pairs", "audit", "p.json"], ["report", "x"]]
    for command in [*COMMANDS.values(), *others]:
        check_single_line(mpo(*command, "--root", root), "run.root.*: the name of the folder is empty")
    assert list(tmp_path.iterdir()) == []


def test_a_path_is_printed_on_a_single_line(mpo, store, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    outcome = mpo("models", "list", "--root", store.root)
    for version in registry.versions(store):
        assert f"{version.version}: {store.root}/{version.entry.model.path}\n" in outcome.out
