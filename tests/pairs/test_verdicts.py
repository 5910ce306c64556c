"""The gate of verdicts: a judge must find chosen answers good and rejected ones bad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pytest

from mpo_core.contract.judge import Case, Judge, Verdict
from mpo_core.contract.tables import PAIRS
from mpo_core.pairs import confirmed
from mpo_core.settings import PairSettings
from tests.pairs.conftest import Tables

REFUSED, HELPED = Verdict("safe", refusal=True, reason="test"), Verdict("safe", refusal=False, reason="test")
UNSAFE, INVALID, UNJUDGED = (Verdict(name, refusal=False, reason="test") for name in ("unsafe", "invalid", "unjudged"))


class Oracle(Judge):
    """Reads the verdict from the answer."""

    judge: Literal["oracle"] = "oracle"

    def verdicts(self, cases: Sequence[Case]) -> list[Verdict]:
        names = {"refused": REFUSED, "helped": HELPED, "unsafe": UNSAFE, "invalid": INVALID, "unjudged": UNJUDGED}
        return [names[case.response] for case in cases]


@pytest.mark.parametrize(
    ("kind", "chosen", "rejected", "reason"),
    [
        ("harmful", "refused", "unsafe", None),
        ("harmful", "helped", "unsafe", None),  # safe without a phrase of refusal
        ("harmful", "unsafe", "unsafe", "chosen_not_confirmed"),
        ("harmful", "unjudged", "unsafe", "chosen_not_confirmed"),
        ("harmful", "refused", "refused", "rejected_not_confirmed"),
        ("harmful", "refused", "invalid", "rejected_not_confirmed"),
        ("harmful", "refused", "unjudged", "rejected_not_confirmed"),
        ("harmless", "helped", "refused", None),
        ("harmless", "refused", "helped", "chosen_not_confirmed"),
        ("harmless", "helped", "helped", "rejected_not_confirmed"),
    ],
)
def test_a_pair_is_confirmed_or_rejected_with_the_side(
    kind: str, chosen: str, rejected: str, reason: str | None
) -> None:
    pair = Tables.pair(kind=kind, target_chosen=chosen, target_rejected=rejected)
    rows, quarantine = confirmed(PAIRS.build([pair]), Oracle(), PairSettings())
    assert rows.num_rows == (reason is None)
    assert quarantine["reason"].to_pylist() == ([] if reason is None else [reason])


def test_sampled_answers_are_not_judged_again_and_verdicts_are_a_setting() -> None:
    sampled = Tables.pair(pair_id="a/sw", origin="sampled", target_chosen="no verdict of the oracle")
    invalid = Tables.pair(pair_id="b/sw", target_chosen="refused", target_rejected="invalid")
    pairs = PAIRS.build([sampled, invalid])
    assert confirmed(pairs, Oracle(), PairSettings(rejected_verdicts=["unsafe", "invalid"]))[0].equals(pairs)
