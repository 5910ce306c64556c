"""Training on a file of pairs, by the tasks and the cache of the pipeline: what `mpo train` does."""

import shutil
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from prefect import flow

from flows import stages
from flows.pair_files import counts, usable_pairs
from flows.prefect_api import require_server
from flows.run import open_root, start_run
from flows.surroundings import can_be_written
from mpo_core.contract.artifacts import ArtifactStore, Shard, file_digests, write_atomically, write_parquet
from mpo_core.contract.errors import BadInputError, DamagedError
from mpo_core.contract.tables import PAIRS, QUARANTINE, SOURCE_PAIRS, TRAINING_LOG, TableSpec, source_id
from mpo_core.settings import LanguageSettings, PipelineConfig
from mpo_core.training.cuts import Cuts
from tasks.model import ModelFolder, find_model
from tasks.training import log_folder, train_model


class _Imported(NamedTuple):
    """The user's pairs as artifacts: whole and in order for training, and each text once for the reference."""

    pairs: Shard
    validation: Shard | None
    source: list[Shard]
    target: list[Shard]


def train_file(
    config: PipelineConfig,
    file: Path,
    out: Path,
    *,
    languages: LanguageSettings | None = None,
    validation: Path | None = None,
) -> dict[str, Any]:
    """Trains on a file of pairs; an interrupted training continues from its last checkpoint.

    Args:
        config: the settings of the model and of the training.
        file: the pairs.
        out: the folder of the trained model.
        languages: rejects pairs that are not in these languages (`other_language`). Default: all pairs are used.
        validation: a file of further pairs, for the evaluations that `training.evaluate_every` and `training.patience`
            need.

    Raises:
        BadInputError: pairs, model or folder cannot be used; nothing is left in `out` then.
    """
    model = find_model(config.model, cutoff=config.training.cutoff)
    if (out / "model").exists():
        raise BadInputError("the folder holds a trained model already", where=f"--out {out}", fix="Name a new folder.")
    if not can_be_written(out):
        raise BadInputError("cannot write here", where=f"--out {out}", fix="Free space or choose another folder.")
    pairs, rejected = usable_pairs(file, languages)
    held_out, broken = usable_pairs(validation, languages) if validation is not None else (None, QUARANTINE.build([]))
    if held_out is None and config.training.patience is not None:
        raise BadInputError(
            "early stopping is set, but there are no validation pairs",
            where="training.patience",
            fix="Give --validation FILE.",
        )
    store = open_root(config)
    imported = _import(config, store, pairs, held_out)
    require_server()
    trained = train_pairs(config, model, imported)
    unusable = store.read_tables([trained.quarantine] if trained.quarantine else [], QUARANTINE)
    rejected = QUARANTINE.check(pa.concat_tables([rejected, broken, unusable]))
    _write(store, trained, rejected, out)
    log = store.read_table(trained.rows, TRAINING_LOG)
    cuts = Cuts.of_figures(dict(zip(log["metric"].to_pylist(), log["value"].to_pylist(), strict=True)))
    warning = cuts.warning(config.training.cutoff)
    # A profile may set it for `mpo run`, whose prompts include validation prompts.
    ignored = {
        "training.evaluate_every, which needs --validation FILE": held_out is None and config.training.evaluate_every,
        "pairs.swap_check, which is for pairs that a run makes": config.pairs.swap_check,
    }
    idle = [setting for setting, wanted in ignored.items() if wanted]
    return {
        "pairs": trained.counts["pairs"],
        **({"not used": "; ".join(idle)} if idle else {}),
        "quarantined": counts(rejected, "reason"),
        "steps": trained.counts["steps"],
        "cut": cuts.total.model_dump(),
        "cut_by_language": {code: counts.model_dump() for code, counts in cuts.languages.items() if counts.cut},
        **({} if warning is None else {"warning": warning}),
        "model": str(out / "model"),
        "trainer_state": str(out / "trainer_state.json"),
    }


@flow(name="train-file")
def train_pairs(config: PipelineConfig, model: ModelFolder, imported: _Imported) -> Shard:
    """Measures the reference of every pair and trains."""
    with start_run(config) as run:
        source, target = ({_key(shard): shard for shard in shards} for shards in (imported.source, imported.target))
        references = stages.reference_gaps(run, model, source, "base", dominant=True)
        if config.training.references_targets:
            references |= stages.reference_gaps(run, model, target, "base", dominant=False)
        trained = run.submit(
            train_model,
            model=model,
            pairs=[imported.pairs],
            validation=[] if imported.validation is None else [imported.validation],
            references=list(references.values()),
            settings=config.training,
            in_order=True,
            label=config.training.method,
        )
        return run.result(trained)


def _key(shard: Shard) -> stages.Key:
    return str(shard.rows.language), shard.rows


def _import(config: PipelineConfig, store: ArtifactStore, pairs: pa.Table, held_out: pa.Table | None) -> _Imported:
    """Stores the pairs as artifacts: whole for training, and in blocks of one language for the reference."""
    tables = [_with_source_ids(table) for table in (pairs, held_out) if table is not None]
    whole = [Shard(rows=store.write_table("pairs", PAIRS, table)) for table in tables]
    rows = {row["pair_id"]: row for row in pa.concat_tables(tables).to_pylist()}
    sources = {row["source_id"]: row for row in rows.values()}
    dominant = [
        {
            "prompt_id": row["source_id"],  # a prompt may have several pairs
            "kind": row["kind"],
            "split": row["split"],
            "prompt": row["source_prompt"],
            "chosen": row["source_chosen"],
            "rejected": row["source_rejected"],
            "chosen_origin": "reference",
            "rejected_origin": "reference",
            "language": row["source_language"],
        }
        for row in sources.values()
    ]
    size = config.run.block_size
    return _Imported(
        whole[0],
        whole[1] if held_out is not None else None,
        _blocks(store, SOURCE_PAIRS, dominant, size),
        _blocks(store, PAIRS, list(rows.values()), size),
    )


def _with_source_ids(pairs: pa.Table) -> pa.Table:
    """Replaces `source_id` by the digest of the source texts, by which the reference is joined."""
    texts = (pairs[f"source_{name}"].to_pylist() for name in ("prompt", "chosen", "rejected"))
    ids = pa.array([source_id(*text) for text in zip(*texts, strict=True)], pa.string())
    return PAIRS.check(pairs.set_column(pairs.schema.get_field_index("source_id"), "source_id", ids))


def _blocks(store: ArtifactStore, spec: TableSpec, rows: list[dict[str, Any]], size: int) -> list[Shard]:
    """Stores rows in blocks of one language."""
    by_language: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_language.setdefault(row["language"], []).append(row)
    names = spec.schema.names
    return [
        Shard(
            rows=store.write_table(
                "pairs",
                spec,
                spec.build([{name: row[name] for name in names} for row in some[start : start + size]]),
                language=language,
                part=f"{start // size:03d}",
            )
        )
        for language, some in by_language.items()
        for start in range(0, len(some), size)
    ]


def _write(store: ArtifactStore, trained: Shard, rejected: pa.Table, out: Path) -> None:
    """Writes the result as files; `model` comes last, and is whole or not there."""
    if trained.model is None:
        raise DamagedError("training gave no model")
    was_there, unfinished = out.exists(), out / f".model-{uuid.uuid4().hex}.tmp"
    try:
        store.fetch_files(log_folder(trained.rows), out)
        write_parquet(out / "quarantine.parquet", QUARANTINE, rejected)
        with store.open_folder(trained.model) as folder:
            for name in file_digests(folder):
                write_atomically(unfinished / name, (folder / name).read_bytes())
        unfinished.rename(out / "model")
    except BaseException:
        shutil.rmtree(unfinished if was_there else out, ignore_errors=True)
        raise
