"""The one decorator of every stage: cache key, verified cache, retries, lock.

A stage is a function of content: its key is (stage, version, settings that can change an
answer, digests of the inputs). What it returns is a `Shard` of references; a hit counts
only if every artifact behind them is there with the bytes that were written.
"""

import contextvars
import functools
import hashlib
import importlib
import inspect
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, ParamSpec

import pyarrow as pa
from prefect import Task, task
from prefect.cache_policies import CachePolicy
from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext
from prefect.filesystems import LocalFileSystem, RemoteFileSystem
from prefect.futures import PrefectFuture
from prefect.serializers import Serializer

from mpo_core.contract.artifacts import ArtifactRef, ArtifactStore, Shard, write_atomically
from mpo_core.contract.errors import BadInputError, DamagedError
from mpo_core.contract.tables import TableSpec
from mpo_core.languages import known as languages
from mpo_core.settings import RunSettings, Settings
from tasks.locks import FlockManager, LeaseManager, Locks
from tasks.model import ModelFolder

P = ParamSpec("P")
ShardInput = Shard | PrefectFuture[Shard]
"""A shard as the input of a task: itself, or the future of the task that makes it, which Prefect waits for."""

# Never part of an answer: where to write, what to call it, and how much memory to take.
_NOT_CONTENT = frozenset({"store", "label", "tokens_per_forward"})


class Event(NamedTuple):
    """Something a stage tells while it works; `seconds` when finished, `done`/`total` on the way."""

    verb: str
    label: str
    kind: Literal["started", "progress", "finished"]
    done: int = 0
    total: int = 0
    seconds: float = 0.0


listeners: list[Callable[[Event], None]] = []
"""Called for every event in this process: the command's progress display, and tests that count."""

stopping = threading.Event()
"""Set when the run is interrupted: tasks in other threads end at their next word."""

running: set[str] = set()
"""Runs of tasks that compute in this process at the moment."""

_current: contextvars.ContextVar[tuple[str, str, str]] = contextvars.ContextVar("stage")


class InterruptedRunError(RuntimeError):
    """The run was interrupted; what was finished is kept."""


def tell_progress(done: int, total: int) -> None:
    """Tells the listeners how far the running stage is.

    Raises:
        InterruptedRunError: the run was interrupted, and this stage is to end.
    """
    if stopping.is_set():
        raise InterruptedRunError("interrupted")
    verb, label, _ = _current.get()
    _tell(Event(verb, label, "progress", done=done, total=total))


def current_key() -> str:
    """The content key of the running stage: names its scratch folder."""
    return _current.get()[2]


def _tell(event: Event) -> None:
    for listener in tuple(listeners):
        listener(event)


def shard_of(value: ShardInput) -> Shard:
    """Returns the shard that a running task got as its input.

    Raises:
        TypeError: it is still a future, which no running task sees.
    """
    if not isinstance(value, Shard):
        raise TypeError(f"a task works on shards, not on {type(value).__name__}")
    return value


def read_rows(store: ArtifactStore, shards: Sequence[ShardInput], spec: TableSpec) -> pa.Table:
    """Reads the rows of shards, as one table."""
    return store.read_tables([shard_of(value).rows for value in shards], spec)


class ShardSerializer(Serializer):
    """Result records that are only readable while their artifacts are intact.

    Prefect takes any exception while a record is read for a cache miss, so a deleted or
    damaged file makes just its own shard run again.
    """

    type: Literal["mpo-shard"] = "mpo-shard"

    def dumps(self, obj: Any) -> bytes:
        """JSON of a shard (or of an exception's line, which is never read back)."""
        text = obj.model_dump_json() if isinstance(obj, Shard) else json.dumps(repr(type(obj)))
        return text.encode()

    def loads(self, blob: bytes) -> Shard:
        """The shard; where a task looks for its record, verified under the root that the task works on.

        Raises:
            DamagedError: an artifact is missing or damaged.
        """
        fields = json.loads(blob)
        fields.pop("root", None)  # of older records: the root may have been copied since
        shard = Shard.model_validate_json(json.dumps(fields))
        context = TaskRunContext.get()
        if context is not None:
            store = context.parameters["store"]
            for ref in shard.refs:
                if not store.intact(ref):
                    raise DamagedError(f"{ref.path}: missing or damaged")
        return shard


class RecordFolder(LocalFileSystem):
    """Task records in a folder. On disk they name no root; Prefect gets the paths of the folder they lie in.

    A record names its own path (`storage_key`), by which Prefect may read it again. In a copied
    root that would be the original's record.
    """

    _block_type_slug = "mpo-record-folder"

    def read_path(self, path: str, **_: Any) -> bytes:  # type: ignore[override]
        """The bytes of a record, with the path where it lies now."""
        place = self._resolve_path(path)
        return _with_key(place.read_bytes(), str(place))

    def write_path(self, path: str, content: bytes, **_: Any) -> str:  # type: ignore[override]
        """Writes a record whole or not at all."""
        place = self._resolve_path(path)
        write_atomically(place, _with_key(content, place.name))
        return str(place)

    async def aread_path(self, path: str) -> bytes:
        """`read_path`, for Prefect's asynchronous callers."""
        return self.read_path(path)

    async def awrite_path(self, path: str, content: bytes) -> str:
        """`write_path`, for Prefect's asynchronous callers."""
        return self.write_path(path, content)


def _with_key(record: bytes, key: str) -> bytes:
    fields = json.loads(record)
    fields["metadata"]["storage_key"] = key
    return json.dumps(fields).encode()


open_store = functools.lru_cache(maxsize=8)(ArtifactStore)


def _content(value: Any) -> Any:
    if isinstance(value, Settings):
        return value.key()
    if isinstance(value, ArtifactRef):
        return value.sha256
    if isinstance(value, Shard):
        return [value.rows.sha256, None if value.model is None else value.model.sha256]
    if isinstance(value, ModelFolder):
        return [value.sha256, value.settings.key()]
    if isinstance(value, list | tuple):
        return [_content(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    # Prefect would log an unhashable input and silently run uncached.
    raise TypeError(f"a stage's input must be content, not {type(value).__name__}")


def _facts(inputs: dict[str, Any]) -> list[Any]:
    """What is defined, beyond the table, of the languages that the inputs are in: it can change an answer too."""
    rows = [value.rows if isinstance(value, Shard) else value for value in inputs.values()]
    codes = {value.language if isinstance(value, ArtifactRef) else value for value in rows if _names_language(value)}
    return [entry._asdict() for entry in sorted(languages.defined()) if entry.code in codes]


def _names_language(value: Any) -> bool:
    return isinstance(value, ArtifactRef | str)


@dataclass
class ContentKey(CachePolicy):
    """The cache key: a digest of the task, its version and every input's content."""

    stage: str = ""
    verb: str = ""
    version: int = 1

    def compute_key(
        self, task_ctx: TaskRunContext | None, inputs: dict[str, Any], flow_parameters: dict[str, Any], **_: Any
    ) -> str:
        """Neither the run nor the flow's parameters matter, only what goes in."""
        del task_ctx, flow_parameters
        content = {name: _content(value) for name, value in inputs.items() if name not in _NOT_CONTENT}
        text = json.dumps([self.verb, self.version, content, *_facts(inputs)], sort_keys=True, ensure_ascii=False)
        return f"{self.verb}-{hashlib.sha256(text.encode()).hexdigest()}"


def worth_a_retry(_task: Task[..., Any], _run: Any, state: State[Any]) -> bool:
    """Everything but bad input, which stays bad, and an interrupt, which is meant."""
    return not isinstance(state.data, BadInputError | InterruptedRunError)


def stage(name: str, *, verb: str, version: int = 1) -> Callable[[Callable[P, Shard]], Task[P, Shard]]:
    """Makes a function of content a cached, retryable, locked Prefect task.

    Args:
        name: the stage's name, as in `mpo_core` and the settings.
        verb: what the task does: its runs are called `<verb>-<label>`.
        version: raised when the stage's answer changes for equal inputs.
    """

    def decorate(function: Callable[P, Shard]) -> Task[P, Shard]:
        policy = ContentKey(stage=name, verb=verb, version=version)
        made: Task[P, Shard] = task(
            name=verb,
            task_run_name=f"{verb}-{{label}}",
            cache_policy=policy,
            persist_result=True,
            cache_result_in_memory=False,
            retry_condition_fn=worth_a_retry,
        )(_Work(function, policy))
        return made

    return decorate


class _Work(Generic[P]):
    """What a stage's task calls: the function, with word to the listeners and a note of who computed."""

    def __init__(self, function: Callable[P, Shard], policy: ContentKey) -> None:
        functools.update_wrapper(self, function)
        self._function, self._policy, self._signature = function, policy, inspect.signature(function)
        self._where = (function.__module__, function.__qualname__)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str, tuple[languages.Language, ...]]]:
        """Another process has it already: in the module, under the name of its task.

        It may not know the languages that settings or a root's registry define; they go with the task.
        """
        return (_work_of, (*self._where, languages.defined()))

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Shard:
        inputs = self._signature.bind(*args, **kwargs).arguments
        verb, label = self._policy.verb, str(inputs["label"])
        if stopping.is_set():
            raise InterruptedRunError("interrupted")
        token = _current.set((verb, label, self._policy.compute_key(None, inputs, {})))
        _tell(Event(verb, label, "started"))
        begun = time.perf_counter()
        running.add(f"{verb}-{label}")
        try:
            shard = self._function(*args, **kwargs)
        finally:
            running.discard(f"{verb}-{label}")
            _current.reset(token)
        seconds = time.perf_counter() - begun
        _tell(Event(verb, label, "finished", seconds=seconds))
        context = TaskRunContext.get()
        maker = "" if context is None else f"{context.task_run.flow_run_id}/{verb}-{label}"
        return shard.model_copy(update={"seconds": seconds, "made_by": maker})


def _work_of(module: str, name: str, defined: tuple[languages.Language, ...] = ()) -> Any:
    for entry in defined:
        languages.define(entry)
    return getattr(importlib.import_module(module), name).fn


def policy_of(made: Task[..., Shard]) -> ContentKey:
    """The cache policy of a stage: its name, verb and version."""
    policy = made.cache_policy
    if not isinstance(policy, ContentKey):
        raise TypeError(f"{made.name} is no stage")
    return policy


@functools.lru_cache(maxsize=8)
def _records_and_locks(root: str) -> tuple[RecordFolder | RemoteFileSystem, Locks]:
    """Where a root's task records lie, and its locks."""
    store = open_store(root)
    if store.local:
        return RecordFolder(basepath=str(store.local_path(".results"))), FlockManager(store.local_path(".locks"))
    records = RemoteFileSystem(basepath=f"{root.rstrip('/')}/.results")
    # Prefect asks that it be known to the server; its credentials are the environment's and not kept there.
    records.save(f"mpo-{hashlib.sha256(root.encode()).hexdigest()[:16]}", overwrite=True)
    return records, LeaseManager(root)


def on_root(made: Task[P, Shard], store: ArtifactStore, run: RunSettings) -> Task[P, Shard]:
    """The stage with its results, locks and retries as this run wants them.

    Stages carry no Prefect tags: a tag costs a round trip for its concurrency slot, 0.1 s a task.
    """
    records, locks = _records_and_locks(store.root)
    bound = made.with_options(
        cache_policy=policy_of(made).configure(lock_manager=locks, isolation_level="SERIALIZABLE"),
        result_serializer=ShardSerializer(),
        retries=run.retries,
        retry_delay_seconds=[run.retry_delay * 2**attempt for attempt in range(run.retries)] or 0,
        retry_jitter_factor=0.5,
    )
    # Not public: a task's constructor takes a folder by its path, or a block that the server knows, but no block of
    # this process (PrefectHQ/prefect#15794). When it does, this is one more option above.
    bound.result_storage = records
    return bound
