"""One computation per cold key: between threads, between processes, and after a SIGKILL."""

import asyncio
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tasks.locks import FlockManager

HOLDER = """
import sys, time
from pathlib import Path
from tasks.locks import FlockManager

locks = FlockManager(Path(sys.argv[1]))
assert locks.acquire_lock("key", "them")
print("held", flush=True)
sys.stdin.readline()
locks.release_lock("key", "them")
print("released", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock `key` until it is told a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_another_process_keeps_the_lock_until_it_gives_it_back(other, tmp_path):
    locks = FlockManager(tmp_path)
    assert locks.is_locked("key")
    assert not locks.is_lock_holder("key", "us")
    started = time.monotonic()
    assert not locks.acquire_lock("key", "us", acquire_timeout=0.2)
    assert not locks.wait_for_lock("key", timeout=0.2)
    assert 0.4 <= time.monotonic() - started < 60
    assert locks.acquire_lock("another key", "us", acquire_timeout=0)
    other.stdin.write("\n")
    other.stdin.flush()
    assert other.stdout.readline() == "released\n"
    assert locks.acquire_lock("key", "us", acquire_timeout=30)


def test_a_killed_holder_holds_nothing(other, tmp_path):
    locks = FlockManager(tmp_path)
    taken = []
    waiting = threading.Thread(target=lambda: taken.append(locks.acquire_lock("key", "us", acquire_timeout=60)))
    waiting.start()
    other.send_signal(signal.SIGKILL)
    waiting.join(timeout=60)
    assert taken == [True]
    assert locks.is_lock_holder("key", "us")


def test_threads_take_turns(tmp_path):
    locks, inside, most, order = FlockManager(tmp_path), [], [], []

    def work(name):
        for _ in range(3):
            assert locks.acquire_lock("key", name)
            inside.append(name)
            most.append(len(inside))
            order.append(name)
            time.sleep(0.002)
            inside.remove(name)
            locks.release_lock("key", name)

    threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert len(order) == 12
    assert max(most) == 1
    assert not locks.is_locked("key")


def test_who_holds_may_ask_again_and_only_he_gives_back(tmp_path):
    locks = FlockManager(tmp_path)
    assert locks.acquire_lock("key", "us")
    assert locks.acquire_lock("key", "us", acquire_timeout=0)
    assert not locks.acquire_lock("key", "them", acquire_timeout=0)
    assert not FlockManager(tmp_path).acquire_lock("key", "them", acquire_timeout=0)
    with pytest.raises(ValueError, match="lock key is not held by them"):
        locks.release_lock("key", "them")
    locks.release_lock("key", "us")
    with pytest.raises(ValueError, match="is not held by us"):
        locks.release_lock("key", "us")
    assert not locks.is_locked("key")
    assert locks.wait_for_lock("key", timeout=0)


def test_a_worker_gets_a_manager_of_its_own(tmp_path):
    locks = FlockManager(tmp_path)
    assert locks.acquire_lock("key", "us")
    copy = pickle.loads(pickle.dumps(locks))  # noqa: S301 - made on this line
    assert copy.folder == locks.folder
    assert not copy.is_lock_holder("key", "us")
    assert copy.is_locked("key")


def test_the_asynchronous_calls_are_the_same(tmp_path):
    locks = FlockManager(tmp_path)

    async def both():
        return await locks.aacquire_lock("key", "us", 1), await locks.await_for_lock("key", 0.1)

    assert asyncio.run(both()) == (True, False)


def test_a_key_cannot_leave_the_folder(tmp_path):
    folder = tmp_path / "locks"
    assert FlockManager(folder).acquire_lock("../../outside", "us")
    assert [path.name for path in folder.iterdir()] == ["outside.lock"]
    assert [path.name for path in tmp_path.iterdir()] == ["locks"]
