from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fsspec
import pytest

from mpo_core.contract.artifacts import ArtifactStore
from mpo_core.contract.errors import BadInputError
from mpo_core.reporting import RunSummary, exclusive, keep_earlier, read, report_folder, write


@pytest.mark.parametrize("remote", [False, True])
def test_what_is_written_is_read_back(summary: RunSummary, tmp_path: Path, html: str, *, remote: bool) -> None:
    store = ArtifactStore(f"memory://report-{tmp_path.name}" if remote else str(tmp_path))
    written = write(summary, store, "runs/demo")
    assert written == ("runs/demo/summary.json", "runs/demo/report.html")
    assert read(store, "runs/demo") == summary
    assert store.fs.cat_file(f"{fsspec.url_to_fs(store.root)[1]}/{written.page}").decode() == html


def test_nothing_half_written_is_left(make: Any, tmp_path: Path) -> None:
    write(make(metrics=[], comparisons=[], training=[]), ArtifactStore(str(tmp_path)), "runs/demo")
    assert sorted(path.name for path in (tmp_path / "runs" / "demo").iterdir()) == ["report.html", "summary.json"]


def test_a_loss_that_is_no_number_is_null(make: Any, tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    write(
        make(metrics=[], comparisons=[]).model_copy(update={"training": [{"step": 1.0, "loss": float("nan")}]}),
        store,
        "r",
    )
    data = json.loads((tmp_path / "r" / "summary.json").read_text(), parse_constant=pytest.fail)
    assert data["training"] == [{"step": 1.0, "loss": None}]


def test_moments_are_utc(summary: RunSummary) -> None:
    assert summary.model_dump(mode="json")["started"] == "2026-03-02T09:30:00Z"


def test_no_summary_is_a_clear_error(tmp_path: Path, summary: RunSummary) -> None:
    store = ArtifactStore(str(tmp_path))
    with pytest.raises(BadInputError, match=r"no summary of a run here.*none yet"):
        read(store, "runs/none")
    for name in ("second", "first"):
        write(summary, store, f"runs/{name}")
    with pytest.raises(BadInputError, match=r"Name a finished run: first, second\."):
        read(store, "runs/none")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "summary.json").write_text("{}")
    with pytest.raises(BadInputError, match="this is not the summary"):
        read(store, "bad")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("settings.yaml", r"has not finished.*continues where it ended, or name a finished run: whole\."),
        ("methods.json", r"compared methods and has no summary.*Open .*runs/early/methods\.html"),
        ("summary.json/x", r"has not finished.*name a finished run: whole\."),
    ],
)
def test_a_run_without_a_summary_is_explained(tmp_path: Path, file: str, message: str) -> None:
    for path in (tmp_path / "runs" / "early" / file, tmp_path / "runs" / "whole" / "summary.json"):
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    with pytest.raises(BadInputError, match=message):
        read(ArtifactStore(str(tmp_path)), "runs/early")


def test_the_report_of_another_version_is_kept(make: Any, tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))

    def end(version: str) -> str | None:
        with exclusive(store, "runs/demo"):
            copy = keep_earlier(store, "runs/demo", version)
            store.write_text("runs/demo/settings.yaml", version)
            write(make(version=version, metrics=[], comparisons=[]), store, "runs/demo")
        return copy

    write(make(version="v9", metrics=[], comparisons=[]), store, "runs/demo-v2")  # a run that is called so
    assert [end(version) for version in ("v1", "v1", "v2", "v1")] == [None, None, "runs/demo-v1", "runs/demo-v2-2"]
    assert end("v3") == "runs/demo-v1"
    folders = {"v1": "runs/demo-v1", "v2": "runs/demo-v2-2", "v3": "runs/demo"}
    for version, folder in folders.items():
        assert report_folder(store, "runs/demo", version) == folder
        assert read(store, folder).version == version
        assert (tmp_path / folder / "settings.yaml").read_text() == version
        assert (tmp_path / folder / "report.html").is_file()
    assert read(store, "runs/demo-v2").version == "v9"
    assert report_folder(store, "runs/demo", "v7") == "runs/demo"
