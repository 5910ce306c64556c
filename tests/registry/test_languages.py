from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from mpo_core.contract.artifacts import ArtifactRef, ArtifactStore
from mpo_core.contract.errors import BadInputError, DamagedError
from mpo_core.contract.tables import METRICS
from mpo_core.languages.known import LANGUAGES
from mpo_core.registry import (
    Entry,
    add_language,
    evaluated,
    find_work,
    promote,
    promoted,
    registered_languages,
)
from mpo_core.settings import DefinedLanguage, LanguageSettings
from tests.registered import register
from tests.tiny_models import tiny_model

TAGALOG = DefinedLanguage(code="tl", name="Tagalog", script="Latn")


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path))


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test defines is known to it alone."""
    known = dict(LANGUAGES)
    yield
    LANGUAGES.clear()
    LANGUAGES.update(known)


def test_a_language_is_registered_once(store: ArtifactStore) -> None:
    assert add_language(store, TAGALOG, who="me")
    assert not add_language(store, TAGALOG, who="you")
    (registered,) = registered_languages(store)
    assert (registered.facts, registered.who) == (TAGALOG, "me")


def test_other_facts_are_refused(store: ArtifactStore) -> None:
    add_language(store, TAGALOG, who="me")
    with pytest.raises(BadInputError, match="'tl' is known with another name"):
        add_language(store, TAGALOG.model_copy(update={"script": "Tglg"}), who="me")
    with pytest.raises(BadInputError, match="'sw' is known with another name"):
        add_language(store, DefinedLanguage(code="sw", name="Swahili", script="Arab"), who="me")
    assert [entry.facts.code for entry in registered_languages(store)] == ["tl"]


def test_a_defined_language_may_be_a_target() -> None:
    settings = LanguageSettings(defined=[TAGALOG], targets=["sw", "tl"])
    assert settings.targets == ["sw", "tl"]
    assert LANGUAGES["tl"].name == "Tagalog"
    with pytest.raises(ValidationError, match="'tl' is the code of Tagalog, whose name"):
        LanguageSettings(defined=[TAGALOG.model_copy(update={"name": "Filipino"})])


def test_an_unreadable_registration_is_an_error(store: ArtifactStore) -> None:
    add_language(store, TAGALOG, who="me")
    (store.local_path("registry/languages/tl.json")).write_text("{")
    with pytest.raises(DamagedError, match=r"registry/languages/tl\.json: the registration cannot be read"):
        registered_languages(store)


def metrics(**unsafe: float):
    rows = [
        {"model": "after", "language": code, "metric": "unsafe", "count": 0, "n": 9, "value": v, "low": v, "high": v}
        for code, v in unsafe.items()
    ]
    return METRICS.build(rows)


def block(name: str) -> ArtifactRef:
    return ArtifactRef(stage="prompts", path=f"prompts/{name}.parquet", sha256=name, part="train")


def test_work_is_what_the_promoted_version_does_not_cover(store: ArtifactStore) -> None:
    def work(targets: list[str], blocks: list[ArtifactRef]) -> list[tuple[str | None, str]]:
        version = promoted(store)
        table = None if version is None or version.evaluation is None else store.read_table(version.evaluation, METRICS)
        return [tuple(need) for need in find_work(version, table, targets, blocks, max_unsafe=0.2)]

    assert work(["sw"], [block("a")]) == [(None, "no version is promoted yet")]
    model = tiny_model(store, "m")
    good = store.write_table("evaluation", METRICS, metrics(sw=0.1, zh=0.0))
    entry = Entry(run="x", model=model, base="b", targets=["sw", "zh"], prompts=[block("a")], evaluation=good)
    promote(store, register(store, entry).version, who="me", why="good")
    assert work(["sw", "zh"], [block("a")]) == []
    assert work(["sw", "zh", "ko"], [block("a")]) == [("ko", "not covered by the promoted version")]
    assert work(["sw"], [block("a"), block("b")]) == [(None, "prompts have changed: train")]

    worse = store.write_table("evaluation", METRICS, metrics(sw=0.25, zh=0.0))
    evaluated(store, "v1", worse, who="nightly", why="again")
    assert work(["sw", "zh"], [block("a")]) == [("sw", "ASR 25.0% in the latest evaluation, allowed 20.0%")]


def test_equal_figures_are_recorded_once(store: ArtifactStore) -> None:
    from mpo_core.registry import history

    figures = store.write_table("evaluation", METRICS, metrics(sw=0.1))
    register(store, Entry(run="x", model=ArtifactRef(stage="training", path="m", sha256="m"), base="b"))
    for _ in range(2):
        evaluated(store, "v1", figures, who="nightly", why="again")
    assert [event.kind for event in history(store)] == ["registered", "evaluated"]


def test_a_version_of_before_its_lineage_was_recorded_can_be_read(store: ArtifactStore) -> None:
    old = {"run": "x", "model": tiny_model(store, "m").model_dump(), "base": "b"}
    entry = Entry.model_validate(old)
    promote(store, register(store, entry).version, who="me", why="good")
    assert find_work(promoted(store), None, ["sw"], [block("a")], max_unsafe=0.2) == [
        ("sw", "not covered by the promoted version")
    ]


def test_a_language_registered_before_engines_were_known_is_read(store: ArtifactStore) -> None:
    add_language(store, DefinedLanguage(code="ko", name="Korean", script="Hang", resource="medium"), who="me")
    old = registered_languages(store)[0].facts
    assert LanguageSettings(defined=[old], targets=["ko"]).targets == ["ko"]
    assert LANGUAGES["ko"].engines  # the table knows best
    with pytest.raises(BadInputError, match="'ko' is known with another name"):
        add_language(store, DefinedLanguage(code="ko", name="Corean", script="Hang", resource="medium"), who="me")
