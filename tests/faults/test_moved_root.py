"""A root that was copied or moved, and a root by any of its names: its records speak of itself alone."""

import json
import shutil

import fsspec
import pytest
from prefect import flow

from mpo_core.contract.artifacts import ArtifactStore
from mpo_core.settings import RunSettings
from tasks.stage import on_root, stopping
from tests.store import bucket  # noqa: F401 - a fixture
from tests.tasks.test_stage import calls, run, write

NAMES = {
    "absolute": str,
    "trailing slash": lambda path: f"{path}/",
    "relative": lambda path: path.name,
    "relative with a dot": lambda path: f"./{path.name}/",
    "URL": lambda path: f"file://{path}",
    "link": lambda path: str(path.with_name("link")),
}


@pytest.fixture
def roots(prefect_server, tmp_path, monkeypatch):
    """A root with one finished task, and where a copy of it goes."""
    monkeypatch.chdir(tmp_path)
    original, copy = tmp_path / "original", tmp_path / "copy"
    state, computed = run(original)
    assert computed == 1
    (tmp_path / "link").symlink_to(copy)
    return original, copy, state.result().rows.path


def age(root, original):
    """Gives the records of a root the form in which they once were: with the original's paths."""
    for path in (root / ".results").iterdir():
        record = json.loads(path.read_text())
        record["metadata"]["storage_key"] = str(original / ".results" / path.name)
        record["result"] = json.dumps({**json.loads(record["result"]), "root": str(original)})
        path.write_text(json.dumps(record))


def run_each(root, *texts):
    """A task for each text, in one flow: the paths of their tables, and the texts whose tasks were computed."""
    store = ArtifactStore(str(root))
    task = on_root(write, store, RunSettings(retries=0))
    futures = []

    @flow(name="test-stage")
    def whole():
        futures.extend(task.submit(text, 0, False, store=store, label=text) for text in texts)
        for future in futures:
            future.wait()
        return "done"

    calls.clear()
    stopping.clear()
    whole()
    return [future.result().rows.path for future in futures], sorted(calls)


def test_a_copied_root_is_verified_where_it_lies_by_any_of_its_names(roots):
    original, copy, _ = roots
    (whole, table), computed = run_each(original, "kept", "gone")
    assert computed == ["gone", "kept"]
    shutil.copytree(original, copy)
    for case in (*NAMES, "old records"):
        name = NAMES.get(case, str)
        if case == "old records":
            age(copy, original)
        (copy / table).unlink()
        assert run_each(name(copy), "kept", "gone")[1] == ["gone"], f"{case}: the original's table is none of the copy"
        assert (copy / table).is_file(), case
        assert (copy / whole).is_file(), case


def test_damage_in_the_original_is_none_in_the_copy(roots):
    original, copy, table = roots
    shutil.copytree(original, copy)
    (original / table).write_bytes(b"x")
    assert run(copy)[1] == 0
    assert run(original)[1] == 1


@pytest.mark.parametrize("aged", [False, True], ids=["new records", "old records"])
def test_a_moved_root_is_whole(roots, aged):
    original, copy, _ = roots
    original.rename(copy)
    if aged:
        age(copy, original)
    state, computed = run(copy)
    assert (state.name, computed) == ("Cached", 0)
    assert not original.exists()
    # What Prefect would read again is this root's record.
    assert state.data.metadata.storage_key.startswith(str(copy))


def test_no_file_names_its_root(roots):
    original, _, _ = roots
    files = [path for path in original.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if str(original).encode() in path.read_bytes()] == []


def test_a_damaged_record_is_a_miss(prefect_server, tmp_path):
    contents = [b"", b"{", b"[]", b'{"metadata": 1}', b"\xff", b'{"result": "{}"}']
    texts = [f"text {number}" for number in range(len(contents))]
    assert run_each(tmp_path, *texts)[1] == texts
    for path, content in zip((tmp_path / ".results").iterdir(), contents, strict=True):
        path.write_bytes(content)
    assert run_each(tmp_path, *texts)[1] == texts
    assert run_each(tmp_path, *texts)[1] == []


@pytest.mark.long
def test_a_copy_in_an_object_store_is_verified_where_it_lies(prefect_server, bucket):  # noqa: F811
    original, copy = f"{bucket}/original", f"{bucket}/copy"
    state, computed = run(original)
    assert computed == 1
    fs, _ = fsspec.url_to_fs(bucket)
    fs.copy(original, copy, recursive=True)
    fs.invalidate_cache()
    assert run(f"{copy}/")[1] == 0
    table = f"{copy}/{state.result().rows.path}"
    fs.rm_file(table)
    assert run(copy)[1] == 1
    assert fs.exists(table)
    records = [fs.cat_file(path) for path in fs.find(f"{copy}/.results")]
    assert records
    assert not any(b"/original" in record for record in records)
    fs.rm(original, recursive=True)
    assert run(copy)[1] == 0
