"""One run in progress: submits tasks, waits for them, and records them."""

import asyncio
import concurrent.futures
import contextlib
import importlib.metadata
import importlib.util
import inspect
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec

import yaml
from prefect import Task
from prefect.context import FlowRunContext
from prefect.exceptions import UnfinishedRun
from prefect.futures import PrefectConcurrentFuture, PrefectFuture
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from pydantic import JsonValue

from flows import interrupt, progress
from flows.registered import with_overrides
from flows.temporary_server import temporary_address, watch
from mpo_core.contract.artifacts import ArtifactRef, ArtifactStore, Shard
from mpo_core.contract.errors import BadInputError, installation
from mpo_core.reporting import SETTINGS, BenchmarkCard
from mpo_core.settings import PipelineConfig, RunSettings
from tasks.stage import Event, is_cached, listeners, on_root, open_store, policy_of, stopping

P = ParamSpec("P")
Future = PrefectFuture[Shard]
_PACKAGES = ("mpo-pipeline", "torch", "transformers", "prefect", "datasets", "pyarrow", "tokenizers")


TRANSLATE = frozenset({"translate"})
TRANSLATE_OR_SAMPLE = TRANSLATE | {"sample"}
"""Tasks after which answers are sampled."""
BEFORE_EVALUATION = TRANSLATE_OR_SAMPLE | {"rank", "reference", "teach", "train", "edit"}
"""Tasks that take long, and after which answers of a model are sampled and judged."""

# What the future of a task raises that was cancelled because another task failed.
_CANCELLED = (concurrent.futures.CancelledError, asyncio.CancelledError)


def _wait_for(future: Future) -> None:
    with contextlib.suppress(*_CANCELLED):
        future.wait()


@dataclass
class Step:
    """One task of the run: its stage, its name and its future."""

    stage: str
    verb: str
    label: str
    future: Future

    @property
    def name(self) -> str:
        """Name of the task run, such as `translate-sw-train-000`."""
        return f"{self.verb}-{self.label}"

    @property
    def shard(self) -> Shard:
        """The shard that the task made; waits for the task, and raises what it raised."""
        return self.future.result()


class PlainText(NamedTuple):
    """Parallel text that a run has read: its passages by language, and its card for the report."""

    passages: list[ArtifactRef]
    card: BenchmarkCard


@dataclass
class Run:
    """A run in progress: its settings and artifacts, and the tasks that it has submitted."""

    config: PipelineConfig
    store: ArtifactStore
    runner: TaskRunner[Any]
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    steps: list[Step] = field(default_factory=list)
    sizes: dict[Future, int] = field(default_factory=dict)
    """About how many rows each task works on, by which the remaining time is estimated."""
    plain_texts: dict[str, PlainText] = field(default_factory=dict)
    """The parallel text that was read, by its source and languages."""
    flow_run: str = ""
    """Prefect's id of this run."""
    tag: str = ""
    """Ends every label, where a flow asks for the same stages more than once."""
    checks: list[tuple[frozenset[str], Callable[[], None]]] = field(default_factory=list)
    """What services need, such as a key, and the tasks before which it is checked. A task whose result is in the cache
    does not start, so a run whose results are all there needs no key."""

    def variant(self, config: PipelineConfig, tag: str) -> "Run":
        """Returns the same run with other settings; tasks of both are listed in the same `steps`."""
        return replace(self, config=config, tag=tag)

    def computed(self, step: Step) -> bool:
        """Returns whether the task computed in this run; else the cache had its result."""
        return step.shard.made_by == f"{self.flow_run}/{step.name}"

    @property
    def folder(self) -> str:
        """Folder of the run's own files, relative to `run.root`."""
        return f"runs/{self.config.run.name}"

    @property
    def settings(self) -> dict[str, Any]:
        """All settings of the run but `run.root`: a copied folder must not name the one that it was copied from."""
        settings = self.config.model_dump(mode="json")
        del settings["run"]["root"]
        return settings

    def write_settings(self) -> None:
        """Writes every setting of the run, defaults included, as `settings.yaml` beside the run's report."""
        settings = yaml.safe_dump(self.settings, sort_keys=False, allow_unicode=True)
        note = (
            "# Without run.root, since the folder may be copied. To continue: mpo run THIS_FILE --set run.root=FOLDER\n"
        )
        self.store.write_text(f"{self.folder}/{SETTINGS}", note + settings)

    def submit(self, task: Task[Concatenate[ArtifactStore, P], Shard], *args: P.args, **inputs: P.kwargs) -> Future:
        """Submits a task, with its inputs by keyword: values, or futures of other tasks."""
        parameters = inspect.signature(task.fn).bind(self.store, *args, **inputs).arguments
        label = "-".join(filter(None, (parameters["label"], self.tag)))
        bound = on_root(task, self.store, self.config.run)
        future: Future = self.runner.submit(bound, parameters=parameters | {"label": label})
        step = Step(policy_of(task).stage, task.name, label, future)
        self.steps.append(step)
        if isinstance(future, PrefectConcurrentFuture):
            # A future that was waited for knows its state; else each task that takes it as input asks the server.
            future.add_done_callback(_wait_for)
        self.sizes[future] = max(map(self._size, inputs.values()), default=1)
        if progress.board is not None:
            progress.board.submitted(step.verb, label, self.sizes[future])
            future.add_done_callback(lambda _: self._settled(step))
        return future

    def cached(self, task: Task[Concatenate[ArtifactStore, P], Shard], *args: P.args, **inputs: P.kwargs) -> bool:
        """Returns whether the cache has a record of a task with these inputs, all of which are values."""
        return is_cached(task, self.store, inspect.signature(task.fn).bind(self.store, *args, **inputs).arguments)

    def check_before(self, verbs: frozenset[str], check: Callable[[], None]) -> None:
        """Checks what a service needs before the first of these tasks computes something.

        Where other processes run the tasks, this one does not hear of their start, and checks at once.
        """
        if self.config.run.runner == "threads":
            self.checks.append((verbs, check))
        else:
            check()

    def check(self, event: Event) -> None:
        """Listens to the tasks of this process, and checks what services need.

        Raises:
            BadInputError: something is missing; the task that is about to start fails with it.
        """
        for verbs, check in self.checks:
            if event.kind == "started" and event.verb in verbs:
                check()

    def _settled(self, step: Step) -> None:
        if progress.board is not None:
            failed = True
            with contextlib.suppress(UnfinishedRun, *_CANCELLED):
                failed = not isinstance(step.future.result(raise_on_failure=False), Shard)
            progress.board.settled(step.verb, step.label, cached=not failed and not self.computed(step))

    def _size(self, value: object) -> int:
        """Returns the rows of a task's input, where they are known before it is there; 1 at least."""
        if isinstance(value, ArtifactRef):
            return max(value.rows, 1)
        return self.sizes.get(value, 1) if isinstance(value, PrefectFuture) else 1

    def result(self, future: Future) -> Shard:
        """Waits for a task and returns its result.

        Raises:
            Exception: the cause of a failure. A task whose input failed fails too, without an explanation of
                its own, so the first failure in order of submission is raised.
        """
        try:
            return future.result()
        except Exception:
            for step in self.steps:
                step.future.result()
            raise

    def wait(self) -> list[Step]:
        """Waits until every task submitted so far is done, and returns the tasks; raises as `result` does."""
        for step in self.steps:
            self.result(step.future)
        return self.steps

    def packages(self) -> dict[str, str]:
        """Returns the versions of the packages that a rerun would need."""
        installed = {}
        for name in _PACKAGES:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                installed[name] = importlib.metadata.version(name)
        return installed


def open_root(config: PipelineConfig) -> ArtifactStore:
    """Opens the folder of artifacts that `run.root` names; commands do so before they start a server.

    Raises:
        BadInputError: the folder cannot be written, or no installed package reads such a URL.
    """
    root = config.run.root
    return open_store(root if "://" in root else str(Path(root).resolve()))


@contextlib.contextmanager
def start_run(config: PipelineConfig, overrides: dict[str, JsonValue] | None = None) -> Iterator[Run]:
    """Starts a run with its artifacts and workers, and ends its workers when the context ends."""
    config = with_overrides(config, overrides or {})
    store = open_root(config)
    context = FlowRunContext.get()
    flow_run = "" if context is None or context.flow_run is None else str(context.flow_run.id)
    run = Run(config, store, _runner(config.run), flow_run=flow_run)
    listeners.append(run.check)
    try:
        with interrupt.guard(), _shared_server(config.run), interrupt.started(run.runner):
            try:
                yield run
            except BaseException:
                stopping.set()  # the runner waits for its threads: they end when they next report progress
                raise
    finally:
        listeners.remove(run.check)
        stopping.clear()


@contextlib.contextmanager
def _shared_server(settings: RunSettings) -> Iterator[None]:
    """Lets the workers of a cluster share the flow's temporary Prefect server, if no server is set."""
    if PREFECT_API_URL.value() is None:
        watch()  # for a flow that is called without the command
    if settings.runner == "threads" or PREFECT_API_URL.value() is not None:
        yield
        return
    with temporary_settings({PREFECT_API_URL: temporary_address()}):
        yield


def _runner(settings: RunSettings) -> TaskRunner[Any]:
    """Returns what runs the tasks: threads of this process, or the workers of a cluster."""
    if settings.runner == "threads":
        return ThreadPoolTaskRunner(max_workers=settings.workers)
    package = f"prefect_{settings.runner}"
    if importlib.util.find_spec(package) is None:
        raise BadInputError(
            f"{package.replace('_', '-')} is not installed",
            where=f"run.runner {settings.runner}",
            fix=installation(settings.runner),
        )
    if settings.runner == "dask":
        from prefect_dask.task_runners import DaskTaskRunner

        cluster = {"n_workers": settings.workers, "threads_per_worker": 1}
        dask: TaskRunner[Any] = DaskTaskRunner(
            address=settings.cluster, cluster_kwargs=None if settings.cluster else cluster
        )
        return dask
    from prefect_ray.task_runners import RayTaskRunner

    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}  # its output would mix with the progress bars
    # Without "local", Ray would join a cluster that happens to run on this machine.
    here = {"num_cpus": settings.workers, "include_dashboard": False} if settings.cluster is None else {}
    ray: TaskRunner[Any] = RayTaskRunner(address=settings.cluster or "local", init_kwargs=quiet | here)
    return ray
