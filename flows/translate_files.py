"""Translation of a file's texts, by the tasks and the cache of the pipeline: what `mpo translate` does."""

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from prefect import flow

from flows import stages
from flows.prefect_api import require_server
from flows.run import open_root, start_run
from flows.surroundings import require_writable
from flows.translate import Input, blocks_of, is_text, opened_chain, require_table
from mpo_core.contract.artifacts import ArtifactRef, ArtifactStore, Shard, sweep, temporary_for
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.tables import PROMPTS, QUARANTINE, TRANSLATED, TRANSLATIONS, TableSpec
from mpo_core.contract.translation import UnknownLanguageError
from mpo_core.files.messages import Fault
from mpo_core.languages.defects import damaged
from mpo_core.settings import PipelineConfig, TranslationSettings
from mpo_core.translation.memory import MemoryEngine
from mpo_core.translation.translate import Chain

Write = Callable[[pa.Table], None]


def translate_file(
    config: PipelineConfig, file: Path, out: Path, *, column: str, delimiter: str | None = None
) -> dict[str, Any]:
    """Translates a column of a file into every target language, block by block.

    `out` is Parquet or CSV in the long form of TRANSLATED; a quarantine file beside it has the rejected texts. If the
    run ends early, nothing is written, but the engines' replies are stored, and the next run continues from there.

    Raises:
        BadInputError: the file, an engine or a language cannot be used.
        StageFailedError: the last engine does not answer any more.
    """
    require_table(out)
    quarantine_path = out.with_suffix(f".quarantine{out.suffix}")
    _require_other(file, out, quarantine_path, config.translation)
    require_writable(out.parent, out)
    source, targets = config.languages.dominant, config.languages.targets
    with opened_chain(config.translation, config.run.root) as chain:
        memories = _memories(chain, source, targets)
    store = open_root(config)
    blocks = list(_stored(store, Input(file, column, delimiter), source))
    require_server()
    # An engine limits and retries its requests by itself, so tasks run one at a time and without retries.
    sequential = config.model_copy(update={"run": config.run.model_copy(update={"workers": 1, "retries": 0})})
    shards = translate_blocks(sequential, [block.prompts for block in blocks])
    tally = {target: _Tally() for target in targets}
    with _writer(out, TRANSLATED) as write, _writer(quarantine_path, QUARANTINE) as write_rejected:
        for block, by_target in zip(blocks, shards, strict=True):
            originals = store.read_table(block.prompts, PROMPTS)
            texts = dict(zip(originals["prompt_id"].to_pylist(), originals["text"].to_pylist(), strict=True))
            for target in targets:
                shard = by_target[target]
                rows = store.read_table(shard.rows, TRANSLATIONS)
                rejected = store.read_tables([shard.quarantine] if shard.quarantine else [], QUARANTINE)
                rejected = _named(rejected, block.faults, target)
                write(_with_source(rows, texts, source))
                write_rejected(rejected)
                tally[target].add(rows, rejected)
    summaries = {target: counts.summary() for target, counts in tally.items()}
    quarantined = sum(counts["rejected"] for counts in summaries.values())
    if not quarantined:
        quarantine_path.unlink()
    return {
        "languages": summaries,
        "memories": memories,
        "out": str(out),
        **({"quarantine": str(quarantine_path)} if quarantined else {}),
    }


@flow(name="translate-file")
def translate_blocks(config: PipelineConfig, blocks: list[ArtifactRef]) -> list[dict[str, Shard]]:
    """Translates blocks of texts into every target language."""
    with start_run(config) as run:
        texts = stages.translate(run, blocks)
        run.wait()
        translated = {key: run.result(text) for key, text in texts.items() if not isinstance(text, ArtifactRef)}
        return [{target: translated[target, block] for target in config.languages.targets} for block in blocks]


class _Block(NamedTuple):
    """A block of a file's texts as an artifact, and the faults of the other rows by row number."""

    prompts: ArtifactRef
    faults: dict[int, Fault]


def _stored(store: ArtifactStore, column: Input, source: str) -> Iterator[_Block]:
    """Stores the texts of a file in blocks; their ids are the row numbers. BadInputError: a bad row, or no row."""
    number = -1
    for number, (first, block) in enumerate(blocks_of(column)):
        # Translation reads ids and texts alone; the other columns of PROMPTS get fixed values.
        about = {"kind": "harmless", "split": "test", "source": "texts"}
        faults = {row: fault for row, text in enumerate(block, first) if (fault := _fault(text)) is not None}
        rows = [
            {"prompt_id": str(row), "row": row, "text": text, **about}
            for row, text in enumerate(block, first)
            if row not in faults
        ]
        table = PROMPTS.build(rows)
        yield _Block(store.write_table("prompts", PROMPTS, table, language=source, part=f"texts-{number:05d}"), faults)
    if number < 0:
        raise BadInputError("the file holds no row", where=str(column.file), fix="Give a file with at least one text.")


def _memories(chain: Chain, source: str, targets: list[str]) -> list[dict[str, Any]]:
    """Counts each memory's units in the source language, in each target, and in both."""
    counts = []
    for engine in chain.engines:
        if not isinstance(engine, MemoryEngine):
            continue
        for target in targets:
            with contextlib.suppress(UnknownLanguageError):  # another engine may know it
                units = engine.units(source, target)._asdict()
                counts.append({"memory": str(engine.path), "language": target, **units})
    return counts


def _require_other(file: Path, out: Path, quarantine_path: Path, settings: TranslationSettings) -> None:
    """Rejects an output that would overwrite the input or a file of an engine."""
    inputs = {file.resolve(), *(path.resolve() for engine in settings.engines for path in engine.files())}
    for output in (out, quarantine_path):
        if output.resolve() in inputs:
            raise BadInputError(
                "this file is an input, which the output would overwrite",
                where=f"--out {output}",
                fix="Name another file.",
            )


class _Tally:
    """Counts of one language's texts: translated by which engine, marked, or rejected for which reason."""

    def __init__(self) -> None:
        self.translated, self.rejected = 0, 0
        self.engines: Counter[str] = Counter()
        self.marks: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()

    def add(self, rows: pa.Table, rejected_rows: pa.Table) -> None:
        """Adds the rows of a block to the counts."""
        self.translated += rows.num_rows
        self.rejected += rejected_rows.num_rows
        self.engines.update(rows["engine"].to_pylist())
        self.marks.update(itertools.chain.from_iterable(rows["marks"].to_pylist()))
        self.reasons.update(rejected_rows["reason"].to_pylist())

    def summary(self) -> dict[str, Any]:
        """Returns the counts as plain data."""
        counts = {"engines": self.engines, "marked": self.marks, "reasons": self.reasons}
        plain = {name: dict(counter.most_common()) for name, counter in counts.items()}
        return {"translated": self.translated, "rejected": self.rejected, **plain}


def _fault(text: str | Fault) -> Fault | None:
    """Returns why a row of the file cannot be translated."""
    if isinstance(text, Fault):
        return text
    if not is_text(text):
        return Fault("empty_text", "no text in this row")
    return (
        Fault("invalid_text", "holds halves of surrogate pairs, which no file can store")
        if damaged(text, like=text)
        else None
    )


def _with_source(rows: pa.Table, originals: dict[str, str], source: str) -> pa.Table:
    ids = rows["prompt_id"].to_pylist()
    columns = {
        "row": pa.array([int(prompt_id) for prompt_id in ids], pa.int64()),
        "source_language": pa.array([source] * len(ids), pa.string()),
        "source": pa.array([originals[prompt_id] for prompt_id in ids], pa.string()),
    }
    columns |= {name: rows[name] for name in TRANSLATED.schema.names if name not in columns}
    return pa.table(columns)


def _named(rejected_rows: pa.Table, faults: dict[int, Fault], target: str) -> pa.Table:
    """Gives rejected rows the row numbers of the file as ids, and adds the rows that have no text."""
    rows = [row | {"row_id": f"{row['row_id'].split('/')[0]}/{target}"} for row in rejected_rows.to_pylist()]
    rows += [
        {"row_id": f"{row}/{target}", "language": target, "reason": fault.reason, "detail": fault.detail}
        for row, fault in faults.items()
    ]
    return QUARANTINE.build(sorted(rows, key=lambda row: int(row["row_id"].split("/")[0])))


@contextlib.contextmanager
def _writer(path: Path, spec: TableSpec) -> Iterator[Write]:
    """Writes a table in parts into a private temporary file, which gets its name when it is whole."""
    temporary = temporary_for(path)
    try:
        sweep(path)
        temporary.touch(mode=0o600)
        if path.suffix == ".csv":
            flat = pa.schema([pa.field(f.name, _flat(f.type)) for f in spec.schema if f.name != "gates"])
            with pyarrow.csv.CSVWriter(temporary, flat) as csv_writer:
                yield lambda part: csv_writer.write_table(_flattened(spec.check(part), flat))
        else:
            with pq.ParquetWriter(temporary, spec.schema, compression="zstd") as writer:
                yield lambda part: writer.write_table(spec.check(part))
        temporary.replace(path)
    except OSError as error:
        raise BadInputError(
            f"cannot write ({error.strerror or type(error).__name__})",
            where=str(path),
            fix="Make space, or choose another folder. The translations received so far are kept.",
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def _flat(kind: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_list(kind) else kind


def _flattened(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        pa.array([" ".join(value) for value in table[f.name].to_pylist()], pa.string())
        if pa.types.is_list(table.schema.field(f.name).type)
        else table[f.name]
        for f in schema
    ]
    return pa.table(columns, schema=schema)
