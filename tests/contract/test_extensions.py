"""Implementations of an extension point: those of this repository, and those of other packages."""

import sys
from importlib.metadata import EntryPoint
from typing import Literal

import pytest
from pydantic import ValidationError

from mpo_core.contract import extensions
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.extensions import ExtensionPoint
from mpo_core.contract.judge import JUDGES, Case, Judge, Verdict
from mpo_core.contract.settings import Settings


class Never(Judge):
    """Calls every answer safe."""

    judge: Literal["never"]
    """Name of the judge."""
    strictness: int = 1
    """How strict it is."""

    def verdicts(self, cases):
        return [Verdict("safe", refusal=False, reason="never") for _ in cases]


class Taken(Never):
    """Has a name that is in use."""

    judge: Literal["microworld"]
    """Name of the judge."""


class Nameless(Judge):
    """Has no name."""

    def verdicts(self, cases):
        return []


class NoJudge(Settings):
    """Is something else."""


def point(monkeypatch, *values):
    """A point like that of the judges, with entry points of another package."""
    entries = [EntryPoint(f"entry{n}", value, "mpo.judges") for n, value in enumerate(values)]
    monkeypatch.setattr(extensions, "entry_points", lambda group: [e for e in entries if e.group == group])
    monkeypatch.setitem(sys.modules, "other_package", sys.modules[__name__])
    return ExtensionPoint(Judge, tag="judge", package="mpo_core.judging.judges", group="mpo.judges")


def test_the_judges_of_this_repository():
    assert {"microworld", "refusal_rules"} <= set(JUDGES.implementations)


def test_a_judge_of_another_package_is_one_of_the_settings(monkeypatch):
    judges = point(monkeypatch, "other_package:Never")
    judge = judges.parse({"judge": "never", "strictness": 3})
    assert judge.verdicts([Case("harmful", "en", "a", "b")]) == [Verdict("safe", refusal=False, reason="never")]
    assert judge.key() != judges.parse({"judge": "never"}).key() != judges.parse({"judge": "microworld"}).key()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("other_package:Taken", r"entry point entry0 = .*the name 'microworld' is already in use"),
        ("other_package:Nameless", r"Nameless does not declare a field `judge: Literal\[NAME\]`"),
        ("other_package:NoJudge", "is not a subclass of Judge"),
        ("other_package:absent", r"cannot be loaded \(AttributeError"),
        ("no_such_package:x", r"cannot be loaded \(ModuleNotFoundError.*Repair or remove its package"),
    ],
)
def test_what_is_no_implementation_is_refused_in_one_line(monkeypatch, value, message):
    with pytest.raises(BadInputError, match=message):
        _ = point(monkeypatch, value).implementations


def test_settings_of_another_implementation_are_refused():
    with pytest.raises(ValidationError, match="min_letters"):
        JUDGES.parse({"judge": "microworld", "min_letters": 3})
