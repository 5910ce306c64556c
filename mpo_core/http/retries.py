"""Decides when a failed request is made again: later each time, and not before the server allows it."""

import math
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from mpo_core.http.errors import PassingError

_LONGEST_WAIT = 60.0
"""Seconds between two attempts, unless the server wants more."""
PATIENCE = 600.0
"""Seconds that a server may ask its clients to wait; one that asks for more counts as down."""


def retrying(retries: int) -> AsyncRetrying:
    """Returns what calls a function again after a `PassingError`, at most `retries` times, and raises the last one."""
    return AsyncRetrying(retry=retry_if_exception_type(PassingError), stop=_enough(retries), wait=_wait, reraise=True)


def retry_after(header: str | None) -> float | None:
    """Returns the seconds to wait by a `Retry-After` header, which holds seconds or a date."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return None if math.isnan(seconds) else max(0.0, seconds)


_exponential = wait_random_exponential(multiplier=0.5, max=_LONGEST_WAIT)


def _wait(state: RetryCallState) -> float:
    """Returns the seconds before the next attempt: more each time, at random, so that clients do not retry together."""
    error = state.outcome.exception() if state.outcome else None
    by_server = error.after if isinstance(error, PassingError) and error.after is not None else 0.0
    return max(by_server, _exponential(state))


def _enough(retries: int) -> Callable[[RetryCallState], bool]:
    at_most = stop_after_attempt(retries + 1)

    def stop(state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        long = isinstance(error, PassingError) and (error.after or 0.0) > PATIENCE
        return long or at_most(state)

    return stop
