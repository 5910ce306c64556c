"""Locks in an object store, over HTTP against a real S3-compatible server."""

import pickle
import threading
import time
import uuid

import pytest

from mpo_core.contract.artifacts import ArtifactStore
from mpo_core.registry import versions
from tasks.locks import LeaseManager
from tests.registry.test_registry import REGISTER_MANY
from tests.store import bucket  # noqa: F401 - a fixture

EXPIRY = 4.0  # seconds; a busy machine renews late


@pytest.fixture(autouse=True)
def no_lease_outlives_its_test(monkeypatch):
    """Ends the renewals, as the end of a process would: later the server is gone, and each would log an error."""
    made, begin = [], LeaseManager.__init__

    def collected(manager, *arguments, **options):
        begin(manager, *arguments, **options)
        made.append(manager)

    monkeypatch.setattr(LeaseManager, "__init__", collected)
    yield
    for lease in (lease for manager in made for lease in manager._leases.values()):
        lease.ended.set()


@pytest.fixture
def managers(bucket):  # noqa: F811
    """Two processes' managers of one root."""
    root = f"{bucket}/{uuid.uuid4().hex}"
    return LeaseManager(root, expiry=EXPIRY), LeaseManager(root, expiry=EXPIRY)


def test_a_manager_holds_the_lock_until_it_gives_it_back(managers):
    ours, theirs = managers
    assert theirs.acquire_lock("train-abc", "them")
    assert theirs.is_lock_holder("train-abc", "them")
    assert ours.is_locked("train-abc")
    # Renewed all the while, it does not expire.
    assert not ours.acquire_lock("train-abc", "us", acquire_timeout=EXPIRY + 2)
    assert ours.acquire_lock("another", "us", acquire_timeout=0)
    with pytest.raises(ValueError, match="not held by us"):
        ours.release_lock("train-abc", "us")
    theirs.release_lock("train-abc", "them")
    assert not ours.is_locked("train-abc")
    assert ours.acquire_lock("train-abc", "us", acquire_timeout=0)


def test_a_dead_holders_lock_is_taken_over_once(managers):
    ours, theirs = managers
    theirs.acquire_lock("key", "them")
    theirs._leases["key"].ended.set()  # as if its process were gone
    began = time.monotonic()
    taken = []

    def take(name):
        manager = LeaseManager(ours.root, expiry=EXPIRY)
        if manager.acquire_lock("key", name, acquire_timeout=2 * EXPIRY):
            taken.append(name)

    threads = [threading.Thread(target=take, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1
    assert time.monotonic() - began >= EXPIRY


def test_a_process_gets_a_manager_of_its_own(managers):
    ours, _ = managers
    ours.acquire_lock("key", "us")
    copy = pickle.loads(pickle.dumps(ours))  # noqa: S301 - our own bytes
    assert (copy.root, copy.expiry) == (ours.root, EXPIRY)
    assert not copy.is_lock_holder("key", "us")


def test_the_registry_holds_there_too(bucket):  # noqa: F811
    store = ArtifactStore(f"{bucket}/registry")
    spaces: dict = {}
    code = REGISTER_MANY.replace("sys.stdin.readline()", "").replace("sys.argv[1]", repr(store.root))

    def run(names):
        exec(code.replace("sys.argv[2:]", repr(names)), {**spaces})  # noqa: S102 - the registry's own test

    threads = [threading.Thread(target=run, args=([f"{who}{n}" for n in range(4)],)) for who in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [version.version for version in versions(store)] == [f"v{n}" for n in range(1, 9)]
