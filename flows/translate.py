"""The translation stage alone, from file to file: what `mpo translate` does."""

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard, get_args

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from mpo_core.contract.artifacts import scratch_path, sweep, temporary_for
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.tables import QUARANTINE, TRANSLATED, TableSpec
from mpo_core.contract.translation import ENGINES, UnknownLanguageError
from mpo_core.files.messages import Fault
from mpo_core.files.texts import read_texts
from mpo_core.settings import PipelineConfig, TranslationSettings
from mpo_core.translation.build import build_chain
from mpo_core.translation.engines.deep_translator import Service
from mpo_core.translation.machine import MachineEngine
from mpo_core.translation.memory import MemoryEngine
from mpo_core.translation.replies import REPLIES_FILE, Replies
from mpo_core.translation.translate import Chain, Text, translate_texts

_BLOCK = 512  # texts that are in memory at one time
OnProgress = Callable[[int, int], None]
Write = Callable[[pa.Table], None]

SERVICES: tuple[str, ...] = get_args(Service)


def engine_settings(named: str) -> dict[str, Any]:
    """The settings of an engine as the command names it: a service, `microworld`, or memory=FILE and the like.

    Raises:
        BadInputError: no engine is called so.
    """
    kind, _, value = named.partition("=")
    if kind in SERVICES and not value:
        return {"engine": "deep_translator", "service": kind}
    engine = ENGINES.implementations.get(kind)
    argument = None if engine is None else engine.argument
    if argument is not None:
        key, wanted = argument
        if value:
            return {"engine": kind, key: value}
        raise BadInputError(f"{kind} needs a value", where=f"--engine {named}", fix=f"Write {kind}={wanted}.")
    if engine is not None and not value:
        return {"engine": kind}
    forms = [k if e.argument is None else f"{k}={e.argument[1]}" for k, e in ENGINES.implementations.items()]
    raise BadInputError(
        "unknown engine",
        where=f"--engine {named}",
        fix=f"Name a service ({', '.join(SERVICES)}), or one of {', '.join(forms)}.",
    )


@contextlib.contextmanager
def opened_chain(
    settings: TranslationSettings, root: str, on_reply: Callable[[], None] = lambda: None, *, with_keys: bool = True
) -> Iterator[Chain]:
    """The engines, with the answers that a root has kept; an estimate asks nobody and needs no keys."""
    with Replies(scratch_path(root, REPLIES_FILE), attempt=settings.attempt) as replies:
        yield build_chain(settings, replies, on_reply, with_keys=with_keys)


class Input(NamedTuple):
    """A column of texts in a file."""

    file: Path
    column: str
    delimiter: str | None = None

    def texts(self) -> Iterator[str | Fault]:
        """The texts by row; see `read_texts`."""
        return read_texts(self.file, self.column, delimiter=self.delimiter)


def translate_file(
    config: PipelineConfig, file: Path, out: Path, *, column: str, delimiter: str | None = None, on_progress: OnProgress
) -> dict[str, Any]:
    """Translates a column of a file into every target, block by block.

    `out` is Parquet or CSV in the long form of TRANSLATED; what could not be translated lies beside it. If the run
    ends early, nothing is written, and what the engines answered is kept: the next run goes on.

    Raises:
        BadInputError: the file, an engine or a language is unusable.
        StageFailedError: the last engine does not answer any more.
    """
    require_table(out)
    quarantine_path = out.with_suffix(f".quarantine{out.suffix}")
    _require_other(file, out, quarantine_path, config.translation)
    source, targets = config.languages.dominant, config.languages.targets
    given = Input(file, column, delimiter)
    total = _count(given) * len(targets)
    tally = {target: _Tally() for target in targets}
    done = answered = 0

    def on_reply() -> None:
        nonlocal answered
        answered += 1
        on_progress(done + min(answered, _BLOCK), total)

    with (
        opened_chain(config.translation, config.run.root, on_reply) as chain,
        _writer(out, TRANSLATED) as write,
        _writer(quarantine_path, QUARANTINE) as write_rejected,
    ):
        memories = _memories(chain, source, targets)
        for first, block in _blocks(given):
            texts = [Text(str(first + n), "text", text) for n, text in enumerate(block) if _is_text(text)]
            faults = {first + n: _fault(text) for n, text in enumerate(block) if not _is_text(text)}
            for target in targets:
                rows, rejected_rows = translate_texts(texts, chain, source=source, target=target)
                write(
                    _with_source(
                        rows, dict(zip((t.prompt_id for t in texts), (t.text for t in texts), strict=True)), source
                    )
                )
                rejected_rows = _named(rejected_rows, faults, target)
                write_rejected(rejected_rows)
                tally[target].add(rows, rejected_rows)
                done, answered = done + len(block), 0
                on_progress(done, total)
    summaries = {target: counts.summary() for target, counts in tally.items()}
    quarantined = sum(counts["set_aside"] for counts in summaries.values())
    if not quarantined:
        quarantine_path.unlink()
    return {
        "languages": summaries,
        "memories": memories,
        "out": str(out),
        **({"quarantine": str(quarantine_path)} if quarantined else {}),
    }


def _memories(chain: Chain, source: str, targets: list[str]) -> list[dict[str, Any]]:
    """How many units each memory has in the source language, in each target, and in both."""
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
    """Refuses to write over what is read."""
    read = {file.resolve(), *(path.resolve() for engine in settings.engines for path in engine.files())}
    for written in (out, quarantine_path):
        if written.resolve() in read:
            raise BadInputError("this file is read", where=f"--out {written}", fix="Name another one to write.")


def require_table(out: Path) -> None:
    """Refuses a name that is of no kind of table that can be written.

    Raises:
        BadInputError: it ends neither in .parquet nor in .csv.
    """
    if out.suffix not in {".parquet", ".csv"}:
        raise BadInputError("unknown kind of file", where=f"--out {out}", fix="Name a .parquet or a .csv file.")


def estimate(
    config: PipelineConfig, file: Path, *, column: str, delimiter: str | None = None, with_keys: bool = True
) -> list[dict[str, Any]]:
    """What a translation would ask of the engines, by language: at most, for a later block may repeat a text.

    Raises:
        BadInputError: the file, an engine or a language is unusable.
    """
    source = config.languages.dominant
    estimates = []
    with opened_chain(config.translation, config.run.root, with_keys=with_keys) as chain:
        for target in config.languages.targets:
            counts: Counter[str] = Counter()
            engine_names: dict[str, None] = {}
            for _, block in _blocks(Input(file, column, delimiter)):
                _estimate(chain, [text for text in block if _is_text(text)], source, target, counts, engine_names)
            names = ("texts", "known", "kept", "requests", "characters")
            estimates.append({"language": target, **{n: counts[n] for n in names}, "engine": " ".join(engine_names)})
    return estimates


def _estimate(
    chain: Chain, texts: list[str], source: str, target: str, counts: Counter[str], engine_names: dict[str, None]
) -> None:
    """`known`: texts that a memory has; `kept`: pieces that a machine translator answered before."""
    counts["texts"] += len(texts)
    unknown: list[UnknownLanguageError] = []
    for engine in chain.engines:
        try:
            engine.check(source, target)
        except UnknownLanguageError as error:
            unknown.append(error)
            continue
        if isinstance(engine, MachineEngine):
            load = engine.load(texts, source, target)
            counts.update({"requests": load.requests, "characters": load.characters, "kept": load.known})
            engine_names[engine.name if engine.licence is None else f"{engine.name} ({engine.licence})"] = None
            return
        left = [t for t, r in zip(texts, engine.translate(texts, source, target), strict=True) if r.text is None]
        counts["known"] += len(texts) - len(left)
        texts = left
    if len(unknown) == len(chain.engines):
        raise unknown[0]


class _Tally:
    """What became of one language's texts."""

    def __init__(self) -> None:
        self.translated, self.rejected = 0, 0
        self.engines: Counter[str] = Counter()
        self.marks: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()

    def add(self, rows: pa.Table, rejected_rows: pa.Table) -> None:
        """Counts a block."""
        self.translated += rows.num_rows
        self.rejected += rejected_rows.num_rows
        self.engines.update(rows["engine"].to_pylist())
        self.marks.update(itertools.chain.from_iterable(rows["marks"].to_pylist()))
        self.reasons.update(rejected_rows["reason"].to_pylist())

    def summary(self) -> dict[str, Any]:
        """As plain data."""
        counts = {"engines": self.engines, "marked": self.marks, "reasons": self.reasons}
        plain = {name: dict(counter.most_common()) for name, counter in counts.items()}
        return {"translated": self.translated, "set_aside": self.rejected, **plain}


def _is_text(text: str | Fault) -> TypeGuard[str]:
    return isinstance(text, str) and bool(text.strip())


def _fault(text: str | Fault) -> Fault:
    return text if isinstance(text, Fault) else Fault("empty_text", "no text in this row")


def _count(given: Input) -> int:
    """The rows of a file; reads it to its end, so that a malformed row is reported before anybody is asked."""
    rows = sum(1 for _ in given.texts())
    if not rows:
        raise BadInputError("no rows", where=str(given.file), fix="Give a file with at least one text.")
    return rows


def _blocks(given: Input) -> Iterator[tuple[int, list[str | Fault]]]:
    texts = given.texts()
    for number in itertools.count():
        block = list(itertools.islice(texts, _BLOCK))
        if not block:
            return
        yield number * _BLOCK, block


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
    """Quarantine rows by the file's own row numbers, those of rows without a text among them."""
    rows = [row | {"row_id": f"{row['row_id'].split('/')[0]}/{target}"} for row in rejected_rows.to_pylist()]
    rows += [
        {"row_id": f"{row}/{target}", "language": target, "reason": fault.reason, "detail": fault.detail}
        for row, fault in faults.items()
    ]
    return QUARANTINE.build(sorted(rows, key=lambda row: int(row["row_id"].split("/")[0])))


@contextlib.contextmanager
def _writer(path: Path, spec: TableSpec) -> Iterator[Write]:
    """Writes a table in parts, private, and gives it its name when it is whole."""
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
            fix="Free space or choose another folder; what the engines answered is kept.",
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
