"""The counts of harmful and harmless prompts by source, said as soon as they are read: inverted labels show here."""

import contextlib
from collections.abc import Callable, Iterator

Counts = dict[str, dict[str, int]]
_listeners: list[Callable[[Counts], None]] = []


@contextlib.contextmanager
def heard_by(listener: Callable[[Counts], None]) -> Iterator[None]:
    """Calls `listener` with the counts, once for equal ones, while the context lasts."""
    seen: list[Counts] = []

    def once(counts: Counts) -> None:
        if counts not in seen:
            seen.append(counts)
            listener(counts)

    _listeners.append(once)
    try:
        yield
    finally:
        _listeners.remove(once)


def announce(counts: Counts) -> None:
    """Says the counts to whoever listens."""
    for listener in _listeners:
        listener(counts)
