"""Passes on how many harmful and harmless prompts each source gave, as soon as they are read: inverted labels show."""

import contextlib
from collections.abc import Callable, Iterator

Counts = dict[str, dict[str, int]]
_listeners: list[Callable[[Counts], None]] = []


@contextlib.contextmanager
def heard_by(listener: Callable[[Counts], None]) -> Iterator[None]:
    """Calls `listener` with the counts while the context lasts; equal counts only once."""
    earlier: list[Counts] = []

    def once(counts: Counts) -> None:
        if counts not in earlier:
            earlier.append(counts)
            listener(counts)

    _listeners.append(once)
    try:
        yield
    finally:
        _listeners.remove(once)


def announce(counts: Counts) -> None:
    """Calls every listener with the numbers of harmful and harmless prompts by source."""
    for listener in _listeners:
        listener(counts)
