"""One computation per cold key: a lock that dies with its process.

Prefect's own file lock survives SIGKILL and hangs the rerun; the kernel releases an
`fcntl.flock` when the process goes, however it goes.
"""

import asyncio
import fcntl
import os
import threading
import time
from pathlib import Path

_POLL_SECONDS = 0.05


class FlockManager:
    """Prefect's `LockManager` protocol over `flock` on one file per key in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: dict[str, tuple[str, int]] = {}
        self._guard = threading.Lock()

    def __reduce__(self) -> tuple[type["FlockManager"], tuple[Path]]:
        """A worker process gets a manager of its own, holding nothing."""
        return (FlockManager, (self.folder,))

    def _open(self, key: str) -> int:
        self.folder.mkdir(parents=True, exist_ok=True)
        return os.open(self.folder / f"{Path(key).name}.lock", os.O_RDWR | os.O_CREAT, 0o600)

    def _try(self, key: str, holder: str) -> bool:
        descriptor = self._open(key)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        with self._guard:
            self._held[key] = (holder, descriptor)
        return True

    def acquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        """Waits for the lock; `hold_timeout` is not needed, since a dead holder holds nothing."""
        del hold_timeout
        if self.is_lock_holder(key, holder):
            return True
        deadline = None if acquire_timeout is None else time.monotonic() + acquire_timeout
        while not self._try(key, holder):
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    async def aacquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        """`acquire_lock` off the event loop."""
        return await asyncio.to_thread(self.acquire_lock, key, holder, acquire_timeout, hold_timeout)

    def release_lock(self, key: str, holder: str) -> None:
        """Gives the lock back.

        Raises:
            ValueError: `holder` does not hold it.
        """
        with self._guard:
            owner, descriptor = self._held.get(key, ("", -1))
            if owner != holder:
                raise ValueError(f"lock {key} is not held by {holder}")
            del self._held[key]
        os.close(descriptor)

    def is_locked(self, key: str) -> bool:
        """Whether anyone, in any process, holds the lock."""
        descriptor = self._open(key)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def is_lock_holder(self, key: str, holder: str) -> bool:
        """Whether `holder` holds the lock here."""
        with self._guard:
            return self._held.get(key, ("", -1))[0] == holder

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Waits until nobody holds the lock; False if `timeout` seconds pass first."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.is_locked(key):
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """`wait_for_lock` off the event loop."""
        return await asyncio.to_thread(self.wait_for_lock, key, timeout)
