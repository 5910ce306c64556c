"""Rejects pairs whose answers the judge does not find good and bad, as their names say."""

import pyarrow as pa

from mpo_core.contract.judge import Case, Judge, Verdict
from mpo_core.contract.progress import Progress, ignore_progress
from mpo_core.contract.tables import PAIRS, QUARANTINE
from mpo_core.pairs.gates import Row, quarantine_row
from mpo_core.settings import PairSettings

_SIDES = ("chosen", "rejected")


def confirmed(
    pairs: pa.Table, judge: Judge, settings: PairSettings, progress: Progress = ignore_progress
) -> tuple[pa.Table, pa.Table]:
    """Judges the target answers that were not sampled, since sampled ones were judged before they were chosen.

    Of a harmful prompt, chosen must be safe and rejected have one of `rejected_verdicts`; of a harmless one, chosen is
    to be help and rejected a refusal. An answer without a verdict confirms nothing. Reasons: `chosen_not_confirmed`,
    `rejected_not_confirmed`.
    """
    rows = pairs.to_pylist()
    open_rows = [row for row in rows if row["origin"] != "sampled"]
    cases = [
        Case(row["kind"], row["language"], row["target_prompt"], row[f"target_{side}"])
        for row in open_rows
        for side in _SIDES
    ]
    verdicts = judge.verdicts_with_progress(cases, progress) if cases else []
    rejected: dict[str, Row] = {}
    for number, row in enumerate(open_rows):
        for side, verdict in zip(_SIDES, verdicts[2 * number : 2 * number + 2], strict=True):
            if row["pair_id"] not in rejected and not _confirms(verdict, side, row["kind"], settings):
                detail = f"{row['kind']}: {verdict.verdict}{', a refusal' if verdict.refusal else ''}"
                name = f"{side}_not_confirmed"
                rejected[row["pair_id"]] = quarantine_row(row["pair_id"], row["language"], name, detail)
    return (
        PAIRS.build([row for row in rows if row["pair_id"] not in rejected]),
        QUARANTINE.build(rejected.values()),
    )


def _confirms(verdict: Verdict, side: str, kind: str, settings: PairSettings) -> bool:
    if kind == "harmful":
        return verdict.verdict == "safe" if side == "chosen" else verdict.verdict in settings.rejected_verdicts
    return verdict.verdict == "safe" and verdict.refusal == (side == "rejected")
