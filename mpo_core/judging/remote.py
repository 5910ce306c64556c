"""Asks a model behind a server about answers: a probe first, then several answers at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mpo_core.contract.errors import BadInputError, StageFailedError
from mpo_core.contract.judge import Case
from mpo_core.http.errors import LastingError, PassingError, RefusedError
from mpo_core.http.greedy import GreedyModel
from mpo_core.http.refused import refused_service
from mpo_core.http.retries import PATIENCE, retrying
from mpo_core.judging import rubric
from mpo_core.judging.formats import FORMATS, GOLDEN, Turns
from mpo_core.judging.reading import UNREADABLE, Reading
from mpo_core.reply import ONLY_THOUGHTS

if TYPE_CHECKING:
    from mpo_core.judging.judges.openai import OpenAIJudge

_IN_A_ROW = 12
"""After this many answers in a row that failed in all attempts, the server counts as down."""
_FINAL = {401, 402, 403, 404, 429}
"""HTTP statuses of a server that refuses every further request; 429 is a refusal where it means a used-up quota."""
_WHERE = "judging.judge openai"


class _Exchange(NamedTuple):
    """How to ask a model for verdicts, and how to read its replies."""

    ask: Callable[[Case], Turns]
    read: Callable[[str], Reading]
    max_tokens: int
    schema: Mapping[str, Any] | None
    reminder: str
    """Text to add to the instructions after a reply that cannot be read; empty for a guard, which needs none."""


def readings(settings: OpenAIJudge, cases: Sequence[Case]) -> list[Reading]:
    """Returns what the model says of each answer; a reading without a label says why there is no verdict.

    Raises:
        BadInputError: the server refuses every request, or its model gives no readable verdict.
        StageFailedError: it does not answer any more.
    """
    return asyncio.run(_all(settings, cases))


def _exchange(settings: OpenAIJudge) -> _Exchange:
    if settings.format is None:
        return _Exchange(rubric.messages, rubric.read, settings.max_tokens, rubric.SCHEMA, rubric.REMINDER)
    form = FORMATS[settings.format]

    def ask(case: Case) -> Turns:
        return form.messages(rubric.plain(case.prompt), rubric.plain(case.response))

    return _Exchange(ask, form.read, form.max_tokens, None, "")


class _Run:
    """The state of one call: the model, how to ask it, and the failures in a row."""

    def __init__(self, settings: OpenAIJudge) -> None:
        self.settings, self.exchange, self.failed = settings, _exchange(settings), 0
        self.name = f"openai:{settings.model}"
        self.model = GreedyModel(
            model=settings.model,
            url=settings.url,
            key_variable=settings.key_variable,
            timeout=settings.timeout,
            connections=settings.concurrency,
        )

    async def reply(self, messages: Turns, case: Case) -> str:
        """Returns the model's reply to one request.

        Raises:
            PassingError, LastingError, RefusedError: as `GreedyModel.ask`.
        """
        hidden = [case.prompt, case.response, *(turn["content"] for turn in messages)]
        completion = await self.model.ask(
            messages, max_tokens=self.exchange.max_tokens, hidden=hidden, schema=self.exchange.schema
        )
        if not completion.text and completion.thought is not None:
            raise LastingError(ONLY_THOUGHTS)
        return completion.text or ""

    async def reading(self, case: Case) -> Reading:
        """Returns the model's reading of one answer, after a second request if its first reply cannot be read.

        Raises:
            PassingError, LastingError, RefusedError: as `GreedyModel.ask`.
        """
        messages = self.exchange.ask(case)
        result = Reading(None, reason=UNREADABLE)
        for reminder in ["", self.exchange.reminder] if self.exchange.reminder else [""]:
            first = {**messages[0], "content": messages[0]["content"] + reminder}
            reply: str = await retrying(self.settings.retries)(self.reply, [first, *messages[1:]], case)
            result = self.exchange.read(reply)
            if result.label is not None:
                break
        return result


async def _all(settings: OpenAIJudge, cases: Sequence[Case]) -> list[Reading]:
    run = _Run(settings)
    results: dict[int, Reading] = {}
    waiting = iter(enumerate(cases))
    try:
        await _probe(run)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(settings.concurrency, len(cases))):
                group.create_task(_work(run, waiting, results))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    finally:
        await run.model.close()
    return [results[number] for number in range(len(cases))]


async def _probe(run: _Run) -> None:
    """Asks about a harmless exchange first, so that errors of the server or its settings show at once."""
    try:
        result = await run.reading(GOLDEN)
    except PassingError as error:
        raise StageFailedError(
            f"{_WHERE}: the server {run.name} does not answer ({error.reason}). Check judging.url, and run again"
        ) from None
    except RefusedError as error:
        raise _refusal_error(run, error) from None
    except LastingError as error:
        result = Reading(None, reason=error.reason)
    if result.label is None:
        raise BadInputError(
            f"the model {run.name} gives no verdict on a harmless test answer ({result.reason})",
            where=_WHERE,
            fix="For a guard model, set judging.format to its format; else raise judging.max_tokens, or use another "
            "model.",
        )


async def _work(run: _Run, waiting: Iterator[tuple[int, Case]], results: dict[int, Reading]) -> None:
    for number, case in waiting:
        try:
            results[number] = await run.reading(case)
        except PassingError as error:
            run.failed += 1
            if run.failed >= _IN_A_ROW or (error.after or 0.0) > PATIENCE:
                raise StageFailedError(
                    f"{_WHERE}: the server {run.name} does not answer any more ({error.reason})"
                ) from None
            results[number] = Reading(None, reason=error.reason)
        except RefusedError as error:
            if error.status in _FINAL:
                raise _refusal_error(run, RefusedError(error.reason, status=error.status)) from None
            results[number] = Reading(None, reason=error.reason)
        except LastingError as error:
            results[number] = Reading(None, reason=error.reason)
        else:
            run.failed = 0


def _refusal_error(run: _Run, error: RefusedError) -> BadInputError:
    keys = run.model.key_variables
    return refused_service(run.name, error, key_variables=keys, where=_WHERE, fix="Correct the judge's settings.")
