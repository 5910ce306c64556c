"""A language is registered on a finished run; the rest comes from the cache."""

import pytest

from mpo_core import registry, reporting
from mpo_core.contract.artifacts import ArtifactStore
from mpo_core.settings import DefinedLanguage
from mpo_core.settings.profiles import parse_config
from tests.flows.conftest import LENIENT, ledger, run_small, small_settings

KOREAN = DefinedLanguage(code="ko", name="Korean", script="Hang", resource="medium")
CHANGES = {"gate": LENIENT, "realign__max_unsafe": 1.0}


def realign(root, **changes):
    from flows.realign import realign as flow

    with ledger() as ran:
        done = flow(parse_config(small_settings(root, **CHANGES, **changes), where="test"))
    return done, sorted(ran)


@pytest.fixture(scope="module")
def aligned(warm):
    root, _, _ = warm
    summary, _ = run_small(root, **CHANGES)
    assert summary.gate.promoted
    return root, ArtifactStore(str(root))


def test_without_news_nothing_is_done(aligned):
    root, store = aligned
    done, ran = realign(root)
    assert (done.needs, done.summary, ran) == ([], None, [])
    assert len(registry.versions(store)) == 1


@pytest.fixture(scope="module")
def added(aligned):
    root, store = aligned
    registry.add_language(store, KOREAN, who="me")
    return root, store, *realign(root)


def test_a_new_language_costs_what_it_adds(added):
    _, _, done, ran = added
    assert done.needs == [("ko", "not covered by the promoted version")]
    old = [name for name in ran if "-ko-" not in name and "after" not in name and "previous" not in name]
    assert old == ["evaluate-before", "evaluate-utility-before", "read-text-before", "train-mpo"]
    assert done.summary.targets == ["sw", "zh", "ko"]
    assert {name.split("-ko-")[0] for name in ran if "-ko-" in name} == {
        "translate", "translate-answers", "pairs", "sample", "judge", "reference"
    }  # fmt: skip


def test_what_changed_since_the_promoted_version_is_reported(added):
    _, store, done, _ = added
    summary = done.summary
    assert (summary.since_version, summary.version) == ("v1", "v2")
    assert {row.language for row in summary.since} == {"en", "sw", "zh", "ko", "targets"}
    assert any(check.name == "target_rise" and check.passed for check in summary.gate.checks)
    assert registry.promoted(store).version == "v2"
    assert registry.promoted(store).entry.targets == ["sw", "zh", "ko"]
    # The report of the version before, of a run with the same name, is still there.
    assert summary.earlier == "runs/small-v1"
    assert reporting.read(store, summary.earlier).version == "v1"
    assert reporting.read(store, "runs/small").version == "v2"


def test_afterwards_nothing_needs_work(added):
    root, _, _, _ = added
    assert realign(root)[0].needs == []


def test_the_nightly_evaluation_finds_the_same_figures(added):
    from flows.evaluate import evaluate_promoted

    root, store, done, _ = added
    config = parse_config(small_settings(root, **CHANGES), where="test")
    figures = evaluate_promoted(config)
    assert figures == {code: done.summary.metric("after", code, "unsafe").value for code in ("en", "sw", "zh", "ko")}
    kinds = [event.kind for event in registry.history(store)]
    evaluate_promoted(config)
    assert [event.kind for event in registry.history(store)] == kinds


def test_going_on_from_the_promoted_model_replays_a_share(added):
    root, store, _, _ = added
    registry.add_language(store, DefinedLanguage(code="ja", name="Japanese", script="Jpan", resource="high"), who="me")
    done, ran = realign(root, realign__start="promoted", realign__replay=0.5)
    assert done.needs == [("ja", "not covered by the promoted version")]
    assert [name for name in ran if name.startswith("replay-")] == [
        f"replay-{code}-train-replay" for code in ("ko", "sw", "zh")
    ]
    before, made = registry.versions(store)[-2:]
    assert made.entry.base == before.entry.model.sha256
    trained = next(stage for stage in done.summary.stages if stage.stage == "training")
    # Six prompts of each kind: half of the pairs of three languages, all of the new one's.
    every = {s.language: s.rows for s in done.summary.stages if s.stage == "pairs" and s.label.endswith("-train")}
    assert trained.counts["pairs"] == every["ja"] + sum(round(every[code] / 2) for code in ("ko", "sw", "zh"))


def test_a_language_is_not_registered_where_the_server_cannot_be_notified(mpo, monkeypatch, tmp_path):
    from flows import prefect_api
    from flows.commands import languages

    def server_at(address):
        for module in (languages, prefect_api):
            monkeypatch.setattr(module, "server", lambda: address)

    server_at("http://127.0.0.1:9/api")
    outcome = mpo("languages", "add", "sw", "--root", tmp_path)
    assert (outcome.code, "no Prefect server answers" in outcome.err) == (2, True)
    assert not (tmp_path / "registry").exists()
    server_at(None)
    assert mpo("languages", "add", "sw", "--root", tmp_path).code == 0
    assert (tmp_path / "registry" / "languages" / "sw.json").is_file()


def in_use(store):
    return [version.version for version in registry.versions(store) if version.promoted]


@pytest.mark.long
def test_a_language_that_was_given_up_comes_back(prefect_server, tmp_path):
    """The whole story on real flows; `tests/registry/test_settle.py` has it in milliseconds."""
    strict = {"realign__max_unsafe": 1.0, "gate": {**LENIENT, "max_target_unsafe": 0.0}}
    root, store = tmp_path / "root", ArtifactStore(str(tmp_path / "root"))
    refused, _ = run_small(root, **strict)
    assert (refused.gate.promoted, refused.promoted_version, in_use(store)) == (False, None, [])
    assert refused.registry == "v1 is registered, not promoted; no version is in use"
    loosened, ran = run_small(root, **CHANGES)
    assert (ran, loosened.gate.promoted, loosened.version, in_use(store)) == ([], True, "v1", ["v1"])

    fewer, _ = run_small(root, **CHANGES, languages__targets=["sw"])
    assert (fewer.gate.promoted, fewer.version, fewer.promoted_version, in_use(store)) == (False, "v2", "v1", ["v1"])
    assert "1 of the 3 languages of v1, the version in use, would be lost: zh" in fewer.gate.reason
    allowed = CHANGES | {"gate": {**LENIENT, "allow_fewer_languages": True}}
    chosen, ran = run_small(root, **allowed, languages__targets=["sw"])
    assert (ran, chosen.gate.promoted, chosen.registry) == ([], True, "v2 was promoted, in place of v1")

    chinese = DefinedLanguage(code="zh", name="Chinese", script="Hans", resource="high", identified_as=["wuu", "yue"])
    registry.add_language(store, chinese, who="me")
    done, _ = realign(root, languages__targets=["sw"])
    assert done.needs == [("zh", "not covered by the promoted version")]
    assert (done.summary.version, done.summary.registry) == ("v1", "v1 was promoted again, in place of v2")
    assert in_use(store) == ["v1"] == [done.summary.promoted_version]
    assert realign(root, languages__targets=["sw"])[0].needs == []

    registry.rollback(store, who="Ann", why="rude")
    again, _ = realign(root, languages__targets=["sw"])
    assert (again.summary.gate.promoted, in_use(store)) == (False, ["v2"])
    assert "Ann took this model out of use" in again.summary.gate.reason
