"""The one decorator of every stage: cache key, verified cache, retries, lock.

A stage is a function of content: its key is (stage, version, settings that can change an
answer, digests of the inputs). It returns a `Shard` of references; a cached shard is used only
if every artifact that it refers to still has the bytes that were written.
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
from mpo_core.contract.tables import PROMPTS, QUARANTINE, TRANSLATIONS, TableSpec
from mpo_core.languages import known as languages
from mpo_core.settings import RunSettings, Settings
from tasks.locks import FlockManager, LeaseManager, Locks
from tasks.model import ModelFolder

P = ParamSpec("P")
ShardInput = Shard | PrefectFuture[Shard]
"""A shard as the input of a task: itself, or the future of the task that makes it, which Prefect waits for."""

# Inputs that cannot change an answer: the store, the label, and a limit of memory.
_NOT_CONTENT = frozenset({"store", "label", "tokens_per_forward"})


class Event(NamedTuple):
    """A report of a running task; `progress` has `done` and `total`, `finished` has `seconds`."""

    verb: str
    label: str
    kind: Literal["started", "progress", "finished"]
    done: int = 0
    total: int = 0
    seconds: float = 0.0


listeners: list[Callable[[Event], None]] = []
"""Called for every event in this process: the command's progress display, and tests that count."""

stopping = threading.Event()
"""Set when the run is interrupted: tasks in other threads end when they next report progress."""

running: set[str] = set()
"""Names of the task runs that compute in this process at the moment."""

_current: contextvars.ContextVar[tuple[str, str, str]] = contextvars.ContextVar("stage")


class InterruptedRunError(RuntimeError):
    """The run was interrupted; finished tasks stay in the cache."""


def tell_progress(done: int, total: int) -> None:
    """Reports to the listeners how far the running task is.

    Raises:
        InterruptedRunError: the run was interrupted, and this task must end.
    """
    if stopping.is_set():
        raise InterruptedRunError("interrupted")
    verb, label, _ = _current.get()
    _tell(Event(verb, label, "progress", done=done, total=total))


def current_key() -> str:
    """Returns the cache key of the running task, which names its scratch folder."""
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


def read_texts(store: ArtifactStore, prompts: ArtifactRef | ShardInput) -> pa.Table:
    """Reads a block of prompts, or its translation."""
    if isinstance(prompts, ArtifactRef):
        return store.read_table(prompts, PROMPTS)
    return read_rows(store, [prompts], TRANSLATIONS)


def write_shard(
    store: ArtifactStore,
    stage_name: str,
    spec: TableSpec,
    rows: pa.Table,
    quarantine: pa.Table,
    *,
    language: str,
    **others: Any,
) -> Shard:
    """Stores the rows of a stage and those that it rejected; `others` are further fields of the shard."""
    return Shard(
        rows=store.write_table(stage_name, spec, rows, language=language),
        quarantine=store.write_table(stage_name, QUARANTINE, quarantine, language=language),
        **others,
    )


class ShardSerializer(Serializer):
    """Serializer of result records that can be read only while their artifacts are intact.

    Prefect takes any exception while a record is read for a cache miss, so a deleted or
    damaged file makes just its own shard run again.
    """

    type: Literal["mpo-shard"] = "mpo-shard"

    def dumps(self, obj: Any) -> bytes:
        """Writes a shard as JSON; of an exception, one line that is never read back."""
        text = obj.model_dump_json() if isinstance(obj, Shard) else json.dumps(repr(type(obj)))
        return text.encode()

    def loads(self, blob: bytes) -> Shard:
        """Reads a shard; when a task looks for its own record, verifies every artifact in the folder of artifacts.

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
    """Folder of task records for Prefect, in which no record holds its own path.

    Prefect writes a record's path into it (`storage_key`) and may read it again by that path. In a copy of the folder
    of artifacts that would be the record in the original folder. So the path is removed on disk, and set when read.
    """

    _block_type_slug = "mpo-record-folder"

    def read_path(self, path: str, **_: Any) -> bytes:  # type: ignore[override]
        """Reads a record, with its present path in place of the one that Prefect wrote into it."""
        place = self._resolve_path(path)
        return _with_key(place.read_bytes(), str(place))

    def write_path(self, path: str, content: bytes, **_: Any) -> str:  # type: ignore[override]
        """Writes a record whole or not at all."""
        place = self._resolve_path(path)
        write_atomically(place, _with_key(content, place.name))
        return str(place)

    async def aread_path(self, path: str) -> bytes:
        """Calls `read_path`, for Prefect's asynchronous callers."""
        return self.read_path(path)

    async def awrite_path(self, path: str, content: bytes) -> str:
        """Calls `write_path`, for Prefect's asynchronous callers."""
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
    """Returns what settings or registry define of the inputs' languages: it can change an answer too."""
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
        """Returns the cache key of a task: a digest of its inputs' content; run and flow parameters take no part."""
        del task_ctx, flow_parameters
        content = {name: _content(value) for name, value in inputs.items() if name not in _NOT_CONTENT}
        text = json.dumps([self.verb, self.version, content, *_facts(inputs)], sort_keys=True, ensure_ascii=False)
        return f"{self.verb}-{hashlib.sha256(text.encode()).hexdigest()}"


def worth_a_retry(_task: Task[..., Any], _run: Any, state: State[Any]) -> bool:
    """Returns whether a failed task is tried again: not after bad input, and not after an interrupt."""
    return not isinstance(state.data, BadInputError | InterruptedRunError)


def stage(name: str, *, verb: str, version: int = 1) -> Callable[[Callable[P, Shard]], Task[P, Shard]]:
    """Makes a function of content a cached, retryable, locked Prefect task.

    Args:
        name: the stage's name, as in `mpo_core` and the settings.
        verb: what the task does: its runs are called `<verb>-<label>`.
        version: number to raise when the stage gives another result for equal inputs.
    """

    def decorate(function: Callable[P, Shard]) -> Task[P, Shard]:
        policy = ContentKey(stage=name, verb=verb, version=version)
        stage_task: Task[P, Shard] = task(
            name=verb,
            task_run_name=f"{verb}-{{label}}",
            cache_policy=policy,
            persist_result=True,
            cache_result_in_memory=False,
            retry_condition_fn=worth_a_retry,
        )(_Work(function, policy))
        return stage_task

    return decorate


class _Work(Generic[P]):
    """The function of a task, wrapped so that it reports to the listeners and notes which run computed."""

    def __init__(self, function: Callable[P, Shard], policy: ContentKey) -> None:
        functools.update_wrapper(self, function)
        self._function, self._policy, self._signature = function, policy, inspect.signature(function)
        self._where = (function.__module__, function.__qualname__)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str, tuple[languages.Language, ...]]]:
        """Pickles the function by its name: another process imports it from its module.

        Languages that the settings or the registry define are pickled too, since that process may not know them.
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


def is_cached(stage_task: Task[..., Shard], store: ArtifactStore, inputs: dict[str, Any]) -> bool:
    """Returns whether there is a record of a task with these inputs, be its artifacts intact or not."""
    records, _ = _records_and_locks(store.root)
    try:
        records.read_path(policy_of(stage_task).compute_key(None, inputs, {}))
    except (OSError, ValueError):
        return False
    return True


def policy_of(stage_task: Task[..., Shard]) -> ContentKey:
    """Returns the cache policy of a task, which has its stage, verb and version."""
    policy = stage_task.cache_policy
    if not isinstance(policy, ContentKey):
        raise TypeError(f"the task {stage_task.name} was not made by @stage")
    return policy


@functools.lru_cache(maxsize=8)
def _records_and_locks(root: str) -> tuple[RecordFolder | RemoteFileSystem, Locks]:
    """Returns where Prefect stores the task records in the folder of artifacts, and the locks in that folder."""
    store = open_store(root)
    if store.local:
        return RecordFolder(basepath=str(store.local_path(".results"))), FlockManager(store.local_path(".locks"))
    records = RemoteFileSystem(basepath=f"{root.rstrip('/')}/.results")
    # Prefect requires that the server knows it. Its credentials stay in the environment and are not stored.
    records.save(f"mpo-{hashlib.sha256(root.encode()).hexdigest()[:16]}", overwrite=True)
    return records, LeaseManager(root)


def on_root(stage_task: Task[P, Shard], store: ArtifactStore, run: RunSettings) -> Task[P, Shard]:
    """Returns a task bound to a root: with the root's records and locks, and the run's retries.

    Stages carry no Prefect tags: a tag costs a round trip for its concurrency slot, 0.1 s a task.
    """
    records, locks = _records_and_locks(store.root)
    bound = stage_task.with_options(
        cache_policy=policy_of(stage_task).configure(lock_manager=locks, isolation_level="SERIALIZABLE"),
        result_serializer=ShardSerializer(),
        retries=run.retries,
        retry_delay_seconds=[run.retry_delay * 2**attempt for attempt in range(run.retries)] or 0,
        retry_jitter_factor=0.5,
    )
    # Not public: a task's constructor takes a folder by its path, or a block that the server knows, but no block of
    # this process (PrefectHQ/prefect#15794). When it does, this is one more option above.
    bound.result_storage = records
    return bound
