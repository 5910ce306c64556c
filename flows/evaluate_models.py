"""Evaluation of one model or two on benchmarks or a file of prompts, by the tasks and the cache of the pipeline."""

import contextlib
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from prefect import flow

from flows import stages
from flows.benchmarks import read_benchmarks
from flows.evaluate_files import read_file
from flows.evaluation_folder import Answered, OutFolder, rejected_rows
from flows.prefect_api import require_server
from flows.run import TRANSLATE_OR_SAMPLE, open_root, start_run
from flows.stages.utility import check_utility, compare_utilities, measure_utility, utility_cards
from flows.summary import summarise
from mpo_core import reporting
from mpo_core.contract.artifacts import ArtifactRef, Shard
from mpo_core.contract.tables import METRICS, PROMPTS, QUARANTINE
from mpo_core.prompts.load import count_kinds
from mpo_core.reporting import RunSummary
from mpo_core.reporting.summary import Model
from mpo_core.settings import ModelSettings, PipelineConfig
from tasks.model import ModelFolder, find_model
from tasks.stage import Event, listeners

OnKinds = Callable[[dict[str, dict[str, int]]], None]


class Evaluated(NamedTuple):
    """The summary of an evaluation, and where its page is."""

    summary: RunSummary
    page: str


def evaluate_models(
    config: PipelineConfig,
    *,
    prompts: Path | None = None,
    source: int | None = None,
    limit: int | None = None,
    against: str | None = None,
    against_revision: str | None = None,
    on_kinds: OnKinds = lambda _: None,
    out: OutFolder | None = None,
) -> Evaluated:
    """Measures one model, or two on the same prompts, and writes the page of it.

    Args:
        config: the settings; `model` is the model, or the later one of two. Its benchmarks are measured.
        prompts: a file of prompts in the dominant language, which is measured too.
        source: which of the profile's sources says how the file is read.
        limit: maximum number of prompts of the file to use.
        against: the model to compare with.
        against_revision: the revision of that model.
        on_kinds: called with how many prompts of each kind the file gave, as soon as a model has answered.
        out: where answers, verdicts, figures and page go; else the page goes below the root.
    """
    if out is not None:
        out.require_new()
    store = open_root(config)
    blocks = None
    if prompts is not None:
        config.judging.require_languages([config.languages.dominant, *config.languages.targets])
        blocks = read_file(config, store, prompts, source, limit)
    settings: dict[Model, ModelSettings] = {"model": config.model}
    if against is not None:
        # The revision of the settings is one of the other model's repository.
        earlier = config.model.model_copy(update={"path": against, "revision": against_revision})
        settings = {"before": earlier, "after": config.model}
    config.evaluation.sampling.backend.require_models([of_model.path for of_model in settings.values()])
    models = {role: find_model(of_model) for role, of_model in settings.items()}
    require_server()
    # The source of a file has the split `test`, whatever the profile evaluates.
    config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"split": "test"})})
    kinds = {} if blocks is None else count_kinds(store.read_table(blocks.rows, PROMPTS))
    with _called_at_first_answer(lambda: on_kinds(kinds)):
        summary, answered, refs = evaluate_file(config, blocks, models, None if prompts is None else prompts.name)
    rejected = rejected_rows(store, refs)
    if blocks is not None and blocks.quarantine is not None:
        of_file = store.read_table(blocks.quarantine, QUARANTINE)
        rejected = pa.concat_tables([of_file, rejected])
        reasons = Counter(of_file["reason"].to_pylist())
        counts = [reporting.QuarantineCount(stage="prompts", reason=r, count=n) for r, n in reasons.items()]
        summary = summary.model_copy(update={"kinds": kinds, "quarantine": [*counts, *summary.quarantine]})
    if out is not None:
        out.write(store, summary, answered, rejected)
        return Evaluated(summary, str(out.path / reporting.PAGE))
    name = re.sub(r"[^\w.-]+", "-", "-against-".join(reversed(summary.models.values()))).strip("-.")
    written = reporting.write(summary, store, f"evaluations/{name}")
    return Evaluated(summary, f"{config.run.root.rstrip('/')}/{written.page}")


@flow(name="evaluate-file")
def evaluate_file(
    config: PipelineConfig, prompts: Shard | None, models: dict[Model, ModelFolder], name: str | None
) -> tuple[RunSummary, list[Answered], list[ArtifactRef]]:
    """Lets each model answer the same prompts, and compares the answers of two; `name` is that of the file.

    The result is the summary, the answered blocks, and the tables of a benchmark's rows that give no prompt.
    """
    with start_run(config) as run:
        for check in (config.judging.require_ready, config.evaluation.sampling.backend.require_key):
            run.check_before(TRANSLATE_OR_SAMPLE, check)
        sets = read_benchmarks(run)
        if prompts is not None:
            sets.insert(0, stages.held_out_prompts(run, stages.translate(run, prompts.parts), name))
        check_utility(run)
        evaluated: dict[Model, list[stages.Measured]] = {
            role: [stages.measure_prompts(run, role, model, of_set) for of_set in sets]
            for role, model in models.items()
        }
        *earlier, later = evaluated.values()
        tests = stages.compare(run, earlier[0], later, "before-after") if earlier else []
        base = next(iter(models.values()))
        answers = next(iter(evaluated.values()))[0].answers
        utilities = [
            measure_utility(run, role, model, None if model is base else (base, answers))
            for role, model in models.items()
        ]
        if earlier:
            tests.append(compare_utilities(run, *utilities))
        names = {role: model_name(model.settings.path) for role, model in models.items()}
        tables = [*(part.metrics for parts in evaluated.values() for part in parts), *(u.metrics for u in utilities)]
        metrics = run.store.read_tables([run.result(future).rows for future in tables], METRICS)
        summary = summarise(
            run,
            base,
            evaluated,
            tests,
            metrics=metrics.to_pylist(),
            benchmarks=[*(of_set.card for of_set in sets), *utility_cards(run, metrics)],
            run=names[next(reversed(names))],
            models=names,
            base_model=names[next(iter(names))],
            inputs=[] if name is None else [name],
        )
        answered = [
            Answered(
                role,
                measured.prompts.card.name,
                block,
                run.result(answers).rows,
                run.result(measured.verdicts[language, block]).rows,
                tuple(
                    rejected
                    for future in (measured.prompts.texts[language, block], answers)
                    if not isinstance(future, ArtifactRef) and (rejected := run.result(future).quarantine) is not None
                ),
            )
            for role, parts in evaluated.items()
            for measured in parts
            for (language, block), answers in measured.answers.items()
        ]
        read = [step.shard.quarantine for step in run.steps if step.verb == "read-benchmark"]
        return summary, answered, [table for table in read if table is not None]


def model_name(path: str) -> str:
    """Returns what a model is called: its hub id or relative path, and the end of a longer one."""
    parts = Path(path).parts
    return "/".join(parts[-2:]) if len(parts) > 2 else path  # noqa: PLR2004 - `owner/name`


def figures_as_data(summary: RunSummary) -> list[dict[str, Any]]:
    """Returns the metrics as plain data, with the p-value of the change where two models were compared."""
    p_values = {(row.benchmark, row.language, row.metric): row.p_value for row in summary.comparisons}
    rows = [row.model_dump() for row in summary.metrics]
    if not summary.alone:
        for row in rows:
            row["p_value"] = p_values.get((row["benchmark"], row["language"], row["metric"]))
    return rows


@contextlib.contextmanager
def _called_at_first_answer(announce: Callable[[], None]) -> Iterator[None]:
    """Calls `announce` once, at a model's first answer or at the end: a broken model leaves stdout empty."""
    called = threading.Event()

    def listen(event: Event | None) -> None:
        if not called.is_set() and (event is None or (event.verb == "sample" and event.done)):
            called.set()
            announce()

    listeners.append(listen)
    try:
        yield
    finally:
        listeners.remove(listen)
    listen(None)
