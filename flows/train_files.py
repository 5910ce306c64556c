"""Training on a file of pairs, by the tasks and the cache of the pipeline: what `mpo train` does."""

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from prefect import flow

from flows import stages
from flows.evaluation_folder import rejected_rows
from flows.pair_files import counts, usable_pairs
from flows.pair_prompts import pair_prompts
from flows.prefect_api import require_server
from flows.run import Future, open_root, start_run
from flows.surroundings import require_writable
from flows.swaps import find_order, settle, unswap
from mpo_core.contract.artifacts import (
    ArtifactRef,
    ArtifactStore,
    Shard,
    file_digests,
    sweep,
    temporary_for,
    write_atomically,
    write_parquet,
)
from mpo_core.contract.errors import BadInputError, DamagedError
from mpo_core.contract.tables import PAIRS, QUARANTINE, SOURCE_PAIRS, SWAPS, TRAINING_LOG, TableSpec, source_id
from mpo_core.pairs.swaps import LEAST_KNOWN
from mpo_core.reporting import CARD, training_card
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
    texts: dict[stages.Key, Shard]
    """The prompts in every target language, where the training distils."""


class _Trained(NamedTuple):
    """A training, with the swap check's SWAPS by language and the teacher's answers.

    `rejected` are tables QUARANTINE of the pairs that the check rejected, `not_taught` of the teacher's prompts and
    answers.
    """

    model: Shard
    swaps: dict[str, Shard]
    teacher: list[Shard]
    rejected: list[ArtifactRef]
    not_taught: list[ArtifactRef]


def train_file(
    config: PipelineConfig,
    file: Path,
    out: Path,
    *,
    languages: LanguageSettings | None = None,
    validation: Path | None = None,
    as_is: bool = False,
) -> dict[str, Any]:
    """Trains on a file of pairs; an interrupted training continues from its last checkpoint.

    Args:
        config: the settings of the model, of the training, and of the swap check.
        file: the pairs.
        out: the folder of the trained model.
        languages: rejects pairs that are not in these languages (`other_language`). Default: all pairs are used.
        validation: a file of further pairs, for the evaluations that `training.evaluate_every` and `training.patience`
            need, and as the pairs in known order of the swap check.
        as_is: marks flawed pairs that can be trained on, instead of rejecting them.

    Raises:
        BadInputError: pairs, model or folder cannot be used; nothing is left in `out` then.
    """
    model = find_model(config.model, training=config.training)
    stages.require_named_layers(model, config.training)
    if (out / "model").exists():
        raise BadInputError("the folder holds a trained model already", where=f"--out {out}", fix="Name a new folder.")
    require_writable(out, out)
    pairs, rejected, marks = usable_pairs(file, languages, as_is=as_is)
    held_out, broken = None, QUARANTINE.build([])
    if validation is not None:
        held_out, broken, _ = usable_pairs(validation, languages, as_is=as_is)
    weighting = config.training.weighting
    needing = {
        "training.patience": config.training.patience is not None,
        "training.weighting": weighting is not None and weighting.kind == "barfi",
    }
    for setting in [name for name, needs in needing.items() if needs and held_out is None]:
        raise BadInputError("this needs validation pairs", where=setting, fix="Give --validation FILE.")
    if config.training.distils:
        stages.require_distilled(set(pairs["language"].to_pylist()), config.languages, config.training)
    store = open_root(config)
    imported = _import(config, store, pairs, held_out)
    require_server()
    done = train_pairs(config, model, imported)
    trained = done.model
    unusable = store.read_tables([*([trained.quarantine] if trained.quarantine else []), *done.rejected], QUARANTINE)
    tables = {
        "quarantine": QUARANTINE.check(
            pa.concat_tables([rejected, broken, unusable, rejected_rows(store, done.not_taught)])
        ),
        "marks": marks,
        "swaps": store.read_tables([shard.rows for shard in done.swaps.values()], SWAPS),
    }
    codes = [pairs["source_language"][0].as_py(), *sorted(set(pairs["language"].to_pylist()))]
    card = training_card(config.model.path, codes, file.name, config.training.model_dump())
    _write(store, trained, tables, card, out)
    log = store.read_table(trained.rows, TRAINING_LOG)
    cuts = Cuts.of_figures(dict(zip(log["metric"].to_pylist(), log["value"].to_pylist(), strict=True)))
    warning = cuts.warning(config.training.cutoff)
    # A profile may set them for `mpo run`, whose prompts include validation prompts.
    paired = [code for code in config.languages.without_pairs if code in codes]
    unproven = [code for code, shard in done.swaps.items() if shard.counts["order_known"] < LEAST_KNOWN]
    idle = {
        "edit, which `mpo edit` does": config.edit,
        "training.evaluate_every, which needs --validation FILE": held_out is None and config.training.evaluate_every,
        f"languages.without_pairs: pairs in {', '.join(paired)} are trained on": paired,
        f"pairs.swap_check in {', '.join(unproven)}, which needs {LEAST_KNOWN} pairs in known order a language: give "
        "--validation FILE": unproven,
    }
    unused = [setting for setting, wanted in idle.items() if wanted]
    return {
        "pairs": trained.counts["pairs"],
        **({"not used": "; ".join(unused)} if unused else {}),
        "quarantined": counts(tables["quarantine"], "reason"),
        **({"marked": counts(marks, "reason")} if marks.num_rows else {}),
        **({"swaps": {code: shard.counts for code, shard in done.swaps.items()}} if done.swaps else {}),
        **({"teacher": _summed(done.teacher)} if done.teacher else {}),
        "steps": trained.counts["steps"],
        "cut": cuts.total.model_dump(),
        "cut_by_language": {code: counts.model_dump() for code, counts in cuts.languages.items() if counts.cut},
        **({} if warning is None else {"warning": warning}),
        "model": str(out / "model"),
        "trainer_state": str(out / "trainer_state.json"),
    }


@flow(name="train-file")
def train_pairs(config: PipelineConfig, model: ModelFolder, imported: _Imported) -> _Trained:
    """Checks the order of the pairs' answers if that is set, measures the reference of every pair, and trains."""
    with start_run(config) as run:
        source, target = ({_key(shard): shard for shard in shards} for shards in (imported.source, imported.target))
        swaps = find_order(run, model, source, target)
        settled: list[Future] = []
        for code, of_language in swaps.items() if config.pairs.swap_check != "mark" else ():
            settled.append(unswap(run, settled[-1] if settled else imported.pairs, of_language, code, code))
        references = stages.reference_gaps(run, model, source, "base", dominant=True)
        if config.training.references_targets:
            references |= stages.reference_gaps(run, model, settle(run, target, swaps), "base", dominant=False)
        inputs: dict[str, Any] = {
            "model": model,
            "pairs": settled[-1:] or [imported.pairs],
            "validation": [] if imported.validation is None else [imported.validation],
            "references": list(references.values()),
            "settings": config.training,
            "in_order": True,
            "label": config.training.method,
        }
        teacher = stages.teacher(run, model, imported.texts, config.training)
        trained = run.submit(train_model, **inputs, **teacher)
        of_teacher = [step.shard for step in run.wait() if step.stage == "distillation"]
        return _Trained(
            run.result(trained),
            {code: run.result(of_language) for code, of_language in swaps.items()},
            [run.result(answers) for answers in teacher.get("teacher", [])],
            # The blocks of the target pairs, which the reference measures, reject the same pairs again.
            [ref for shard in settled if (ref := run.result(shard).quarantine) is not None],
            [shard.quarantine for shard in of_teacher if shard.quarantine is not None],
        )


def _key(shard: Shard) -> stages.Key:
    return str(shard.rows.language), shard.rows


def _import(config: PipelineConfig, store: ArtifactStore, pairs: pa.Table, held_out: pa.Table | None) -> _Imported:
    """Stores the pairs as artifacts: whole for training, and in blocks of one language for the reference."""
    tables = [_with_source_ids(table) for table in (pairs, held_out) if table is not None]
    whole = [Shard(rows=store.write_table("pairs", PAIRS, table)) for table in tables]
    parts = {"": pa.concat_tables(tables)}
    if config.pairs.swap_check is not None:  # which tells the splits apart
        parts = dict(zip(("train-", "validation-"), tables, strict=False))
    source: dict[str, dict[str, Any]] = {}
    target: dict[str, dict[str, Any]] = {}
    for part, table in parts.items():
        for row in table.to_pylist():
            names = {"part": part, **({"split": part[:-1]} if part else {})}
            target.setdefault(row["pair_id"], row | names)
            source.setdefault(row["source_id"], _dominant(row | names))
    size = config.run.block_size
    return _Imported(
        whole[0],
        whole[1] if held_out is not None else None,
        _blocks(store, SOURCE_PAIRS, source.values(), size),
        _blocks(store, PAIRS, target.values(), size),
        pair_prompts(config, store, tables[0]) if config.training.distils else {},
    )


def _dominant(row: dict[str, Any]) -> dict[str, Any]:
    """Returns the dominant pair of a row as one of SOURCE_PAIRS, with the names of its block."""
    return {
        "prompt_id": row["source_id"],  # a prompt may have several pairs
        "kind": row["kind"],
        "split": row["split"],
        "prompt": row["source_prompt"],
        "chosen": row["source_chosen"],
        "rejected": row["source_rejected"],
        "chosen_origin": "reference",
        "rejected_origin": "reference",
        "language": row["source_language"],
        "part": row["part"],
    }


def _with_source_ids(pairs: pa.Table) -> pa.Table:
    """Replaces `source_id` by the digest of the source texts, by which the reference is joined."""
    texts = (pairs[f"source_{name}"].to_pylist() for name in ("prompt", "chosen", "rejected"))
    ids = pa.array([source_id(*text) for text in zip(*texts, strict=True)], pa.string())
    return PAIRS.check(pairs.set_column(pairs.schema.get_field_index("source_id"), "source_id", ids))


def _blocks(store: ArtifactStore, spec: TableSpec, rows: Iterable[dict[str, Any]], size: int) -> list[Shard]:
    """Stores rows in blocks of one language and one part."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["language"], row["part"]), []).append(row)
    names = spec.schema.names
    return [
        Shard(
            rows=store.write_table(
                "pairs",
                spec,
                spec.build([{name: row[name] for name in names} for row in some[start : start + size]]),
                language=language,
                part=f"{part}{start // size:03d}",
            )
        )
        for (language, part), some in groups.items()
        for start in range(0, len(some), size)
    ]


def _summed(shards: Iterable[Shard]) -> dict[str, int]:
    """Adds up the counts of shards by name; a sum of counters would leave out those that are 0."""
    total: Counter[str] = Counter()
    for shard in shards:
        total.update(shard.counts)
    return dict(total)


def _write(store: ArtifactStore, trained: Shard, tables: Mapping[str, pa.Table], card: str, out: Path) -> None:
    """Writes the result as files; `model` comes last, and is whole or not there."""
    if trained.model is None:
        raise DamagedError("training gave no model")
    was_there, unfinished = out.exists(), temporary_for(out / "model")
    try:
        sweep(out / "model")
        store.fetch_files(log_folder(trained.rows), out)
        for name, table in tables.items():
            if table.num_rows or name == "quarantine":
                write_parquet(out / f"{name}.parquet", SWAPS if name == "swaps" else QUARANTINE, table)
        with store.open_folder(trained.model) as folder:
            for name in file_digests(folder):
                write_atomically(unfinished / name, (folder / name).read_bytes())
        if not (unfinished / CARD).exists():
            write_atomically(unfinished / CARD, card.encode())
        unfinished.rename(out / "model")
    except BaseException:
        shutil.rmtree(unfinished if was_there else out, ignore_errors=True)
        raise
