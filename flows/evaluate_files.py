"""Evaluation of one model or two on a file of prompts, by the tasks and the cache of the pipeline: `mpo evaluate`."""

import contextlib
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from prefect import flow

from flows import stages
from flows.prefect_api import require_server
from flows.run import open_root, start_run
from flows.surroundings import can_be_written
from mpo_core.contract.artifacts import ArtifactRef, ArtifactStore, Shard, write_parquet
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.prompts import PROMPT_SOURCES, PromptSource
from mpo_core.contract.tables import COMPARISONS, METRICS, PROMPTS, QUARANTINE, RESPONSES, VERDICTS
from mpo_core.files.records import Form, form_of
from mpo_core.prompts.columns import ColumnSource
from mpo_core.prompts.load import count_kinds
from mpo_core.settings import PipelineConfig
from tasks.model import ModelFolder, find_model
from tasks.prompts import store_prompts
from tasks.stage import Event, listeners

_LOCATION = {
    "source",
    "path",
    "revision",
    "subset",
    "dataset_split",
    "split",
}  # where the prompts lie, not how they read
_PROMPT_FORMS: tuple[Form, ...] = ("csv", "json", "jsonl", "parquet", "arrow")
OnKinds = Callable[[dict[str, dict[str, int]]], None]


class _Answered(NamedTuple):
    """One model's tables: its answers, the verdicts on them, its metrics and the rejected rows."""

    answers: list[ArtifactRef]
    verdicts: list[ArtifactRef]
    metrics: list[ArtifactRef]
    quarantine: list[ArtifactRef]


def evaluate_file(
    config: PipelineConfig,
    file: Path,
    against: str | None,
    *,
    against_revision: str | None = None,
    source: int | None = None,
    on_kinds: OnKinds = lambda _: None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Judges one model's answers to a file of prompts, or two models' on the same ones.

    Args:
        config: the settings; `model` is the model, or the later one of two.
        file: the prompts.
        against: the model to compare with.
        against_revision: the revision of that model.
        source: which of the profile's sources says how the file is read.
        on_kinds: called with how many prompts of each kind a source gave, as soon as a model has answered.
        out: a new folder for the tables: `metrics.parquet`, `quarantine.parquet` (the prompts that were rejected), and
            for each model a folder with its `answers.parquet`, `verdicts.parquet` and `quarantine.parquet`.

    Returns:
        `metrics`, rows of METRICS (with `p_value` where two models are compared), `kinds`, how many prompts of each
        kind a source gave, and `quarantined`, how many rows were rejected for which reason.
    """
    if out is not None:
        _require_new_folder(out)
    config.judging.require_languages([config.languages.dominant, *config.languages.targets])
    config.judging.require_ready()
    store = open_root(config)
    prompts = read_file(config, store, file, source)
    settings = {"model": config.model}
    if against is not None:
        # The revision of the settings is one of the other model's repository.
        earlier = config.model.model_copy(update={"path": against, "revision": against_revision})
        settings = {"before": earlier, "after": config.model}
    config.evaluation.sampling.backend.require_models([of_model.path for of_model in settings.values()])
    models = {name: find_model(of_model) for name, of_model in settings.items()}
    require_server()
    # The source of a file has the split `test`, whatever the profile evaluates.
    config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"split": "test"})})
    kinds = count_kinds(store.read_table(prompts.rows, PROMPTS))
    with _called_at_first_answer(lambda: on_kinds(kinds)):
        answered, comparisons = evaluate_models(config, prompts, models)
    figures = store.read_tables([ref for name in answered.values() for ref in name.metrics], METRICS)
    rejected = store.read_tables([prompts.quarantine] if prompts.quarantine else [], QUARANTINE)
    if out is not None:
        _write_tables(store, out, answered, figures, rejected)
    rows = figures.to_pylist()
    if against is not None:
        tests = store.read_tables(comparisons, COMPARISONS).to_pylist()
        p_values = {(row["language"], row["metric"]): row["p_value"] for row in tests}
        for row in rows:
            row["p_value"] = p_values.get((row["language"], row["metric"]))
    reasons = Counter(rejected["reason"].to_pylist())
    for name in answered.values():
        reasons.update(_rejected(store, name.quarantine)["reason"].to_pylist())
    return {
        "metrics": rows,
        "kinds": kinds,
        "quarantined": dict(reasons),
        **({} if out is None else {"out": str(out)}),
    }


@flow(name="evaluate-file")
def evaluate_models(
    config: PipelineConfig, prompts: Shard, models: dict[str, ModelFolder]
) -> tuple[dict[str, _Answered], list[ArtifactRef]]:
    """Lets one or two models answer the same prompts, judges the answers, and compares those of two models."""
    with start_run(config) as run:
        texts = stages.translate(run, prompts.parts)
        held_out = stages.Pairs(texts, {}, {})
        evaluations = {name: stages.evaluate(run, name, model, held_out) for name, model in models.items()}
        tests = []
        if "before" in evaluations:
            tests.append(stages.compare(run, evaluations["before"], evaluations["after"], "before-after"))
        translated = [text for text in texts.values() if not isinstance(text, ArtifactRef)]
        answered = {}
        for name, evaluation in evaluations.items():
            answers, verdicts = (
                list(map(run.result, shards.values())) for shards in (evaluation.answers, evaluation.verdicts)
            )
            rejecting = [*map(run.result, translated), *answers]
            answered[name] = _Answered(
                [shard.rows for shard in answers],
                [shard.rows for shard in verdicts],
                [run.result(evaluation.metrics).rows],
                [shard.quarantine for shard in rejecting if shard.quarantine is not None],
            )
        return answered, [run.result(test).rows for test in tests]


@contextlib.contextmanager
def _called_at_first_answer(announce: Callable[[], None]) -> Iterator[None]:
    """Calls `announce` once, at a model's first answer or at the end: if the model is broken, stdout stays empty."""
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


def _require_new_folder(out: Path) -> None:
    """Rejects, before anything is computed, a folder that is not empty or cannot be made."""
    if out.is_dir() and any(out.iterdir()):
        raise BadInputError("the folder is not empty", where=f"--out {out}", fix="Name a new folder.")
    if not can_be_written(out):
        raise BadInputError("cannot write here", where=f"--out {out}", fix="Free space or choose another folder.")


def _write_tables(
    store: ArtifactStore, out: Path, answered: dict[str, _Answered], figures: pa.Table, rejected: pa.Table
) -> None:
    """Writes the tables of an evaluation, all or none of them."""
    try:
        write_parquet(out / "metrics.parquet", METRICS, figures)
        write_parquet(out / "quarantine.parquet", QUARANTINE, rejected)
        for name, refs in answered.items():
            write_parquet(out / name / "answers.parquet", RESPONSES, store.read_tables(refs.answers, RESPONSES))
            write_parquet(out / name / "verdicts.parquet", VERDICTS, store.read_tables(refs.verdicts, VERDICTS))
            write_parquet(out / name / "quarantine.parquet", QUARANTINE, _rejected(store, refs.quarantine))
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise


def _rejected(store: ArtifactStore, refs: list[ArtifactRef]) -> pa.Table:
    """Reads the rejected rows of all languages, with the language added to their ids: a prompt may fail in several."""
    rows = [row for ref in refs for row in store.read_table(ref, QUARANTINE).to_pylist()]
    return QUARANTINE.build([row | {"row_id": f"{row['row_id']}/{row['language']}"} for row in rows])


def read_file(config: PipelineConfig, store: ArtifactStore, file: Path, number: int | None = None) -> Shard:
    """Stores the file's prompts in blocks; `prompt_source` says how the file is read."""
    settings = config.prompts.model_copy(update={"sources": [prompt_source(config, file, number)]})
    return store_prompts(store, settings, dominant=config.languages.dominant, block_size=config.run.block_size)


def prompt_source(config: PipelineConfig, file: Path, number: int | None = None) -> PromptSource:
    """Returns a prompt source that reads a file of the user's with the columns that the profile names.

    These are the columns of the source with this `number`, else of the source that names the same file, else of all
    sources of the profile that read files, which must then agree. A profile without such sources means the columns
    `text` and `kind`. Path and split are those of the command, never those of the profile.

    Args:
        config: the settings, with `prompts.sources`.
        file: the file of prompts.
        number: index of a source in `prompts.sources`, from 0.

    Raises:
        BadInputError: the file is of no known kind, there is no such source, or the sources differ.
    """
    template = _template(config, file, number)
    settings = template.model_dump(include=set(ColumnSource.model_fields) - {"source", "split"})
    if file.is_dir():
        kind, only = "dataset", {"subset", "dataset_split"}
    else:
        form = form_of(file, _PROMPT_FORMS)
        kind, only = ("parquet" if form == "arrow" else form), ({"delimiter"} if form == "csv" else set())
    settings |= template.model_dump(include=only)  # what only this kind of source has, if the template has it
    return PROMPT_SOURCES.parse({**settings, "source": kind, "path": str(file), "split": "test"})


def _template(config: PipelineConfig, file: Path, number: int | None) -> PromptSource:
    sources = config.prompts.sources
    if number is not None:
        if not 0 <= number < len(sources) or not isinstance(sources[number], ColumnSource):
            raise BadInputError(
                "the profile has no source of files of this number",
                where=f"--source {number}",
                fix="Count the entries of prompts.sources from 0.",
            )
        return sources[number]
    tables = [source for source in sources if isinstance(source, ColumnSource)]
    same = [source for source in tables if Path(getattr(source, "path", "")).resolve() == file.resolve()]
    candidates: Sequence[PromptSource] = (
        same or tables or [PROMPT_SOURCES.parse({"source": "csv", "path": "-", "kind_column": "kind"})]
    )
    ways = {source.model_dump_json(exclude=_LOCATION | {"licence"}) for source in candidates}
    if len(ways) > 1:
        raise BadInputError(
            f"the profile's {len(candidates)} sources are read in different ways",
            where=f"--prompts {file}",
            fix="Say which of them shows how to read this file: --source 0 for the first.",
        )
    return candidates[0]
