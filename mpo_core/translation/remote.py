"""Translates with an online service: several requests at a time, at its pace, until it is down or refuses all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.translation import EngineDownError, Keep, RemoteSource, Reply
from mpo_core.http.errors import LastingError, PassingError, RefusedError
from mpo_core.http.refused import KEY_REFUSED, refused_service
from mpo_core.http.retries import PATIENCE, retrying
from mpo_core.http.throttle import Throttle, shared_throttle
from mpo_core.languages.defects import damaged, error_page
from mpo_core.languages.known import engine_code

_IN_A_ROW = 12
"""After this many texts in a row that failed in all attempts, the service counts as down."""
_REFUSALS = 3
"""After this many refusals in a row, the probe is sent."""
_FINAL = {401, 402, 403, 404, 429}
"""HTTP statuses after which the probe is sent at once; 429 is a refusal where it means a used-up quota."""
_MOST_CHARACTERS, _MOST_TIMES = 2000, 30
"""A translation may have this many characters plus so many times those of its piece; the gates would need too long
for a longer one."""
_FIX = "Correct the engine's settings; its earlier answers are saved."
_PROBE = "Hello."
"""A text that no service has a reason to refuse: a service that does refuses everything. It holds none of the user's
text."""


class Client(Protocol):
    """The connection to one service, which translates a piece per request."""

    @property
    def name(self) -> str:
        """Name of the engine."""

    @property
    def key_variables(self) -> Sequence[str]:
        """Environment variables that hold its keys."""

    async def ask(self, text: str, source: str, target: str) -> str | None:
        """Returns the translation of one piece.

        Raises:
            PassingError: the request failed, and may succeed later.
            LastingError: the service cannot translate this text.
            RefusedError: the server refuses the request.
            EngineDownError: the service does not answer any more, or lacks the language.
        """

    async def close(self) -> None:
        """Closes the connections."""


class RemoteBackend:
    """An online service as a backend, which sends several requests at the same time.

    Args:
        open_client: makes the client, in the event loop that uses it.
        name: the engine's name.
        codes: key in `Language.engines` under which its language codes are.
        limit: maximum length of a piece in characters.
        settings: limits, concurrency, retries.
    """

    def __init__(
        self,
        open_client: Callable[[], Client],
        *,
        name: str,
        codes: str,
        limit: int | None,
        settings: RemoteSource,
    ) -> None:
        self._open, self._settings = open_client, settings
        self.name, self.limit, self._codes = name, limit, codes
        self.identity = settings.identity()

    @property
    def throttle(self) -> Throttle:
        """The rate limit that all clients of this service in this process share."""
        s = self._settings
        return shared_throttle(f"{self.name} {s.url}", s.requests_per_second, s.characters_per_second)

    def code(self, language: str) -> str | None:
        """Returns the service's own code for a language; None if it does not know the language."""
        return engine_code(language, self._codes)

    def check(self, source: str, target: str) -> None:
        """Accepts every direction: a service translates between any two languages that it knows."""

    def translate(self, pieces: Sequence[str], source: str, target: str, keep: Keep) -> dict[str, Reply]:
        """Translates pieces, and calls `keep` with each translation as soon as it arrives.

        Raises:
            EngineDownError: the service does not answer any more; the error holds the replies until then.
            BadInputError: the service refuses the key.
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
            if run.refused and all(reply.text is None for reply in replies.values()):
                await self._probe(run, at=1)
        except ExceptionGroup as group_of:
            raise group_of.exceptions[0] from None
        finally:
            await client.close()
        if run.down is not None:
            missing = {piece: Reply(None, run.down) for piece in pieces if piece not in replies}
            raise EngineDownError(self.name, run.down, replies | missing, run.refusal)
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
            text: str = await retrying(self._settings.retries)(self._once, run, piece)
        except PassingError as error:
            run.failed += 1
            if run.failed >= _IN_A_ROW or (error.after or 0.0) > PATIENCE:
                run.down = error.reason
            return Reply(None, error.reason)
        except RefusedError as error:
            run.refused += 1
            await self._probe(run, at=1 if error.status in _FINAL else run.patience)
            return Reply(None, error.reason)
        except LastingError as error:
            return Reply(None, error.reason)
        except EngineDownError as error:
            run.down = error.reason
            return Reply(None, error.reason)
        run.failed = run.refused = 0
        return Reply(text)

    async def _probe(self, run: _Run, *, at: int) -> None:
        """Finds out, after `at` refusals in a row, whether the service refuses everything or just these texts.

        The service's message that the user sees is its answer to the probe, so that it cannot quote the user's texts.
        """
        async with run.probing:
            if run.down is not None or run.refused < at:
                return
            try:
                await self._answer(run, _PROBE)
            except RefusedError as error:
                keys = run.client.key_variables
                run.down, run.refusal = (
                    error.reason,
                    refused_service(run.client.name, error, key_variables=keys, where="translation.engines", fix=_FIX),
                )
                if error.status in KEY_REFUSED and keys:
                    raise run.refusal from None
            except EngineDownError as error:
                run.down = error.reason
            except (PassingError, LastingError):
                run.refused = 0
            else:
                run.refused, run.patience = 0, run.patience * 2

    async def _once(self, run: _Run, piece: str) -> str:
        text = await self._answer(run, piece)
        if text is None or not text.strip():
            raise PassingError("empty_translation")
        if damaged(text, like=piece):
            raise LastingError("invalid_text")
        if len(text) > _MOST_CHARACTERS + _MOST_TIMES * len(piece):
            raise LastingError("reply_too_long")
        if error_page(piece, text):
            raise PassingError("error_page")
        return text

    async def _answer(self, run: _Run, piece: str) -> str | None:
        """Returns the service's answer to one request, which waits until the rate limit allows it."""
        throttle = self.throttle
        wait = throttle.reserve(len(piece))
        while wait > 0.0:
            await asyncio.sleep(wait)
            wait = throttle.held()  # the service may have asked for a pause meanwhile
        if run.down is not None:
            raise LastingError(run.down)
        if damaged(piece, like=piece):
            raise LastingError("invalid_text")
        try:
            text = await run.client.ask(piece, run.source, run.target)
        except PassingError as error:
            if error.crowded:
                throttle.refused(error.after if (error.after or 0.0) <= PATIENCE else None)
            raise
        throttle.answered()
        return text


class _Run:
    """The state of one call: the client, the languages, and the failures in a row."""

    def __init__(self, client: Client, source: str, target: str) -> None:
        self.client, self.source, self.target = client, source, target
        self.failed = self.refused = 0
        self.patience = _REFUSALS
        self.probing = asyncio.Lock()
        self.down: str | None = None
        self.refusal: BadInputError | None = None
