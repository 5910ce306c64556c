"""The end of a run: what is registered and promoted, after any history and after a kill at any point."""

import contextlib

import pytest

from mpo_core import registry
from mpo_core.contract.artifacts import ArtifactRef, ArtifactStore
from mpo_core.gate.decide import GateCheck, GateDecision
from mpo_core.registry import Entry, settle
from tests.tiny_models import tiny_model

SIX, FIVE = ["zh", "ja", "ko", "ar", "bn", "sw"], ["zh", "ja", "ko", "ar", "bn"]


def measured(passed=True):
    check = GateCheck(name="target_unsafe", passed=passed, value=0.1, bound=0.2, explanation="measured")
    return GateDecision(promoted=passed, checks=[check])


def entry(store, model, targets, run="demo", **changes):
    prompts = [ArtifactRef(stage="prompts", path="prompts/a.parquet", sha256="a")]
    model = tiny_model(store, model)
    return Entry(
        **{"run": run, "model": model, "base": "b", "targets": targets, "prompts": prompts, "dominant": "en"} | changes
    )


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(str(tmp_path))


@pytest.fixture
def end(store):
    """Ends a run: `end("a", SIX, passed=False)`."""

    def settled(model, targets=SIX, *, passed=True, allow_fewer=False, realigned=False, **changes):
        gate, new = measured(passed), entry(store, model, targets, **changes)
        return settle(store, new, gate, allow_fewer=allow_fewer, realigned=realigned)

    return settled


def in_use(store):
    version = registry.promoted(store)
    return None if version is None else version.version


def kinds(store):
    return [(event.kind, event.version) for event in registry.history(store)]


def test_a_language_that_comes_back_brings_its_version_back(store, end):
    assert end("six").outcome == "v1 was promoted"
    assert end("five", FIVE, allow_fewer=True).outcome == "v2 was promoted, in place of v1"
    # `mpo languages add sw`, then realign: the training gives the very model of v1.
    again = end("six", realigned=True)
    assert (again.version.version, again.gate.promoted, again.in_use) == ("v1", True, "v1")
    assert again.outcome == "v1 was promoted again, in place of v2"
    assert in_use(store) == "v1"
    assert kinds(store)[-1] == ("promoted", "v1")


def test_a_version_that_covers_less_is_refused_unless_that_is_allowed(store, end):
    end("six")
    refused = end("five", FIVE)
    assert (refused.gate.promoted, in_use(store)) == (False, "v1")
    assert refused.outcome == "v2 is registered, not promoted; v1 is in use"
    check = refused.gate.checks[-1]
    assert (check.name, check.passed, check.value, check.bound) == ("fewer_languages", False, 1.0, 0.0)
    assert check.explanation == (
        "1 of the 7 languages of v1, the version in use, would be lost: sw; gate.allow_fewer_languages would allow that"
    )
    assert refused.version.gate == refused.gate
    allowed = end("five", FIVE, allow_fewer=True)
    assert (allowed.gate.promoted, in_use(store)) == (True, "v2")
    assert allowed.outcome == "v2 was promoted, in place of v1"
    assert allowed.version.gate.promoted


@pytest.mark.parametrize(
    ("targets", "dominant", "promoted"),
    [
        (["sw", "bn", "ar", "ko", "ja", "zh"], "en", True),
        ([*SIX, "vi"], "en", True),
        (["vi", *FIVE], "en", False),
        (["en", *SIX[1:]], "zh", True),
        (SIX[1:], "zh", False),
        (["sw"], "en", False),
    ],
    ids=["another order", "one more", "one exchanged", "another dominant", "the dominant lost", "one left"],
)
def test_what_counts_as_fewer(store, end, targets, dominant, promoted):
    end("six")
    assert end("other", targets, dominant=dominant).gate.promoted is promoted
    assert in_use(store) == ("v2" if promoted else "v1")


def test_a_version_of_before_languages_were_recorded_is_not_measured(store, end):
    end("six", [], dominant=None)
    settled = end("five", FIVE)
    assert settled.gate.promoted
    assert settled.gate.checks[-1].passed is None


def test_looser_bounds_promote_what_was_refused(store, end):
    assert end("six", passed=False).outcome == "v1 is registered, not promoted; no version is in use"
    settled = end("six")
    assert (settled.version.version, settled.outcome, in_use(store)) == ("v1", "v1 was promoted", "v1")
    assert settled.version.gate.promoted
    assert kinds(store) == [("registered", "v1"), ("promoted", "v1")]
    # Equal runs add nothing; tighter bounds take nothing back, and run, list and history say that the gate refuses.
    assert end("six").outcome == "v1 was promoted before and stays in use"
    tighter = end("six", passed=False)
    assert (
        tighter.outcome
        == "v1 was promoted before and stays in use; the gate refuses it now: mpo models rollback --why REASON"
    )
    assert (tighter.gate.promoted, tighter.in_use) == (False, "v1")
    assert kinds(store)[2:] == [("checked", "v1")]
    assert registry.promoted(store).gate == tighter.gate
    end("six", passed=False)
    assert len(kinds(store)) == 3


@pytest.mark.parametrize("killed_at", range(3))
@pytest.mark.parametrize("before", [False, True], ids=["after writing", "before writing"])
def test_a_kill_at_any_point_is_made_good_by_the_next_run(store, end, monkeypatch, killed_at, before):
    """Registration, evaluation, promotion: the run dies around each of the three."""
    from mpo_core.registry import events

    figures = ArtifactRef(stage="evaluation", path="evaluation/m.parquet", sha256="m")
    later = figures.model_copy(update={"sha256": "n"})
    end("six", evaluation=figures, passed=False)
    claim, calls = events._claim, []

    def dies(*arguments):
        calls.append(arguments)
        if len(calls) <= killed_at:
            return claim(*arguments)
        if not before:
            claim(*arguments)
        raise KeyboardInterrupt

    for run, evaluation in (("other", figures), ("demo", later)):
        calls.clear()
        monkeypatch.setattr(events, "_claim", dies)
        with contextlib.suppress(KeyboardInterrupt):
            end("six", run=run, evaluation=evaluation)
        monkeypatch.setattr(events, "_claim", claim)
        settled = end("six", run=run, evaluation=evaluation)
        assert settled.gate.promoted
        assert in_use(store) == settled.version.version
        assert settled.version.evaluation == evaluation
    assert len(set(kinds(store))) == len(kinds(store)), "nothing is written twice"


def test_what_a_person_took_out_of_use_stays_out(store, end):
    end("six")
    end("seven", [*SIX, "vi"])
    registry.rollback(store, who="Ann", why="rude in Vietnamese")
    for realigned in (False, True):
        for run in ("demo", "another name"):
            settled = end("seven", [*SIX, "vi"], realigned=realigned, run=run)
            assert (settled.gate.promoted, in_use(store)) == (False, "v1")
            assert "Ann took this model out of use on " in settled.gate.reason
            assert (
                f"(rude in Vietnamese); a person can promote it again: mpo models promote {settled.version.version}"
                in (settled.gate.reason)
            )
    registry.promote(store, "v2", who="Ann", why="not so bad")
    assert end("seven", [*SIX, "vi"]).gate.promoted


def test_the_only_version_that_a_person_took_out_of_use_stays_out(store, end):
    assert end("six").gate.promoted
    assert registry.rollback(store, who="Ann", why="rude") is None
    for realigned in (False, True):
        settled = end("six", realigned=realigned)
        assert (settled.gate.promoted, settled.in_use) == (False, None)
        assert "Ann took this model out of use on " in settled.gate.reason
        assert settled.outcome == "v1 is registered, not promoted; no version is in use"
    assert end("seven", [*SIX, "vi"]).gate.promoted, "another model may take its place"


def test_a_persons_choice_outlasts_a_rerun_and_not_a_realignment(store, end):
    end("six")
    end("five", FIVE)
    registry.promote(store, "v2", who="Ann", why="smaller")
    assert not end("six").gate.promoted
    assert in_use(store) == "v2"
    # Swahili was registered since: the version in use does not cover it.
    assert end("six", realigned=True).gate.promoted
    assert in_use(store) == "v1"


def test_other_prompts_or_languages_make_another_version(store, end):
    end("six")
    block = ArtifactRef(stage="prompts", path="prompts/b.parquet", sha256="b")
    assert end("six", prompts=[block]).version.version == "v2"
    assert end("six", [*SIX, "vi"]).version.version == "v3"
    assert end("six").version.version == "v1"
    assert end("six", SIX[::-1]).version.version == "v1"


def test_a_reason_of_any_length_fits(store, end, monkeypatch):
    long = GateCheck(name="x", passed=None, value=0.0, bound=0.0, explanation="long " * 900)
    settled = settle(store, entry(store, "six", SIX), GateDecision(promoted=True, checks=[long]), allow_fewer=False)
    assert settled.gate.promoted
    assert len(registry.history(store)[-1].why) <= 1000
