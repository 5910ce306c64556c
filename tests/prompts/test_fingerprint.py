"""Digests that follow the content that is read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.prompts import PROMPT_SOURCES
from mpo_core.prompts.load import fingerprint
from mpo_core.settings import PromptSettings


def digest(**source: object) -> str:
    return fingerprint(PromptSettings(sources=[PROMPT_SOURCES.parse({"kind": "harmful", **source})]))[0]


def test_files_by_content(tmp_path: Path) -> None:
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    a.write_text("text\nA\n")
    b.write_text("text\nA\n")
    assert digest(source="csv", path=str(a)) == "csv:" + hashlib.sha256(b"text\nA\n").hexdigest()
    assert digest(source="csv", path=str(a)) == digest(source="csv", path=str(b))
    b.write_text("text\nB\n")
    assert digest(source="csv", path=str(a)) != digest(source="csv", path=str(b))


def test_folder_by_names_and_content(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("{}")
    before = digest(source="dataset", path=str(tmp_path))
    (tmp_path / "train.jsonl").rename(tmp_path / "test.jsonl")
    assert digest(source="dataset", path=str(tmp_path)) != before


def test_hub_by_revision_and_microworld_by_version() -> None:
    from mpo_core.microworld import WORLD_VERSION

    assert digest(source="dataset", path="a/b", revision="c0ffee") == "hub:a/b@c0ffee"
    assert digest(source="microworld", split="train") == f"microworld:{WORLD_VERSION}"


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="cannot be read"):
        digest(source="csv", path=str(tmp_path / "none.csv"))
