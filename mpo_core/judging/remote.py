"""A model behind a server as judge: a probe first, then several answers at a time; every one gets a reading."""

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
"""So many answers in a row that failed all their attempts: the server is down."""
_FINAL = {401, 402, 403, 404, 429}
"""Statuses of a server that refuses every request from now on; 429 is a refusal where it means a spent quota."""
_WHERE = "judging.judge openai"


class _Manner(NamedTuple):
    """How a model is asked for verdicts, and how its replies are read."""

    ask: Callable[[Case], Turns]
    read: Callable[[str], Reading]
    max_tokens: int
    schema: Mapping[str, Any] | None
    reminder: str
    """What is added to the instructions after a reply that could not be read; empty for a guard, which has none."""


def readings(settings: OpenAIJudge, cases: Sequence[Case]) -> list[Reading]:
    """Returns what the model says of each answer; a reading without a label says why there is no verdict.

    Raises:
        BadInputError: the server refuses every request, or does not answer as such a judge does.
        StageFailedError: it does not answer any more.
    """
    return asyncio.run(_all(settings, cases))


def _manner(settings: OpenAIJudge) -> _Manner:
    if settings.format is None:
        return _Manner(rubric.messages, rubric.read, settings.max_tokens, rubric.SCHEMA, rubric.REMINDER)
    form = FORMATS[settings.format]

    def ask(case: Case) -> Turns:
        return form.messages(rubric.plain(case.prompt), rubric.plain(case.response))

    return _Manner(ask, form.read, form.max_tokens, None, "")


class _Run:
    """One call: the model, how it is asked, and how it stands."""

    def __init__(self, settings: OpenAIJudge) -> None:
        self.settings, self.manner, self.failed = settings, _manner(settings), 0
        self.name = f"openai:{settings.model}"
        self.model = GreedyModel(
            model=settings.model,
            url=settings.url,
            key_variable=settings.key_variable,
            timeout=settings.timeout,
            connections=settings.concurrency,
        )

    async def reply(self, messages: Turns, case: Case) -> str:
        """The model's reply to one request.

        Raises:
            PassingError, LastingError, RefusedError: as `GreedyModel.ask`.
        """
        hidden = [case.prompt, case.response, *(turn["content"] for turn in messages)]
        completion = await self.model.ask(
            messages, max_tokens=self.manner.max_tokens, hidden=hidden, schema=self.manner.schema
        )
        if not completion.text and completion.thought is not None:
            raise LastingError(ONLY_THOUGHTS)
        return completion.text or ""

    async def reading(self, case: Case) -> Reading:
        """What the model says of one answer; it is asked again where its reply cannot be read.

        Raises:
            PassingError, LastingError, RefusedError: as `GreedyModel.ask`.
        """
        messages = self.manner.ask(case)
        read = Reading(None, reason=UNREADABLE)
        for reminder in ["", self.manner.reminder] if self.manner.reminder else [""]:
            first = {**messages[0], "content": messages[0]["content"] + reminder}
            reply: str = await retrying(self.settings.retries)(self.reply, [first, *messages[1:]], case)
            read = self.manner.read(reply)
            if read.label is not None:
                break
        return read


async def _all(settings: OpenAIJudge, cases: Sequence[Case]) -> list[Reading]:
    run = _Run(settings)
    read: dict[int, Reading] = {}
    waiting = iter(enumerate(cases))
    try:
        await _probe(run)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(settings.concurrency, len(cases))):
                group.create_task(_work(run, waiting, read))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    finally:
        await run.model.close()
    return [read[number] for number in range(len(cases))]


async def _probe(run: _Run) -> None:
    """Asks about a harmless exchange of ours: what is wrong with the server or its settings shows here."""
    try:
        read = await run.reading(GOLDEN)
    except PassingError as error:
        raise StageFailedError(f"{_WHERE}: the server {run.name} does not answer ({error.reason})") from None
    except RefusedError as error:
        raise _refused(run, error) from None
    except LastingError as error:
        read = Reading(None, reason=error.reason)
    if read.label is None:
        raise BadInputError(
            f"the model {run.name} gives no verdict on a harmless answer about bread ({read.reason})",
            where=_WHERE,
            fix="For a guard model name its format (judging.format); else raise judging.max_tokens, or use another "
            "model.",
        )


async def _work(run: _Run, waiting: Iterator[tuple[int, Case]], read: dict[int, Reading]) -> None:
    for number, case in waiting:
        try:
            read[number] = await run.reading(case)
        except PassingError as error:
            run.failed += 1
            if run.failed >= _IN_A_ROW or (error.after or 0.0) > PATIENCE:
                raise StageFailedError(f"{_WHERE}: the server {run.name} answers no more ({error.reason})") from None
            read[number] = Reading(None, reason=error.reason)
        except RefusedError as error:
            if error.status in _FINAL:
                raise _refused(run, RefusedError(error.reason, status=error.status)) from None
            read[number] = Reading(None, reason=error.reason)
        except LastingError as error:
            read[number] = Reading(None, reason=error.reason)
        else:
            run.failed = 0


def _refused(run: _Run, error: RefusedError) -> BadInputError:
    keys = run.model.key_variables
    return refused_service(run.name, error, key_variables=keys, where=_WHERE, fix="Correct the judge's settings.")
