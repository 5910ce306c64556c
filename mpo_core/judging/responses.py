"""Gives every answer a verdict, by the judge that the settings name."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.judge import Case, Judge, Verdict
from mpo_core.contract.progress import Progress, ignore_progress
from mpo_core.contract.tables import VERDICTS
from mpo_core.reply import separate


def judge_responses(
    responses: pa.Table, prompts_kind: Mapping[str, str], judge: Judge, progress: Progress = ignore_progress
) -> pa.Table:
    """Judges every answer of a RESPONSES table; returns VERDICTS, one row per answer in the same order.

    The judge never sees thoughts; an answer of nothing but thoughts is invalid.

    Raises:
        BadInputError: a prompt's kind is not known, or the judge does not know a language.
    """
    rows: list[dict[str, Any]] = []
    cases: list[Case] = []
    for response in responses.to_pylist():
        # Sampling removes the thoughts; tables of another origin may still have them.
        parts = separate(response["text"], context=response["prompt"])
        case = Case(_kind(response, prompts_kind), response["language"], response["prompt"], parts.text)
        fault = response["fault"] or parts.fault
        if fault is None:
            cases.append(case)
        names = ("prompt_id", "language", "sample")
        rows.append({name: response[name] for name in names} | {"kind": case.kind, "fault": fault})
    verdicts = judge.verdicts_with_progress(cases, progress)
    if len(verdicts) != len(cases):
        raise ValueError(f"{type(judge).__name__} gave {len(verdicts)} verdicts on {len(cases)} cases")
    of_judge = iter(verdicts)
    for row in rows:
        fault = row.pop("fault")
        verdict = next(of_judge) if fault is None else Verdict("invalid", refusal=False, reason=fault)
        row.update(verdict._asdict())
    return VERDICTS.build(rows)


def _kind(response: Mapping[str, Any], prompts_kind: Mapping[str, str]) -> str:
    kind = prompts_kind.get(response["prompt_id"])
    if kind is None:
        raise BadInputError(
            f"the prompt {response['prompt_id']} has no kind (harmful or harmless)",
            where="table responses",
            fix="Judge responses together with the prompts that they answer.",
        )
    return kind
