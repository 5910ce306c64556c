"""Services behind a network: asked at once and at their pace, again after a failure, given up when they are down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from email.utils import parsedate_to_datetime
from typing import Protocol

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from mpo_core.defects import error_page
from mpo_core.languages import engine_code
from mpo_core.settings import RemoteSource
from mpo_core.translation.engines import EngineDownError, Reply
from mpo_core.translation.machine import Keep, PiecesDownError
from mpo_core.translation.throttle import Throttle, shared_throttle

_LONGEST_WAIT = 60.0
"""Seconds between two attempts, unless the server asks for more."""
_PATIENCE = 600.0
"""A server that asks to wait longer than this is given up for now."""
_IN_A_ROW = 12
"""So many texts in a row that failed all their attempts: the service is down."""


class PassingError(Exception):
    """A request failed for a reason that may pass.

    Args:
        reason: short stable name, such as `timed_out`.
        after: seconds that the server asks to wait.
        crowded: it was "too many requests".
    """

    def __init__(self, reason: str, *, after: float | None = None, crowded: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.after, self.crowded = reason, after, crowded


class LastingError(Exception):
    """The service will not translate this text, such as one that is too long for it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Client(Protocol):
    """One service's way of being asked."""

    @property
    def name(self) -> str:
        """Name of the engine."""

    async def ask(self, text: str, source: str, target: str) -> str | None:
        """The translation of one piece.

        Raises:
            PassingError: try again.
            LastingError: not this text.
            EngineDownError: not today.
            BadInputError: the key is refused.
        """

    async def close(self) -> None:
        """Ends connections."""


class RemoteBackend:
    """Asks a service for pieces, some at once.

    Args:
        open_client: makes the client, in the loop that uses it.
        name: the engine's name.
        codes: whose language codes it uses, as in `Language.engines`.
        identity: whose answers these are: service, model, version.
        limit: longest piece in characters.
        settings: limits, concurrency, retries.
    """

    def __init__(
        self,
        open_client: Callable[[], Client],
        *,
        name: str,
        codes: str,
        identity: str,
        limit: int | None,
        settings: RemoteSource,
    ) -> None:
        self._open, self._settings = open_client, settings
        self.name, self.identity, self.limit, self._codes = name, identity, limit, codes

    @property
    def _retrying(self) -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_exception_type(PassingError), stop=_enough(self._settings.retries), wait=_wait, reraise=True
        )

    @property
    def throttle(self) -> Throttle:
        """The limit that all of this process share."""
        s = self._settings
        return shared_throttle(f"{self.name} {s.url}", s.requests_per_second, s.characters_per_second)

    def code(self, language: str) -> str | None:
        """The service's own code for a language; None if it does not know it."""
        return engine_code(language, self._codes)

    def check(self, source: str, target: str) -> None:
        """Passes: services translate between any two languages that they know."""

    def translate(self, pieces: Sequence[str], source: str, target: str, keep: Keep) -> dict[str, Reply]:
        """A reply to each piece; `keep` is told each translation as it comes.

        Raises:
            EngineDownError, BadInputError: as an engine's.
        """
        return asyncio.run(self._all(pieces, source, target, keep))

    async def _all(self, pieces: Sequence[str], source: str, target: str, keep: Keep) -> dict[str, Reply]:
        client = self._open()
        replies: dict[str, Reply] = {}
        waiting = iter(pieces)
        run = _Run(client, source, target)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._settings.concurrency, len(pieces))):
                    group.create_task(self._work(run, waiting, replies, keep))
        except ExceptionGroup as group_of:
            raise group_of.exceptions[0] from None
        finally:
            await client.close()
        if run.down is not None:
            missing = {piece: Reply(None, run.down) for piece in pieces if piece not in replies}
            raise PiecesDownError(self.name, run.down, replies | missing)
        return replies

    async def _work(self, run: _Run, waiting: Iterator[str], replies: dict[str, Reply], keep: Keep) -> None:
        for piece in waiting:
            if run.down is not None:
                return
            reply = await self._piece(run, piece)
            if run.down is None or reply.text is not None:
                replies[piece] = reply
            if reply.text is not None:
                keep(piece, reply.text)

    async def _piece(self, run: _Run, piece: str) -> Reply:
        try:
            text: str = await self._retrying(self._once, run, piece)
        except PassingError as error:
            run.failed += 1
            if run.failed >= _IN_A_ROW or (error.after or 0.0) > _PATIENCE:
                run.down = error.reason
            return Reply(None, error.reason)
        except LastingError as error:
            return Reply(None, error.reason)
        except EngineDownError as error:
            run.down = error.reason
            return Reply(None, error.reason)
        run.failed = 0
        return Reply(text)

    async def _once(self, run: _Run, piece: str) -> str:
        throttle = self.throttle
        wait = throttle.reserve(len(piece))
        while wait > 0.0:
            await asyncio.sleep(wait)
            wait = throttle.held()  # meanwhile another request may have been told to wait
        if run.down is not None:
            raise LastingError(run.down)
        try:
            text = await run.client.ask(piece, run.source, run.target)
        except PassingError as error:
            if error.crowded:
                throttle.refused(error.after)
            raise
        throttle.answered()
        if text is None or not text.strip():
            raise PassingError("empty_translation")
        if error_page(piece, text):
            raise PassingError("error_page")
        return text


class _Run:
    """One call: the client, the languages, and how it stands."""

    def __init__(self, client: Client, source: str, target: str) -> None:
        self.client, self.source, self.target = client, source, target
        self.failed = 0
        self.down: str | None = None


def retry_after(header: str | None) -> float | None:
    """Seconds to wait; the header has seconds or a date."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None


_exponential = wait_random_exponential(multiplier=0.5, max=_LONGEST_WAIT)


def _wait(state: RetryCallState) -> float:
    """Longer each time, at random, so that those who failed together do not come back together."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.after if isinstance(error, PassingError) and error.after is not None else 0.0
    return max(asked, _exponential(state))


def _enough(retries: int) -> Callable[[RetryCallState], bool]:
    at_most = stop_after_attempt(retries + 1)

    def stop(state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        long = isinstance(error, PassingError) and (error.after or 0.0) > _PATIENCE
        return long or at_most(state)

    return stop
