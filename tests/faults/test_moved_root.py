"""A root that was copied or moved, and a root by any of its names: its records speak of itself alone."""

import json
import shutil

import fsspec
import pytest

from tests.store import bucket  # noqa: F401 - a fixture
from tests.tasks.test_stage import run

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


@pytest.mark.parametrize(
    ("name", "aged"),
    [*((name, False) for name in NAMES.values()), (NAMES["absolute"], True)],
    ids=[*NAMES, "old records"],
)
def test_a_copied_root_is_verified_where_it_lies(roots, name, aged):
    original, copy, table = roots
    shutil.copytree(original, copy)
    if aged:
        age(copy, original)
    assert run(name(copy))[1] == 0
    (copy / table).unlink()
    assert run(name(copy))[1] == 1, "the original's table is no table of the copy"
    assert (copy / table).is_file()


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


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"metadata": 1}', b"\xff", b'{"result": "{}"}'])
def test_a_damaged_record_is_a_miss(roots, content):
    original, _, _ = roots
    for path in (original / ".results").iterdir():
        path.write_bytes(content)
    assert run(original)[1] == 1
    assert run(original)[1] == 0


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
