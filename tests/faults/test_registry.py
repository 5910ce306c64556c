"""The registry under damage and odd words: one line, the right exit code, and nothing written."""

import json
import os
import shutil
from pathlib import Path

import pytest

from mpo_core import registry, reporting
from mpo_core.contract.artifacts import ArtifactStore
from mpo_core.contract.errors import BadInputError
from tests.faults.test_bad_input import check_single_line
from tests.registered import register
from tests.reporting.conftest import make_summary
from tests.tiny_models import tiny_model

FAILED = 1


@pytest.fixture
def store(tmp_path):
    """Two versions, v1 promoted and then v2."""
    store = ArtifactStore(str(tmp_path / "root"))
    for name, targets in (("a", ["sw", "zh"]), ("b", ["zh"])):
        model = tiny_model(store, name)
        version = register(store, registry.Entry(run="demo", model=model, base="b", targets=targets))
        registry.promote(store, version.version, who="Ann", why="good")
    return store


def files(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in Path(root).rglob("*") if path.is_file()}


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


def test_a_report_that_is_up_to_date_needs_no_writing(mpo, store, tmp_path, monkeypatch):
    finished = reporting.render(make_summary())
    reporting.write(make_summary(), store, "runs/demo")

    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    page = store.local_path("runs/demo/report.html")
    given = ["report", "demo", "--root", store.root]
    with monkeypatch.context() as read_only:
        for name in ("pipe_file", "makedirs", "mkdir"):
            read_only.setattr(type(store.fs), name, refuse)
        outcome = mpo(*given)
        assert (outcome.code, outcome.err, outcome.out) == (0, "", f"report: {page}\n")
        page.write_text("older")
        check_single_line(mpo(*given), "cannot write here")
        assert mpo(*given, "--out", tmp_path / "page.html").code == 0
    assert (tmp_path / "page.html").read_text() == finished
    before = store.local_path("runs/demo/summary.json").stat().st_mtime_ns
    assert mpo(*given).code == 0
    assert page.read_text() == finished
    assert store.local_path("runs/demo/summary.json").stat().st_mtime_ns == before


def test_a_path_is_printed_on_a_single_line(mpo, store, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    outcome = mpo("models", "list", "--root", store.root)
    for version in registry.versions(store):
        assert f"{version.version}: {store.root}/{version.entry.model.path}\n" in outcome.out


@pytest.mark.parametrize(
    "name", ["../x", "..", ".", "", "/etc", "a/b", "a/../../x", "x\n", "\udcff", "-x", "a" * 3000, "a\\b", "a b"]
)
def test_a_report_stays_in_the_root(mpo, store, tmp_path, name):
    (tmp_path / "x").mkdir()
    check_single_line(
        mpo("report", "--root", store.root, "--", name),
        "cannot be the name of a run|no summary of a run here|not UTF-8",
    )
    assert not list(tmp_path.rglob("report.html"))


@pytest.mark.parametrize("linked", ["run", "summary", "runs"])
def test_a_link_does_not_lead_a_report_out_of_the_root(mpo, store, tmp_path, linked):
    away = tmp_path / "away"
    (away / "x").mkdir(parents=True)
    (away / "x" / "summary.json").write_text("{}")
    runs = store.local_path("runs")
    if linked == "runs":
        runs.symlink_to(away)
    elif linked == "run":
        runs.mkdir()
        (runs / "x").symlink_to(away / "x")
    else:
        (runs / "x").mkdir(parents=True)
        (runs / "x" / "summary.json").symlink_to(away / "x" / "summary.json")
    check_single_line(mpo("report", "x", "--root", store.root), "a link here leads out of the folder of artifacts")
    assert not list(away.rglob("report.html"))


def test_a_page_replaces_nothing_but_pages(mpo, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("root/runs/demo", "root/runs/other", "evaluation"):
        reporting.write(make_summary(), ArtifactStore(str(tmp_path)), folder)
    (tmp_path / "notes.md").write_text("mine")
    (tmp_path / "mine.html").write_text("<!doctype html>\n<p>mine</p>")
    (tmp_path / "link.html").symlink_to("nowhere")
    (tmp_path / "folder").mkdir()
    before = files(tmp_path)
    for command in (["report", "demo"], ["report", "compare", "demo", "other"]):
        given = [*command, "--root", store.root]
        for out, message in {
            "root/runs/demo/summary.json": r"--out root/runs/demo/summary\.json: this is in the folder of a run",
            "root/runs/demo/new.html": "this is in the folder of a run or an evaluation. Name a file in another folder",
            "root/runs/other/report.html": "this is in the folder of a run",
            "evaluation/report.html": "this is in the folder of a run or an evaluation",
            "notes.md": "this file is not a page of mpo, and would be replaced. Name a new file, or delete this one",
            "mine.html": "this file is not a page of mpo",
            "link.html": "this file is not a page of mpo",
            "folder": r"--out folder: this is a folder. Name a file, such as page\.html\.",
            "x" * 300: "cannot write",
        }.items():
            check_single_line(mpo(*given, "--out", out), message)
        assert files(tmp_path) == before
        for _ in range(2):  # an earlier page may be replaced
            assert mpo(*given, "--out", "new.html").code == 0
        (tmp_path / "new.html").unlink()
    assert mpo("report", "demo", "--root", store.root, "--out", "root/runs/demo/report.html").code == 0
    assert files(tmp_path) == before


def test_two_comparisons_have_two_pages(mpo, store, tmp_path):
    names = ["a", "b-c", "a-b", "c"]
    for name in names:
        reporting.write(make_summary(), store, f"runs/{name}")
    folders = [tmp_path / letter / name for letter in "xyzw" for name in ("eval",)]
    for folder in folders:
        reporting.write(make_summary(), ArtifactStore(str(folder)), "")
    pairs = [names[:2], names[2:], folders[:2], folders[2:]]
    pages = [mpo("report", "compare", *pair, "--root", store.root, "--json").out for pair in pairs * 2]
    assert pages[:4] == pages[4:]
    assert len(set(pages)) == len(pairs)
    assert all(Path(json.loads(page)["report"]).is_file() for page in pages)


# -- advice that can be followed ---------------------------------------------------------


def test_a_root_that_cannot_be_written_is_named_as_it_was_given(mpo, store, monkeypatch):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    reporting.write(make_summary(), store, "runs/demo")
    store.local_path("runs/demo/report.html").write_text("older")
    monkeypatch.setattr(type(store.fs), "pipe_file", refuse)
    changes = [COMMANDS[name] for name in ("promote", "rollback", "languages add")]
    for command in (*changes, ["report", "demo"]):
        line = check_single_line(mpo(*command, "--root", store.root), f"--root {store.root}: cannot write here")
        assert "Allow this user to read and write there" in line
        assert "--set" not in line


def test_a_file_that_this_user_may_not_read_is_named(mpo, store, monkeypatch):
    reporting.write(make_summary(), store, "runs/demo")
    assert mpo("languages", "add", "ko", "--root", store.root).code == 0
    read = type(store.fs).cat_file
    closed = "00000002.json"

    def refuse(fs, path, *rest, **more):
        if path.endswith(closed):
            raise PermissionError(13, "Permission denied")
        return read(fs, path, *rest, **more)

    monkeypatch.setattr(type(store.fs), "cat_file", refuse)
    said = mpo("models", "list", "--root", store.root).err
    assert said == "mpo: registry/events/00000002.json: unreadable (Permission denied). Allow this user to read it.\n"
    closed = "ko.json"
    said = mpo("languages", "--root", store.root).err
    assert said == "mpo: registry/languages/ko.json: unreadable. Allow this user to read it.\n"
    closed = "summary.json"
    line = check_single_line(mpo("report", "demo", "--root", store.root), "runs/demo/summary.json: cannot read the")
    assert line.endswith("(Permission denied). Allow this user to read the file and its folder.")


def test_a_folder_without_an_evaluation_is_not_taken_for_a_run(mpo, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reporting.write(make_summary(), store, "runs/demo")
    (tmp_path / "empty").mkdir()
    (tmp_path / "demo").mkdir()
    given = ["report", "compare", "demo", "--root", store.root]
    line = check_single_line(mpo(*given, "empty"), r"empty/summary\.json: there is no summary of an evaluation here")
    assert "runs/empty" not in line
    check_single_line(mpo(*given, "x" * 300), "there is no summary of a run here")
    (tmp_path / "empty" / "summary.json").write_text("{}")
    line = check_single_line(mpo(*given, "empty"), "this is not the summary of a run")
    assert "Evaluate again, into another folder; what is cached is not computed again." in line
    assert mpo(*given, "demo").code == 0  # the run, not the folder beside the root


# -- a registration that was a mistake ---------------------------------------------------


def test_a_registration_is_taken_back(mpo, store, monkeypatch):
    monkeypatch.setattr("flows.commands.languages.server", lambda: None)  # others of this process may have one
    root = ["--root", store.root]
    check_single_line(
        mpo("languages", "remove", "it", *root), "the language 'it' is not registered. No language is registered there"
    )
    for code in ("it", "sw", "zh"):
        assert mpo("languages", "add", code, *root).code == 0
    before = files(store.root)
    check_single_line(mpo("languages", "remove", "ko", *root), "'ko' is not registered. Registered: it, sw, zh.")
    assert files(store.root) == before
    assert mpo("languages", "remove", "Italian", *root).out == "removed: it\n"
    assert [entry.facts.code for entry in registry.registered_languages(store)] == ["sw", "zh"]
    covered = mpo("languages", "remove", "zh", *root, "--json")
    assert json.loads(covered.out) == {"removed": "zh", "still_covered_by": "v2"}
    assert registry.promoted(store).entry.targets == ["zh"]
    assert "gate.allow_fewer_languages" not in covered.err
    assert mpo("languages", "add", "zh", *root).code == 0
    assert "promoted only with the setting gate.allow_fewer_languages." in mpo("languages", "remove", "zh", *root).err


@pytest.mark.parametrize("what", ["the judge does not speak 'it'", "the guard was not made for Italian"])
def test_an_error_about_a_registered_language_says_where_it_comes_from(mpo, tmp_path, what):
    from flows.registered import load_config, origin_explained

    root = tmp_path / "my root"
    root.mkdir()
    assert mpo("languages", "add", "it", "--root", root).code == 0
    plain = BadInputError(what, where="judging", fix="Choose another.")
    config = load_config(None, [f"run.root={root}"])
    with pytest.raises(BadInputError) as explained, origin_explained(config):
        raise plain
    fix = f"The settings do not name it: it is registered in {root}. To go on without it: mpo languages remove it"
    assert explained.value.fix == f"{fix} --root '{root}'. Else: Choose another."
    # It is no matter of the registry where the settings name the language, or where the error is about something else.
    for settings, error in ((["languages.targets=[it]"], plain), ([], BadInputError("it is full", where="x", fix="y"))):
        config = load_config(None, [f"run.root={root}", "judging.judge=refusal_rules", *settings])
        with pytest.raises(BadInputError) as same, origin_explained(config):
            raise error
        assert same.value is error


def test_a_realignment_stops_at_a_registered_language_and_says_how_to_go_on(
    mpo, store, prefect_server, monkeypatch, tmp_path
):
    monkeypatch.setattr("flows.commands.languages.server", lambda: None)  # its event would start a run
    assert mpo("languages", "add", "it", "--root", store.root).code == 0
    line = check_single_line(mpo("realign", "--set", f"run.root={store.root}"), "does not speak 'it'")
    assert f"mpo languages remove it --root {store.root}. Else: Choose languages from en, " in line
