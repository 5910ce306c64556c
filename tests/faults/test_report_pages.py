"""Pages of runs and comparisons: what they replace, where they go, and advice that can be followed."""

import json
from pathlib import Path

import pytest

from mpo_core import reporting
from mpo_core.contract.artifacts import ArtifactStore
from tests.faults.conftest import files
from tests.faults.test_bad_input import check_single_line
from tests.faults.test_registry import COMMANDS
from tests.reporting.conftest import make_summary


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
