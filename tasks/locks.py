"""One computation per cold key: a lock that dies with its process.

Prefect's own file lock survives SIGKILL and hangs the rerun; the kernel releases an
`fcntl.flock` when the process goes, however it goes. An object store has no such kernel: there
a lock is a lease, which its holder renews.
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
    """Prefect's `LockManager` protocol over whether a lock is free, and taking and freeing it at once."""

    poll = _POLL_SECONDS

    @abc.abstractmethod
    def _try(self, key: str, holder: str) -> bool:
        """Takes the lock if it is free."""

    @abc.abstractmethod
    def is_locked(self, key: str) -> bool:
        """Whether anyone, in any process, holds the lock."""

    @abc.abstractmethod
    def is_lock_holder(self, key: str, holder: str) -> bool:
        """Whether `holder` holds the lock here."""

    @abc.abstractmethod
    def release_lock(self, key: str, holder: str) -> None:
        """Gives the lock back.

        Raises:
            ValueError: `holder` does not hold it.
        """

    def acquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        """Waits for the lock; `hold_timeout` is not needed, since a dead holder holds nothing."""
        del hold_timeout
        return self.is_lock_holder(key, holder) or self._wait(lambda: self._try(key, holder), acquire_timeout)

    async def aacquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        """`acquire_lock` off the event loop."""
        return await asyncio.to_thread(self.acquire_lock, key, holder, acquire_timeout, hold_timeout)

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Waits until nobody holds the lock; False if `timeout` seconds pass first."""
        return self._wait(lambda: not self.is_locked(key), timeout)

    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """`wait_for_lock` off the event loop."""
        return await asyncio.to_thread(self.wait_for_lock, key, timeout)

    def _wait(self, reached: Callable[[], bool], timeout: float | None) -> bool:
        """Asks until it is reached; False if `timeout` seconds pass first."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while not reached():
            if time.monotonic() >= deadline:
                return False
            time.sleep(self.poll)
        return True


class FlockManager(Locks):
    """Over one locked file per key in `folder`; the kernel unlocks it when its process ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: dict[str, tuple[str, FileLock]] = {}
        self._guard = threading.Lock()

    def __reduce__(self) -> tuple[type["FlockManager"], tuple[Path]]:
        """A worker process gets a manager of its own, holding nothing."""
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
                self._held[key] = (holder, lock)
        return lock is not None

    def release_lock(self, key: str, holder: str) -> None:
        """Gives the lock back; raises ValueError where it is another's."""
        with self._guard:
            if not self._holds(key, holder):
                raise ValueError(f"lock {key} is not held by {holder}")
            _, lock = self._held.pop(key)
        lock.release()

    def is_locked(self, key: str) -> bool:
        """Whether anyone, in any process, holds the lock."""
        lock = self._locked(key)
        if lock is not None:
            lock.release()
        return lock is None

    def is_lock_holder(self, key: str, holder: str) -> bool:
        """Whether `holder` holds the lock here."""
        with self._guard:
            return self._holds(key, holder)

    def _holds(self, key: str, holder: str) -> bool:
        return key in self._held and self._held[key][0] == holder


class _Lease(NamedTuple):
    holder: str
    path: str
    ended: threading.Event
    renewal: threading.Thread


class LeaseManager(Locks):
    """Over objects under `<root>/.locks/<key>/`, one per taking, the highest number counts.

    An object is made by a conditional put, which one of many succeeds with. Its holder writes
    another word into it every few seconds; whoever has seen the same word for `expiry` seconds of
    a clock of its own takes the lock over. So no two clocks are compared.
    """

    poll = 0.5

    def __init__(self, root: str, *, expiry: float = 60.0) -> None:
        self.root, self.expiry = root, expiry
        self._fs, base = fsspec.url_to_fs(root)
        self._base = posixpath.join(base, ".locks")
        self._held: dict[str, _Lease] = {}
        self._seen: dict[str, tuple[bytes, float]] = {}
        self._guard = threading.Lock()

    def __reduce__(self) -> tuple[Callable[..., "LeaseManager"], tuple[str]]:
        """A worker process gets a manager of its own, holding nothing."""
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
        known, since = self._seen.get(path, (b"", 0.0))
        if stamp != known:
            self._seen[path] = (stamp, time.monotonic())
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
            self._held[key] = _Lease(holder, path, ended, renewal)
        renewal.start()
        return True

    def _renew(self, path: str, ended: threading.Event) -> None:
        while not ended.wait(self.expiry / 6):
            # A store that is away for a while is asked again; away for longer, the lease is lost, and at worst a
            # shard is computed twice, to the same bytes.
            try:
                self._fs.pipe_file(path, uuid.uuid4().hex.encode())
            except Exception as error:  # noqa: BLE001 - every store has errors of its own
                _log.warning("the lease %s was not renewed (%s)", path, type(error).__name__)

    def release_lock(self, key: str, holder: str) -> None:
        """Gives the lock back; raises ValueError where it is another's."""
        with self._guard:
            lease = self._held.get(key)
            if lease is None or lease.holder != holder:
                raise ValueError(f"lock {key} is not held by {holder}")
            del self._held[key]
        lease.ended.set()
        lease.renewal.join()  # a renewal on its way would take it again
        self._fs.pipe_file(lease.path, _FREE)

    def is_locked(self, key: str) -> bool:
        """Whether anyone, in any process, holds the lock."""
        return not self._free(self._newest(key))

    def is_lock_holder(self, key: str, holder: str) -> bool:
        """Whether `holder` holds the lock here."""
        with self._guard:
            lease = self._held.get(key)
        return lease is not None and lease.holder == holder
