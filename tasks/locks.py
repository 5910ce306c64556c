"""Locks that let one process alone compute a cache key, and that end with their process.

Prefect's own file lock survives SIGKILL and hangs the rerun; the kernel releases an
`fcntl.flock` when the process ends, however it ends. An object store has no such locks: there a
lease takes their place, which its holder renews.
"""

import abc
import asyncio
import contextlib
import functools
import logging
import math
import posixpath
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import fsspec
from filelock import FileLock, Timeout

_POLL_SECONDS = 0.05
_FREE = b"free"
_log = logging.getLogger(__name__)


class Locks(abc.ABC):
    """A lock manager for Prefect (its `LockManager` protocol); subclasses say where the locks are."""

    poll = _POLL_SECONDS

    @abc.abstractmethod
    def _try(self, key: str, holder: str) -> bool:
        """Takes the lock if it is free, without waiting; returns whether it has it."""

    @abc.abstractmethod
    def is_locked(self, key: str) -> bool:
        """Returns whether anyone, in any process, holds the lock."""

    @abc.abstractmethod
    def is_lock_holder(self, key: str, holder: str) -> bool:
        """Returns whether `holder`, in this process, holds the lock."""

    @abc.abstractmethod
    def release_lock(self, key: str, holder: str) -> None:
        """Releases the lock.

        Raises:
            ValueError: `holder` does not hold it.
        """

    def acquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        """Waits for the lock; returns whether it has it. `hold_timeout` is ignored: locks end with their process."""
        del hold_timeout
        return self.is_lock_holder(key, holder) or self._wait(lambda: self._try(key, holder), acquire_timeout)

    async def aacquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        """Calls `acquire_lock` off the event loop."""
        return await asyncio.to_thread(self.acquire_lock, key, holder, acquire_timeout, hold_timeout)

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Waits until nobody holds the lock; returns False if `timeout` seconds pass first."""
        return self._wait(lambda: not self.is_locked(key), timeout)

    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Calls `wait_for_lock` off the event loop."""
        return await asyncio.to_thread(self.wait_for_lock, key, timeout)

    def _wait(self, reached: Callable[[], bool], timeout: float | None) -> bool:
        """Calls `reached` again and again until it is true; returns False if `timeout` seconds pass first."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while not reached():
            if time.monotonic() >= deadline:
                return False
            time.sleep(self.poll)
        return True


class FlockManager(Locks):
    """A lock manager with one locked file per key in a local folder; the kernel unlocks it when the process ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._locks: dict[str, tuple[str, FileLock]] = {}
        self._guard = threading.Lock()

    def __reduce__(self) -> tuple[type["FlockManager"], tuple[Path]]:
        """Pickles the manager without its locks: a worker process gets one of its own."""
        return (FlockManager, (self.folder,))

    def _locked(self, key: str) -> FileLock | None:
        """Locks the file of a key, or returns None where another holder has it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # Without kernel locks filelock would fall back to files that outlive a killed process.
        lock = FileLock(self.folder / f"{Path(key).name}.lock", mode=0o600, thread_local=False, fallback_to_soft=False)
        with contextlib.suppress(Timeout):
            lock.acquire(blocking=False)
        return lock if lock.is_locked else None

    def _try(self, key: str, holder: str) -> bool:
        lock = self._locked(key)
        if lock is not None:
            with self._guard:
                self._locks[key] = (holder, lock)
        return lock is not None

    def release_lock(self, key: str, holder: str) -> None:
        """Releases the lock; raises ValueError if `holder` does not hold it."""
        with self._guard:
            if not self._holds(key, holder):
                raise ValueError(f"lock {key} is not held by {holder}")
            _, lock = self._locks.pop(key)
        lock.release()

    def is_locked(self, key: str) -> bool:
        """Returns whether anyone, in any process, holds the lock."""
        lock = self._locked(key)
        if lock is not None:
            lock.release()
        return lock is None

    def is_lock_holder(self, key: str, holder: str) -> bool:
        """Returns whether `holder`, in this process, holds the lock."""
        with self._guard:
            return self._holds(key, holder)

    def _holds(self, key: str, holder: str) -> bool:
        return key in self._locks and self._locks[key][0] == holder


class _Lease(NamedTuple):
    """A lock that this process holds: its object in the store, and the thread that renews it."""

    holder: str
    path: str
    ended: threading.Event
    renewal: threading.Thread


class LeaseManager(Locks):
    """Locks by leases: objects `<root>/.locks/<key>/<number>` of an object store, of which the highest number counts.

    A conditional put makes the object, which succeeds for one of many writers. The holder writes a new
    random stamp into it every few seconds; a process that has read the same stamp for `expiry` seconds
    of its own clock takes the lock over. So no two clocks are compared.
    """

    poll = 0.5

    def __init__(self, root: str, *, expiry: float = 60.0) -> None:
        self.root, self.expiry = root, expiry
        self._fs, base = fsspec.url_to_fs(root)
        self._base = posixpath.join(base, ".locks")
        self._leases: dict[str, _Lease] = {}
        self._stamps: dict[str, tuple[bytes, float]] = {}
        self._guard = threading.Lock()

    def __reduce__(self) -> tuple[Callable[..., "LeaseManager"], tuple[str]]:
        """Pickles the manager without its locks: a worker process gets one of its own."""
        return (functools.partial(LeaseManager, expiry=self.expiry), (self.root,))

    def _newest(self, key: str) -> str | None:
        folder = posixpath.join(self._base, posixpath.basename(key))
        self._fs.invalidate_cache(folder)
        try:
            return max(self._fs.ls(folder, detail=False), default=None)
        except FileNotFoundError:
            return None

    def _expired(self, path: str) -> bool:
        stamp = self._fs.cat_file(path)
        last_stamp, since = self._stamps.get(path, (b"", 0.0))
        if stamp != last_stamp:
            self._stamps[path] = (stamp, time.monotonic())
            return False
        return time.monotonic() - since > self.expiry

    def _free(self, path: str | None) -> bool:
        return path is None or self._fs.cat_file(path) == _FREE or self._expired(path)

    def _try(self, key: str, holder: str) -> bool:
        newest = self._newest(key)
        if not self._free(newest):
            return False
        number = 1 if newest is None else int(posixpath.basename(newest)) + 1
        path = posixpath.join(self._base, posixpath.basename(key), f"{number:08d}")
        stamp = uuid.uuid4().hex
        try:
            self._fs.pipe_file(path, stamp.encode(), mode="create")
        except FileExistsError:
            return False
        ended = threading.Event()
        renewal = threading.Thread(target=self._renew, args=(path, ended), daemon=True)
        with self._guard:
            self._leases[key] = _Lease(holder, path, ended, renewal)
        renewal.start()
        return True

    def _renew(self, path: str, ended: threading.Event) -> None:
        while not ended.wait(self.expiry / 6):
            # A store that does not answer is tried again. If it stays away, the lease is lost: at worst a shard is
            # computed twice, with the same bytes.
            try:
                self._fs.pipe_file(path, uuid.uuid4().hex.encode())
            except Exception as error:  # noqa: BLE001 - every store has errors of its own
                _log.warning("the lease %s was not renewed (%s)", path, type(error).__name__)

    def release_lock(self, key: str, holder: str) -> None:
        """Releases the lock; raises ValueError if `holder` does not hold it."""
        with self._guard:
            lease = self._leases.get(key)
            if lease is None or lease.holder != holder:
                raise ValueError(f"lock {key} is not held by {holder}")
            del self._leases[key]
        lease.ended.set()
        lease.renewal.join()  # a late renewal would take the lock again
        self._fs.pipe_file(lease.path, _FREE)

    def is_locked(self, key: str) -> bool:
        """Returns whether anyone, in any process, holds the lock."""
        return not self._free(self._newest(key))

    def is_lock_holder(self, key: str, holder: str) -> bool:
        """Returns whether `holder`, in this process, holds the lock."""
        with self._guard:
            lease = self._leases.get(key)
        return lease is not None and lease.holder == holder
