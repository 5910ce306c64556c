"""Training, in a subprocess that saves checkpoints and resumes from them."""

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
from prefect.concurrency.sync import concurrency

from mpo_core.contract.artifacts import ArtifactRef, ArtifactStore, Shard, write_parquet
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.tables import GAPS, PAIRS, QUARANTINE, TEACHER, TRAINING_LOG, TRANSLATIONS, TableSpec
from mpo_core.models import forget_models
from mpo_core.settings import TrainingMethod
from mpo_core.training.launch import TrainingJob, train
from tasks.model import ModelFolder
from tasks.stage import ShardInput, current_key, read_rows, stage, tell_progress

_log = logging.getLogger(__name__)

# The trainer's clock and its totals since the last resume differ from run to run.
_NOT_LOGGED = frozenset({"epoch", "step", "total_flos", "train_loss"})


@stage("training", verb="train", version=4)
def train_model(
    store: ArtifactStore,
    *,
    model: ModelFolder,
    pairs: Sequence[ShardInput],
    validation: Sequence[ShardInput],
    references: Sequence[ShardInput],
    settings: TrainingMethod,
    teacher: Sequence[ShardInput] = (),
    translations: Sequence[ShardInput] = (),
    in_order: bool = False,
    label: str,
) -> Shard:
    """Trains on the pairs of every language; an interrupted training resumes from its last checkpoint.

    The pairs are sorted by their ids; with `in_order`, they stay in the order of the shards and of their rows.
    `translations` are the pairs' prompts in languages that have no pairs, where the training compares them.
    """
    work = store.scratch(f"training/.work/{current_key()}")
    inputs = {
        "pairs": _required(_gather(work / "pairs.parquet", pairs, PAIRS, store, in_order=in_order)),
        # A small split may have no pair left; training does not need one.
        "validation": _gather(work / "validation.parquet", validation, PAIRS, store),
        "references": _required(_gather(work / "references.parquet", references, GAPS, store)),
        "teacher": _gather(work / "teacher.parquet", teacher, TEACHER, store),
        "translations": _gather(work / "translations.parquet", translations, TRANSLATIONS, store),
    }
    if inputs["validation"] is None and settings.patience is not None:
        raise BadInputError(
            "early stopping is set, but no pair is left in the split `validation`",
            where="training.patience",
            fix="Raise prompts.validation, or set training.patience to null.",
        )
    forget_models()
    # If the Prefect server has this limit, only one of the runs that share it trains at a time.
    with model.open(store) as folder, concurrency("mpo-training", lease_duration=60):
        result = train(
            TrainingJob(
                model_folder=folder, model=model.settings, training=settings, out=work / "out", work=work, **inputs
            ),
            on_step=lambda step: tell_progress(int(step.get("step", 0)), int(step.get("max_steps", 0))),
        )
    if warning := result.cuts.warning(settings.cutoff):
        _log.warning(warning)
    quarantine = pq.read_table(result.quarantine, partitioning=None)
    log = json.loads(result.trainer_state.read_text(encoding="utf-8"))["log_history"]
    rows = store.write_table("training", TRAINING_LOG, TRAINING_LOG.build(_log_rows(log)))
    store.write_text(f"{log_folder(rows)}/trainer_state.json", result.trainer_state.read_text(encoding="utf-8"))
    shard = Shard(
        rows=rows,
        quarantine=store.write_table("training", QUARANTINE, quarantine),
        model=store.write_folder("training", result.model_folder),
        counts={
            "pairs": result.rows,
            "steps": result.steps,
            "peak_mib": result.peak_memory,
            "train_seconds": round(result.seconds),
            **result.cuts.counts(),
            **({} if result.resumed_from is None else {"resumed_from": result.resumed_from}),
        },
    )
    events = work / "out" / "tensorboard"
    if events.is_dir():
        store.keep_files(events, f"{log_folder(rows)}/tensorboard")
    shutil.rmtree(work)
    return shard


def log_folder(rows: ArtifactRef) -> str:
    """Returns the folder of a training's log files, `trainer_state.json` and `tensorboard/`, relative to `run.root`.

    Args:
        rows: the table of pairs that are trained on.
    """
    return f"training/logs/{rows.sha256}"


def _required(path: Path | None) -> Path:
    if path is None:
        raise BadInputError(
            "no pair is left to train on",
            where="pairs",
            fix="See the quarantine tables of the earlier stages, which have the reasons.",
        )
    return path


def _gather(
    path: Path, shards: Sequence[ShardInput], spec: TableSpec, store: ArtifactStore, *, in_order: bool = False
) -> Path | None:
    """Writes the rows of shards into one Parquet file, sorted by key unless `in_order`; None if there is no row."""
    table = read_rows(store, shards, spec)
    if not table.num_rows:
        return None
    write_parquet(path, spec, table if in_order else table.sort_by([(name, "ascending") for name in spec.key]))
    return path


def _log_rows(log: list[dict[str, float]]) -> list[dict[str, object]]:
    return [
        {"step": int(entry["step"]), "metric": name, "value": float(value)}
        for entry in log
        for name, value in entry.items()
        if name not in _NOT_LOGGED and "runtime" not in name and "per_second" not in name
    ]
