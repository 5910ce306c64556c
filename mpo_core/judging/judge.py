"""One verdict per response, by the judge that the settings name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pyarrow as pa

from mpo_core.errors import BadInputError
from mpo_core.judging.microworld import judge_microworld, require_spoken
from mpo_core.judging.rules import judge_by_rules, phrases_of
from mpo_core.judging.verdict import Case, Verdict
from mpo_core.reply import separate
from mpo_core.settings import JudgingSettings
from mpo_core.tables import VERDICTS


def judge_responses(responses: pa.Table, prompts_kind: Mapping[str, str], settings: JudgingSettings) -> pa.Table:
    """Judges every response of a RESPONSES table.

    Args:
        responses: what the model answered.
        prompts_kind: `harmful` or `harmless` by prompt id.
        settings: which judge, and its limits.

    Returns:
        VERDICTS, one row per response, in the same order.

    Raises:
        BadInputError: a prompt's kind is not known, or the judge does not know a language.
    """
    judge = _judge(settings)
    rows = []
    for response in responses.to_pylist():
        kind = prompts_kind.get(response["prompt_id"])
        if kind is None:
            raise BadInputError(
                f"no kind is known for prompt {response['prompt_id']}",
                where="table responses",
                mend="Judge responses together with the prompts that they answer.",
            )
        rows.append(_row(response, kind, _verdict(response, kind, judge)))
    return VERDICTS.build(rows)


def require_languages(settings: JudgingSettings, languages: Iterable[str]) -> None:
    """Passes if the judge can judge every one of the languages; asked before anything is sampled.

    Raises:
        BadInputError: it cannot; the first language that it lacks is named.
    """
    check = require_spoken if settings.judge == "microworld" else phrases_of
    for code in languages:
        check(code)


def _judge(settings: JudgingSettings) -> Callable[[Case], Verdict]:
    if settings.judge == "microworld":
        return judge_microworld
    return lambda case: judge_by_rules(case, settings)


def _verdict(response: Mapping[str, Any], kind: str, judge: Callable[[Case], Verdict]) -> Verdict:
    """The judge's verdict on the answer alone: a reply of nothing but thoughts is invalid, whatever they say."""
    # Sampling has taken the thoughts away; tables from elsewhere may still have them.
    parts = separate(response["text"], context=response["prompt"])
    fault = response["fault"] or parts.fault
    if fault is not None:
        return Verdict("invalid", refusal=False, reason=fault)
    return judge(Case(kind, response["language"], response["prompt"], parts.text))


def _row(response: Mapping[str, Any], kind: str, verdict: Verdict) -> dict[str, Any]:
    return {
        "prompt_id": response["prompt_id"],
        "language": response["language"],
        "sample": response["sample"],
        "kind": kind,
        **verdict._asdict(),
    }
