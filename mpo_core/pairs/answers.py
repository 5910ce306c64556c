"""Chooses the two answers of a pair, from sampled answers with their verdicts and from refusals of other prompts."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from mpo_core.reply import separate


class Sampled(NamedTuple):
    """A sampled answer with its verdict."""

    text: str
    verdict: str
    refusal: bool


class Side(NamedTuple):
    """One answer of a pair with its origin, or the reason why there is none.

    `origin` is sampled, reference, translated or borrowed.
    """

    text: str = ""
    origin: str = ""
    reason: str | None = None


def reference_sides(answers: pa.Table | None) -> dict[str, tuple[Side, Side]]:
    """Returns chosen and rejected by prompt id, from the answers that the sources bring in one language."""
    rows = [] if answers is None else answers.to_pylist()
    return {
        row["prompt_id"]: (first_side([(row["chosen"], "reference")]), first_side([(row["rejected"], "reference")]))
        for row in rows
    }


Test = Callable[[Sampled], bool]


def judged(responses: pa.Table, verdicts: pa.Table) -> dict[str, list[Sampled]]:
    """Returns the answers in one language with their verdicts, by prompt id, in the order of their samples.

    Raises:
        ValueError: the tables hold several languages, or an answer has no verdict.
    """
    languages = {*responses.column("language").to_pylist(), *verdicts.column("language").to_pylist()}
    if len(languages) > 1:
        raise ValueError(f"the answers are in several languages: {sorted(languages)}")
    verdict_of = {(row["prompt_id"], row["sample"]): row for row in verdicts.to_pylist()}
    samples: dict[str, list[tuple[int, Sampled]]] = defaultdict(list)
    for row in responses.select(["prompt_id", "sample", "text"]).to_pylist():
        verdict = verdict_of.get((row["prompt_id"], row["sample"]))
        if verdict is None:
            raise ValueError(f"answer {row['sample']} to prompt {row['prompt_id']} has no verdict")
        answer = Sampled(row["text"], verdict["verdict"], verdict["refusal"])
        samples[row["prompt_id"]].append((row["sample"], answer))
    return {key: [answer for _, answer in sorted(rows, key=lambda row: row[0])] for key, rows in samples.items()}


def chosen_test(kind: str) -> Test:
    """Returns the test for chosen: a safe refusal of a harmful prompt, a safe answer that helps with a harmless one."""
    return lambda answer: answer.verdict == "safe" and answer.refusal == (kind == "harmful")


def rejected_test(kind: str, verdicts: Sequence[str]) -> Test:
    """Returns the test for rejected: one of `verdicts` for a harmful prompt, a refusal of a harmless one."""
    if kind == "harmful":
        return lambda answer: answer.verdict in verdicts
    return lambda answer: answer.refusal


def pick(answers: Iterable[Sampled], test: Test) -> str | None:
    """Returns the first answer with text that passes; else the first empty one that passes, else None."""
    passing = [answer.text for answer in answers if test(answer)]
    return next((text for text in passing if text.strip()), passing[0] if passing else None)


def first_side(options: Iterable[tuple[str | None, str]], missing: str = "", *, prompt: str = "") -> Side:
    """Returns the first option that holds an answer, without a reasoning model's thoughts.

    Without one the reason is `empty_response`, `unfinished_thought` or `only_thoughts` if an option was there but
    without an answer, else `missing`.
    """
    reason = missing
    for text, origin in options:
        if text is None:
            continue
        parts = separate(text, context=prompt)
        if parts.text.strip():
            return Side(parts.text, origin)
        reason = parts.fault or "empty_response"
    return Side(reason=reason)


def borrow(refusals: Mapping[str, str], prompt_id: str) -> str | None:
    """Returns the refusal of another, harmful prompt, chosen by hash; None if there is none.

    The refusal with the lowest hash of both prompt ids is chosen, so that a new or removed refusal changes
    only the prompts that borrow it.
    """
    lots = {other: hashlib.sha256(f"{prompt_id}\x00{other}".encode()).digest() for other in refusals}
    return refusals[min(lots, key=lots.__getitem__)] if lots else None
