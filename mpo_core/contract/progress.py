"""How long work in the core reports its progress."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called now and then with the number of items that are done and of all items. It raises if the run is interrupted."""


def ignore_progress(_done: int, _total: int) -> None:
    """Does nothing: the progress of work whose caller does not wait for it."""
