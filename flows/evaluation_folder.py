"""Writes the folder of `mpo evaluate --out`: answers and verdicts as tables, figures, page, summary, and exports."""

import csv
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from flows.surroundings import require_writable
from mpo_core import reporting
from mpo_core.contract.artifacts import ArtifactRef, ArtifactStore, write_parquet
from mpo_core.contract.benchmark import HELD_OUT
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.judge import outcome
from mpo_core.contract.tables import COMPARISONS, METRICS, PROMPTS, QUARANTINE, RESPONSES, VERDICTS, TableSpec
from mpo_core.reporting import RunSummary
from mpo_core.reporting.inspect_log import write_inspect_log
from mpo_core.reporting.summary import Model

_COLUMNS = ("benchmark", "model", "language", "prompt_id", "sample", "kind", "category", "prompt", "answer")
_OF_VERDICT = ("outcome", "verdict", "refusal", "reason", "finish_reason")


class Answered(NamedTuple):
    """One block of prompts that one model answered: prompts, answers, verdicts, and the tables of rejected rows."""

    role: Model
    benchmark: str
    prompts: ArtifactRef
    answers: ArtifactRef
    verdicts: ArtifactRef
    quarantine: tuple[ArtifactRef, ...]


class OutFolder(NamedTuple):
    """The folder that an evaluation is written into, and what beside tables and page goes there."""

    path: Path
    csv: bool = False
    inspect: bool = False
    texts: bool = False

    def require_new(self) -> None:
        """Checks, before anything is computed, that the folder can be made or is empty.

        Raises:
            BadInputError: it is not empty or cannot be made.
        """
        if self.path.is_dir() and any(self.path.iterdir()):
            raise BadInputError("the folder is not empty", where=f"--out {self.path}", fix="Name a new folder.")
        require_writable(self.path, self.path)

    def write(self, store: ArtifactStore, summary: RunSummary, answered: list[Answered], rejected: pa.Table) -> None:
        """Writes everything beside the folder and gives it its name at the end: the folder is whole, or not there.

        Args:
            store: where the tables are.
            summary: the contents of the page.
            answered: the blocks that the models answered.
            rejected: table QUARANTINE of the prompts that were rejected.

        Raises:
            BadInputError: the disk is full or the folder cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            beside = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.", dir=self.path.parent))
            try:
                self._write(beside, store, summary, answered, rejected)
                beside.rename(self.path)
            except BaseException:
                shutil.rmtree(beside, ignore_errors=True)
                raise
        except OSError as error:
            raise BadInputError(
                f"cannot write ({error.strerror or type(error).__name__})",
                where=f"--out {self.path}",
                fix="Make space, or name another new folder; finished work is saved.",
            ) from None

    def _write(
        self, folder: Path, store: ArtifactStore, summary: RunSummary, answered: list[Answered], rejected: pa.Table
    ) -> None:
        write_parquet(folder / "quarantine.parquet", QUARANTINE, rejected)
        metrics = METRICS.build(row.model_dump() for row in summary.metrics)
        write_parquet(folder / "metrics.parquet", METRICS, metrics)
        if not summary.alone:
            comparisons = COMPARISONS.build(row.model_dump() for row in summary.comparisons)
            write_parquet(folder / "comparisons.parquet", COMPARISONS, comparisons)
        for (role, benchmark), blocks in _grouped(answered).items():
            place = folder / role if benchmark == HELD_OUT else folder / role / benchmark
            _stream(place / "answers.parquet", RESPONSES, (store.read_table(b.answers, RESPONSES) for b in blocks))
            _stream(place / "verdicts.parquet", VERDICTS, (store.read_table(b.verdicts, VERDICTS) for b in blocks))
            _stream(place / "quarantine.parquet", QUARANTINE, (rejected_rows(store, b.quarantine) for b in blocks))
            if self.inspect:
                write_inspect_log(folder / "inspect", summary, role, benchmark, _joined(store, blocks))
        if self.csv:
            pa_csv.write_csv(metrics, _private(folder / "metrics.csv"))
            _write_rows(folder / "answers.csv", _joined(store, answered))
        for name, text in reporting.files(summary, texts=self.texts).items():
            _private(folder / name).write_text(text, encoding="utf-8")


def _grouped(answered: Iterable[Answered]) -> dict[tuple[Model, str], list[Answered]]:
    groups: dict[tuple[Model, str], list[Answered]] = {}
    for block in answered:
        groups.setdefault((block.role, block.benchmark), []).append(block)
    return groups


def _stream(path: Path, spec: TableSpec, tables: Iterable[pa.Table]) -> None:
    """Writes tables into one file, of which one at a time is in memory."""
    with pq.ParquetWriter(_private(path), spec.schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)


def rejected_rows(store: ArtifactStore, refs: Iterable[ArtifactRef]) -> pa.Table:
    """Reads rejected rows, with the language added to their ids: a prompt may fail in several."""
    rows = [row for ref in refs for row in store.read_table(ref, QUARANTINE).to_pylist()]
    return QUARANTINE.build([row | {"row_id": f"{row['row_id']}/{row['language']}"} for row in rows])


def _joined(store: ArtifactStore, blocks: Iterable[Answered]) -> Iterator[dict[str, Any]]:
    """Yields every answer with its prompt, its verdict and its outcome; one block is in memory."""
    for block in blocks:
        categories = {
            row["prompt_id"]: row["category"]
            for row in store.read_table(block.prompts, PROMPTS).select(["prompt_id", "category"]).to_pylist()
        }
        verdicts = {
            (row["prompt_id"], row["sample"]): row for row in store.read_table(block.verdicts, VERDICTS).to_pylist()
        }
        for row in store.read_table(block.answers, RESPONSES).to_pylist():
            verdict = verdicts[row["prompt_id"], row["sample"]]
            known = {**row, **verdict, "benchmark": block.benchmark, "model": block.role, "answer": row["text"]}
            known["category"] = categories.get(row["prompt_id"])
            known["outcome"] = outcome(verdict["verdict"], refusal=verdict["refusal"])
            yield {name: known[name] for name in _COLUMNS + _OF_VERDICT}


def _write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with _private(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS + _OF_VERDICT)
        writer.writeheader()
        writer.writerows(rows)


def _private(path: Path) -> Path:
    """Makes the file, which its owner alone may read, and returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    return path
