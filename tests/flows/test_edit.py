"""The stage `edit` in the flow, and the command `mpo edit`."""

import json
from pathlib import Path

import pytest
import yaml

from flows.edit_models import _write_card
from mpo_core import registry
from mpo_core.contract.artifacts import ArtifactStore, file_digests
from tests.flows.conftest import run_small, small_settings
from tests.flows.test_caching import is_training_and_after


@pytest.mark.parametrize("body", ["", "Text.\n", "\n# Title\n"], ids=["nothing", "text at once", "blank line"])
@pytest.mark.parametrize(
    "metadata",
    ["", "---\nlicense: mit\n---\n", "---\r\nlicense: mit\r\n---\r\n", "--- \nlicense: mit\n--- \n"],
    ids=["none", "plain", "crlf", "trailing blanks"],
)
def test_a_note_follows_the_metadata_of_a_card_and_is_a_paragraph_of_its_own(tmp_path, metadata, body):
    # Without a body, the last line break of the metadata is missing too.
    card = (metadata + body).encode() if body else metadata.rstrip("\r\n").encode()
    before, edited, undone = (tmp_path / name for name in ("before", "edited", "undone"))
    (edited / "edits").mkdir(parents=True)
    (edited / "edits" / "one.safetensors").touch()
    for folder in (before, undone):
        folder.mkdir()
    (before / "README.md").write_bytes(card)
    _write_card(before, edited)
    noted = (edited / "README.md").read_bytes().decode()
    head, note, tail = noted.partition("\n> After this card was written, the model was edited (edits/one.safetensors).")
    assert note
    assert head == (metadata if body else metadata.rstrip("\r\n"))
    assert tail.partition("\n")[2] == "\n" + body
    _write_card(edited, undone)
    assert (undone / "README.md").read_bytes() == card


def test_a_model_is_edited_after_training_or_alone_and_the_edit_can_be_undone(warm, mpo, tmp_path):
    root, first, _ = warm
    changes = {"edit": {"max_change": 9.0, "layers": [2]}}
    summary, ran = run_small(root, **changes)
    assert "edit-mpo" in ran
    assert is_training_and_after([*set(ran) - {"edit-mpo"}, "train-mpo"], "en", "sw", "zh")
    models = [ref for ref in summary.artifacts if ref.stage in {"training", "edit"} and "." not in ref.path]
    trained, edited = models
    assert trained in first.artifacts
    assert {version.entry.model for version in registry.versions(ArtifactStore(str(root)))} == {trained, edited}
    assert (root / edited.path / "README.md").exists()
    assert run_small(root, **changes)[1] == []

    (file,) = (root / edited.path / "edits").iterdir()
    done = mpo("edit", "--model", root / edited.path, "--undo", file, "--out", tmp_path / "undone", "--json")
    assert done.code == 0, done.err
    undone = file_digests(tmp_path / "undone")
    assert undone.pop("README.md")
    card = (tmp_path / "undone" / "README.md").read_text()
    assert "an edit of the model was undone" in card.split("---")[2]
    assert undone == {name: sha for name, sha in file_digests(root / trained.path).items() if name != "README.md"}

    done = mpo("edit", "--model", tmp_path / "undone", "--apply", file, "--out", tmp_path / "again")
    assert done.code == 0, done.err
    assert file_digests(tmp_path / "again") == file_digests(root / edited.path)

    # The same prompts and translations, but of the base model.
    profile = tmp_path / "profile.yaml"
    profile.write_text(yaml.safe_dump(small_settings(root, **changes)))
    done = mpo("edit", profile, "--model", "microworld", "--out", tmp_path / "alone", "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert result["edited_neurons"] > 0

    # An edit of an edited model is reported by its own file.
    done = mpo("edit", profile, "--model", tmp_path / "alone", "--out", tmp_path / "twice", "--json")
    assert done.code == 0, done.err
    second = Path(json.loads(done.out)["edit"])
    assert {path.name for path in (tmp_path / "twice" / "edits").iterdir()} == {Path(result["edit"]).name, second.name}
    assert second.name != Path(result["edit"]).name
