"""How fast a service may be asked: one limit per engine and process, whatever threads and blocks ask."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_SLOWER, _FASTER = 0.5, 1.02
"""Factors of the rate: at a "too many requests", and at an answer after it."""
_LEAST = 0.2
"""Requests per second below which the rate is not lowered."""


class Throttle:
    """Requests and characters per second, evenly spaced; slower for a while after "too many requests".

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
        """Takes the next place; returns the seconds to wait for it."""
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
        """Seconds for which nobody may ask, because the server said so."""
        with self._lock:
            return max(0.0, self._held - self._clock())

    def answered(self) -> None:
        """An answer came: the rate recovers, step by step."""
        with self._lock:
            self._answers = [*self._answers[-63:], self._clock()]
            if self._rate is not None and self._rate != self._limit:
                self._rate *= _FASTER
                if self._limit is not None:
                    self._rate = min(self._rate, self._limit)

    def refused(self, after: float | None) -> None:
        """Too many requests: half the rate, and nobody asks for `after` seconds, if the server named some.

        Requests that were under way together are refused together: that halves the rate once.
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
        """Answers per second of late, where there is no limit to start from."""
        if len(self._answers) < 2:  # noqa: PLR2004 - one answer has no rate
            return 10.0
        return len(self._answers) / max(now - self._answers[0], 0.1)


_throttles: dict[str, Throttle] = {}
_making = threading.Lock()


def shared_throttle(name: str, requests: float | None, characters: float | None) -> Throttle:
    """The throttle of an engine in this process; other limits than before make a new one."""
    with _making:
        key = f"{name} {requests} {characters}"
        return _throttles.setdefault(key, Throttle(requests, characters))
