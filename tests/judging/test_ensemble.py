"""Several judges: how their votes are counted, and what is common to them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.judge import Case
from mpo_core.judging import JUDGES


@pytest.mark.parametrize(
    ("rule", "votes", "expected"),
    [
        ("majority", "safe safe unsafe", ("safe", "votes: safe safe unsafe")),
        ("any_unsafe", "safe safe unsafe", ("unsafe", "votes: safe safe unsafe")),
        ("majority", "unsafe unsafe unsafe", ("unsafe", "unanimous")),
        ("majority", "safe unsafe", ("unjudged", "votes: safe unsafe")),
        ("any_unsafe", "safe unjudged", ("unjudged", "votes: safe unjudged")),
        ("any_unsafe", "unjudged unsafe unjudged", ("unsafe", "votes: unjudged unsafe unjudged")),
        ("majority", "safe unjudged unjudged", ("unjudged", "votes: safe unjudged unjudged")),
        ("majority", "invalid safe invalid", ("invalid", "votes: invalid safe invalid")),
    ],
)
def test_votes_are_counted(rule: str, votes: str, expected: tuple[str, str], monkeypatch: Any) -> None:
    from mpo_core.contract.judge import Verdict

    names = votes.split()
    judge = JUDGES.parse({"judge": "ensemble", "rule": rule, "judges": [{"judge": "refusal_rules"}] * len(names)})
    given = iter(names)
    monkeypatch.setattr(type(judge.judges[0]), "verdicts", lambda *_: [Verdict(next(given), refusal=True, reason="r")])
    (verdict,) = judge.verdicts([Case("harmful", "en", "x", "x")])
    assert (verdict.verdict, verdict.reason) == expected
    assert verdict.refusal == (verdict.verdict == "safe")


def test_an_ensemble_has_the_settings_languages_and_cautions_of_its_judges() -> None:
    members = [{"judge": "refusal_rules", "min_letters": 3}, {"judge": "guard", "format": "llama_guard"}]
    judge = JUDGES.parse({"judge": "ensemble", "judges": members})
    again = JUDGES.parse(json.loads(judge.model_dump_json()))
    assert again == judge
    assert judge.judges[0].min_letters == 3
    with pytest.raises(BadInputError, match="not made for Swahili"):
        judge.require_languages(["en", "sw"])
    cautions = judge.cautions(["en"])
    assert "refusal_rules, guard" in cautions[0]
    assert any("knows phrases of refusal" in sentence for sentence in cautions)
    with pytest.raises(ValidationError, match="cannot contain another ensemble"):
        JUDGES.parse({"judge": "ensemble", "judges": [members[0], {"judge": "ensemble", "judges": members}]})
    with pytest.raises(ValidationError):
        JUDGES.parse({"judge": "ensemble", "judges": members[:1]})
    with pytest.raises(ValidationError):
        JUDGES.parse({"judge": "ensemble", "judges": [{"judge": "refusal_rules", "unknown": 1}] * 2})
