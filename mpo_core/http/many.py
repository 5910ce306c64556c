"""Sends many requests to one service, several at a time; repeats failed ones, and gives up if the service is down."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from mpo_core.contract.progress import Progress, ignore_progress
from mpo_core.http.errors import LastingError, PassingError, RefusedError
from mpo_core.http.retries import PATIENCE, retrying
from mpo_core.http.throttle import Throttle

T = TypeVar("T")
R = TypeVar("R")

_IN_A_ROW = 12
"""The service counts as down after so many items in a row have failed all their attempts."""
_REFUSALS = 3
"""After so many refusals in a row the probe shows whether the service refuses everything; twice as many after each
probe that it answers."""
_FINAL = {401, 402, 403, 404, 429}
"""Statuses that are rarely about an item: the probe is asked at once. 429 is a refusal where it means a spent quota."""


class ServiceDownError(RuntimeError):
    """A service does not answer any more; the message is the reason, such as `timed_out`."""


async def ask_all(
    items: Sequence[T],
    ask: Callable[[T], Awaitable[R]],
    *,
    probe: T,
    concurrency: int,
    retries: int,
    throttle: Throttle,
    size: Callable[[T], int] = lambda _item: 1,
    progress: Progress = ignore_progress,
    ended: Callable[[T, R | LastingError | PassingError], None] = lambda _item, _outcome: None,
) -> list[R | LastingError | PassingError]:
    """Returns what `ask` returns for every item, in order, or the error with which the item failed.

    Args:
        items: they are begun in this order.
        ask: makes one request.
        probe: a harmless item without any text of the user's. It is sent if item after item is refused, to find out
            whether the service refuses everything. A message to the user quotes only the reply to the probe.
        concurrency: maximum number of requests in flight at the same time.
        retries: how often an item is tried again after a `PassingError`.
        throttle: limits the pace, and slows down where the service says "too many requests".
        size: characters of an item, for the throttle's limit.
        progress: called after each item and every second with the items done and all items; what it raises is raised.
        ended: called with each item as soon as it has its outcome; what it raises is raised.

    Raises:
        RefusedError: the service refuses everything.
        ServiceDownError: item after item failed.
    """
    work = _Work(ask, probe, retries, throttle, size)
    outcomes: dict[int, R | LastingError | PassingError] = {}
    waiting = iter(enumerate(items))

    async def worker() -> None:
        for number, item in waiting:
            outcomes[number] = await work.outcome(item)
            ended(item, outcomes[number])
            progress(len(outcomes), len(items))

    async def heart() -> None:
        while True:
            progress(len(outcomes), len(items))
            await asyncio.sleep(1.0)

    workers = [asyncio.create_task(worker()) for _ in range(min(concurrency, len(items)))]
    both: set[asyncio.Future[Any]] = {asyncio.create_task(heart()), asyncio.gather(*workers)}
    try:
        finished, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for future in finished:
            await future
    finally:
        everything = [*both, *workers]
        for future in everything:
            future.cancel()
        await asyncio.gather(*everything, return_exceptions=True)
    await work.require_any_answer()
    return [outcomes[number] for number in range(len(items))]


class _Work(Generic[T, R]):
    """One call of `ask_all`: how to ask, and the failures and refusals in a row."""

    def __init__(
        self,
        ask: Callable[[T], Awaitable[R]],
        probe: T,
        retries: int,
        throttle: Throttle,
        size: Callable[[T], int],
    ) -> None:
        self._ask, self._probe, self._retries, self._throttle, self._size = ask, probe, retries, throttle, size
        self._failed = self._refused = 0
        self._patience, self._answers = _REFUSALS, False
        self._probing = asyncio.Lock()

    async def outcome(self, item: T) -> R | LastingError | PassingError:
        """Returns the result of one item after all its attempts, or the error that it failed with.

        Raises:
            RefusedError: the service refuses the probe, too.
            ServiceDownError: item after item failed.
        """
        try:
            result: R = await retrying(self._retries)(self._once, item)
        except PassingError as error:
            self._failed += 1
            if self._failed >= _IN_A_ROW or (error.after or 0.0) > PATIENCE:
                raise ServiceDownError(error.reason) from None
            return error
        except RefusedError as error:
            self._refused += 1
            await self._require_answer(1 if error.status in _FINAL else self._patience)
            return error
        except LastingError as error:
            return error
        self._failed = self._refused = 0
        self._answers = True
        return result

    async def require_any_answer(self) -> None:
        """Asks the probe if the service has answered nothing and refused the last items.

        Raises:
            RefusedError: it refuses the probe, too.
        """
        if not self._answers:
            await self._require_answer(1)

    async def _require_answer(self, least: int) -> None:
        """Raises a RefusedError if, after so many refusals in a row, the probe is refused too."""
        async with self._probing:
            if self._refused < least:
                return
            try:
                await self._once(self._probe)
            except RefusedError:
                raise
            except (PassingError, LastingError):
                pass  # it shows neither
            else:
                self._patience *= 2
                self._answers = True
            self._refused = 0

    async def _once(self, item: T) -> R:
        wait = self._throttle.reserve(self._size(item))
        while wait > 0.0:
            await asyncio.sleep(wait)
            wait = self._throttle.held()  # meanwhile another request may have been refused
        try:
            result = await self._ask(item)
        except PassingError as error:
            if error.crowded:
                self._throttle.refused(error.after if (error.after or 0.0) <= PATIENCE else None)
            raise
        self._throttle.answered()
        return result
