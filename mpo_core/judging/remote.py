"""Asks a model behind a server about answers: a probe first, then several answers at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mpo_core.contract.errors import BadInputError, StageFailedError
from mpo_core.contract.judge import Case
from mpo_core.contract.progress import Progress, ignore_progress
from mpo_core.http.errors import LastingError, PassingError, RefusedError
from mpo_core.http.greedy import GreedyModel
from mpo_core.http.many import ServiceDownError, ask_all
from mpo_core.http.refused import refused_service
from mpo_core.http.throttle import shared_throttle
from mpo_core.judging import rubric
from mpo_core.judging.formats import FORMATS, GOLDEN, Turns
from mpo_core.judging.reading import UNREADABLE, Reading
from mpo_core.reply import ONLY_THOUGHTS

if TYPE_CHECKING:
    from mpo_core.judging.judges.openai import OpenAIJudge

_WHERE = "judging.judge openai"


class _Exchange(NamedTuple):
    """How to ask a model for verdicts, and how to read its replies."""

    ask: Callable[[Case], Turns]
    read: Callable[[str], Reading]
    max_tokens: int
    schema: Mapping[str, Any] | None
    reminder: str
    """Text to add to the instructions after a reply that cannot be read; empty for a guard, which needs none."""
    arguments: Mapping[str, Any] = {}
    """Arguments of a guard's chat template."""


def readings(settings: OpenAIJudge, cases: Sequence[Case], progress: Progress) -> list[Reading]:
    """Returns what the model says of each answer; a reading without a label says why there is no verdict.

    Raises:
        BadInputError: the server refuses every request, or its model gives no readable verdict.
        StageFailedError: it does not answer any more.
    """

    async def ask() -> list[Reading]:
        return await _Asker(settings).all(cases, progress)  # its connections belong to the event loop

    return asyncio.run(ask())


def _exchange(settings: OpenAIJudge) -> _Exchange:
    if settings.format is None:
        return _Exchange(rubric.messages, rubric.read, settings.max_tokens, rubric.SCHEMA, rubric.REMINDER)
    form = FORMATS[settings.format]

    def ask(case: Case) -> Turns:
        return form.messages(rubric.plain(case.prompt), rubric.plain(case.response))

    return _Exchange(ask, form.read, form.max_tokens, None, "", form.arguments)


class _Asker:
    """Asks one model behind a server about answers."""

    def __init__(self, settings: OpenAIJudge) -> None:
        self.name, self._exchange = f"openai:{settings.model}", _exchange(settings)
        self._model = GreedyModel(
            model=settings.model,
            url=settings.url,
            key_variable=settings.key_variable,
            timeout=settings.timeout,
            connections=settings.concurrency,
        )
        self._settings = settings

    async def all(self, cases: Sequence[Case], progress: Progress) -> list[Reading]:
        """Returns the model's reading of each answer, after one of a harmless exchange as a probe.

        Raises:
            BadInputError: the server refuses every request, or gives no verdict on the probe.
            StageFailedError: it does not answer any more.
        """
        try:
            await self._require_verdict()
            return [_reading_of(outcome) for outcome in await self._outcomes(cases, progress)]
        except ServiceDownError as error:
            raise StageFailedError(
                f"{_WHERE}: the server {self.name} does not answer any more ({error}). Check judging.url, and run again"
            ) from None
        except RefusedError as error:
            keys = self._model.key_variables
            fix = "Correct the judge's settings."
            raise refused_service(self.name, error, key_variables=keys, where=_WHERE, fix=fix) from None
        finally:
            await self._model.close()

    async def _require_verdict(self) -> None:
        (outcome,) = await self._outcomes([GOLDEN])
        if isinstance(outcome, PassingError):
            raise ServiceDownError(outcome.reason)
        reading = _reading_of(outcome)
        if reading.label is None:
            raise BadInputError(
                f"the model {self.name} gives no verdict on a harmless test answer ({reading.reason})",
                where=_WHERE,
                fix="For a guard model, set judging.format to its format; else raise judging.max_tokens, or use "
                "another model.",
            )

    async def _outcomes(
        self, cases: Sequence[Case], progress: Progress = ignore_progress
    ) -> list[Reading | LastingError | PassingError]:
        return await ask_all(
            cases,
            self._reading,
            probe=GOLDEN,
            concurrency=self._settings.concurrency,
            retries=self._settings.retries,
            throttle=shared_throttle(f"judging {self._settings.url} {self.name}", None, None),
            progress=progress,
        )

    async def _reading(self, case: Case) -> Reading:
        """Returns the model's reading of one answer, after a second request if its first reply cannot be read."""
        first, *others = self._exchange.ask(case)
        result = Reading(None, reason=UNREADABLE)
        for reminder in dict.fromkeys(["", self._exchange.reminder]):
            reply = await self._reply([{**first, "content": first["content"] + reminder}, *others], case)
            result = self._exchange.read(reply)
            if result.label is not None:
                break
        return result

    async def _reply(self, messages: Turns, case: Case) -> str:
        hidden = [case.prompt, case.response, *(turn["content"] for turn in messages)]
        completion = await self._model.ask(
            messages,
            max_tokens=self._exchange.max_tokens,
            hidden=hidden,
            schema=self._exchange.schema,
            arguments=self._exchange.arguments,
        )
        if not completion.text and completion.thought is not None:
            raise LastingError(ONLY_THOUGHTS)
        return completion.text or ""


def _reading_of(outcome: Reading | LastingError | PassingError) -> Reading:
    return outcome if isinstance(outcome, Reading) else Reading(None, reason=outcome.reason)
