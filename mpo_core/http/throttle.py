"""Limits how fast a service is asked: one limit per service and process, shared by all threads."""

import threading
import time
from collections.abc import Callable

_SLOWER, _FASTER = 0.5, 1.02
"""Factors of the rate: at a "too many requests", and at an answer after it."""
_LEAST = 0.2
"""Requests per second below which the rate is not lowered."""


class Throttle:
    """A limit of requests and characters per second to one service, lowered for a while after "too many requests".

    Args:
        requests: requests per second, or None for no limit.
        characters: characters per second, or None.
        clock: seconds that never go back.
    """

    def __init__(
        self, requests: float | None, characters: float | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit, self._rate, self._characters = requests, requests, characters
        self._clock, self._lock = clock, threading.Lock()
        self._next = self._held = self._last_slowing = 0.0
        self._answers: list[float] = []

    @property
    def rate(self) -> float | None:
        """Requests per second at the moment; None is no limit."""
        return self._rate

    def reserve(self, characters: int) -> float:
        """Reserves the next request, of so many characters, and returns the seconds to wait before it."""
        with self._lock:
            now = self._clock()
            at = max(now, self._next)
            needed = [0.0]
            if self._rate is not None:
                needed.append(1.0 / self._rate)
            if self._characters is not None:
                needed.append(characters / self._characters)
            self._next = at + max(needed)
            return at - now

    def held(self) -> float:
        """Returns the seconds for which no request may be made, because the server said so."""
        with self._lock:
            return max(0.0, self._held - self._clock())

    def answered(self) -> None:
        """Notes an answer: after a slowing, each one raises the rate a little, up to the limit."""
        with self._lock:
            self._answers = [*self._answers[-63:], self._clock()]
            if self._rate is not None and self._rate != self._limit:
                self._rate *= _FASTER
                if self._limit is not None:
                    self._rate = min(self._rate, self._limit)

    def refused(self, after: float | None) -> None:
        """Halves the rate after "too many requests", and pauses for `after` seconds, if the server named them.

        Requests that were in flight at the same time are refused together: that halves the rate only once.
        """
        with self._lock:
            now = self._clock()
            if after is not None:
                self._held = max(self._held, now + after)
                self._next = max(self._next, self._held)
            if now - self._last_slowing >= 1.0 or not self._last_slowing:
                self._last_slowing = now
                self._rate = max(_LEAST, (self._rate or self._observed(now)) * _SLOWER)

    def _observed(self, now: float) -> float:
        """Returns the answers per second of late, from which to slow down where there is no limit."""
        if len(self._answers) < 2:  # noqa: PLR2004 - one answer has no rate
            return 10.0
        return len(self._answers) / max(now - self._answers[0], 0.1)


_throttles: dict[str, Throttle] = {}
_making = threading.Lock()


def shared_throttle(name: str, requests: float | None, characters: float | None) -> Throttle:
    """Returns this process's throttle of a service, a new one for each combination of limits."""
    with _making:
        key = f"{name} {requests} {characters}"
        return _throttles.setdefault(key, Throttle(requests, characters))
