"""A language that was registered by mistake: what a run says of it, and how it is removed."""

import json

import pytest

from mpo_core import registry
from mpo_core.contract.errors import BadInputError
from tests.faults.conftest import files
from tests.faults.test_bad_input import check_single_line


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
