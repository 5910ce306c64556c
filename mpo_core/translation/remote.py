"""Translates with an online service: several requests at a time, at its pace, until it is down or refuses all."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.translation import EngineDownError, Keep, RemoteSource, Reply
from mpo_core.http.errors import LastingError, PassingError, RefusedError
from mpo_core.http.many import ServiceDownError, ask_all
from mpo_core.http.refused import KEY_REFUSED, refused_service
from mpo_core.http.throttle import Throttle, shared_throttle
from mpo_core.languages.defects import damaged, error_page
from mpo_core.languages.known import engine_code

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
        """Translates pieces, and calls `keep` with each translation as soon as it arrives."""
        return asyncio.run(self._all(pieces, source, target, keep))

    async def _all(self, pieces: Sequence[str], source: str, target: str, keep: Keep) -> dict[str, Reply]:
        client, settings = self._open(), self._settings
        replies: dict[str, Reply] = {}
        refusal: BadInputError | None = None

        def ended(piece: str, outcome: str | LastingError | PassingError) -> None:
            replies[piece] = Reply(outcome) if isinstance(outcome, str) else Reply(None, outcome.reason)
            if isinstance(outcome, str):
                keep(piece, outcome)

        async def ask(piece: str) -> str:
            return await _translation(client, piece, source, target)

        try:
            await ask_all(
                pieces,
                ask,
                probe=_PROBE,
                concurrency=settings.concurrency,
                retries=settings.retries,
                throttle=self.throttle,
                size=len,
                ended=ended,
            )
        except RefusedError as error:
            keys = client.key_variables
            refusal = refused_service(client.name, error, key_variables=keys, where="translation.engines", fix=_FIX)
            if error.status in KEY_REFUSED and keys:
                raise refusal from None
            down = error.reason
        except ServiceDownError as error:
            down = str(error)
        except EngineDownError as error:
            down = error.reason
        else:
            return replies
        finally:
            await client.close()
        missing = {piece: Reply(None, down) for piece in pieces if piece not in replies}
        raise EngineDownError(self.name, down, replies | missing, refusal)


async def _translation(client: Client, piece: str, source: str, target: str) -> str:
    """Returns the service's translation of one piece; raises as `Client.ask`, also if it gave no translation."""
    if damaged(piece, like=piece):
        raise LastingError("invalid_text")
    text = await client.ask(piece, source, target)
    if text is None or not text.strip():
        raise PassingError("empty_translation")
    if damaged(text, like=piece):
        raise LastingError("invalid_text")
    if len(text) > _MOST_CHARACTERS + _MOST_TIMES * len(piece):
        raise LastingError("reply_too_long")
    if error_page(piece, text):
        raise PassingError("error_page")
    return text
