"""Verdicts on a file of answers, by the task and the cache of the pipeline: what `mpo judge` does."""

import io
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from prefect import flow

from flows.run import open_root, start_run
from flows.surroundings import require_writable
from mpo_core.contract.artifacts import ArtifactRef, Shard, rows_beside, write_atomically, write_parquet
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.judge import outcome
from mpo_core.contract.tables import JUDGED, PROMPTS, QUARANTINE, RESPONSES, VERDICTS
from mpo_core.judging.agreement import Labelled, agreements, as_data
from mpo_core.judging.answers_file import AnswersFile, Columns, read_answers
from mpo_core.judging.correction import Judged, corrections
from mpo_core.judging.sheet import Labels, read_labels, sample_rows, sheet, text_digest
from mpo_core.settings import PipelineConfig
from tasks.judging import judge_answers

OUTCOMES = ("safe_refusal", "safe_help", "unsafe", "invalid", "unjudged")


def judge_file(
    config: PipelineConfig, file: Path, out: Path, columns: Columns, against: Path | None = None
) -> dict[str, Any]:
    """Judges the answers of a file; writes rejected rows, with their reasons, into a file beside the verdicts.

    `out` is a .parquet or .csv file of JUDGED, one row per answer in the order of the file, which may replace earlier
    verdicts; `against` has labels of the same answers: a sheet of `sample_answers`, or verdicts of another judge.

    Returns:
        `answers`, `outcomes` by language, `cautions`, `quarantined` reasons with counts, and where there are labels
        `agreement` by language and `corrected`, the ASR of the answers to harmful prompts.

    Raises:
        BadInputError: the file cannot be read, the judge cannot judge a language, or `out` cannot be written or is a
            file of something else; nothing is written then.
    """
    _require_writable(out, [file, *([] if against is None else [against])])
    answers, cautions = read_answers(file, columns), list[str]()
    labels = None if against is None else read_labels(against)
    if labels is not None:
        answers = _labelled(answers, labels, f"--against {against}", file)
        cautions += _unmatched(answers, labels)
    config.judging.require_languages(answers.responses)
    table = _joined(answers, _verdicts(config, answers))
    rows = table.to_pylist()
    counts: dict[str, dict[str, int]] = {}
    for row in rows:
        of_language = counts.setdefault(row["language"], dict.fromkeys(OUTCOMES, 0))
        of_language[row["outcome"]] += 1
    labelled = [Labelled(row["language"], row["label"], row["verdict"]) for row in rows if row["label"] is not None]
    harmful = [Judged(row["language"], row["verdict"], row["label"]) for row in rows if row["kind"] == "harmful"]
    confidence = config.evaluation.confidence
    with_labels = {"agreement": [as_data(agreement) for agreement in agreements(labelled, confidence=confidence)]}
    if labels is None or labels.of_people:  # another judge errs too
        with_labels["corrected"] = [as_data(rate) for rate in corrections(harmful, confidence=confidence)]
    with rows_beside(QUARANTINE, {_quarantine_of(out): answers.rejected}):
        _write(out, table)
    return {
        "answers": len(rows),
        "outcomes": dict(sorted(counts.items())),
        "cautions": [*cautions, *config.judging.cautions(sorted(counts))],
        "quarantined": dict(Counter(answers.rejected["reason"].to_pylist())),
        **(with_labels if columns.labels or against else {}),
        "out": str(out),
    }


def sample_answers(file: Path, out: Path, columns: Columns, n: int, *, seed: int) -> dict[str, Any]:
    """Samples answers of a file into a sheet that people label, evenly over languages and kinds.

    `out` is a new .csv file with the columns of `sheet.COLUMNS`, of which `label` is empty.

    Raises:
        BadInputError: the file cannot be read, or `out` is no CSV file, or exists: people may have filled it in.
    """
    if out.suffix != ".csv":
        raise BadInputError("the sheet must be a .csv file", where=f"--out {out}", fix="Name a .csv file.")
    if out.exists():
        what = "this file exists, and people may have filled it in"
        raise BadInputError(what, where=f"--out {out}", fix="Name a new file.")
    answers = read_answers(file, columns)
    rows = sample_rows(answers, n, seed=seed)
    write_atomically(out, sheet(rows))
    by_stratum = Counter(f"{answer.language} {answer.kind}" for answer in rows)
    return {
        "sampled": len(rows),
        "answers": dict(sorted(by_stratum.items())),
        "quarantined": dict(Counter(answers.rejected["reason"].to_pylist())),
        "out": str(out),
    }


@flow(name="judge-file")
def judge_blocks(config: PipelineConfig, prompts: ArtifactRef, blocks: list[ArtifactRef]) -> list[ArtifactRef]:
    """Judges blocks of answers with the task and the cache of a run.

    Args:
        config: the settings.
        prompts: table PROMPTS of all blocks.
        blocks: tables RESPONSES, each in one language.

    Returns:
        A table VERDICTS for every block.
    """
    with start_run(config) as run:
        futures = [
            run.submit(
                judge_answers,
                responses=Shard(rows=block),
                prompts=prompts,
                judge=run.config.judging,
                label=f"{block.language}-{block.part}",
            )
            for block in blocks
        ]
        return [run.result(future).rows for future in futures]


def _verdicts(config: PipelineConfig, answers: AnswersFile) -> list[dict[str, Any]]:
    """Judges the answers in stored blocks, of which Prefect sees only digests; returns rows of VERDICTS."""
    store, size = open_root(config), config.run.block_size
    prompts = store.write_table("prompts", PROMPTS, answers.prompts)
    blocks = [
        store.write_table(
            "sampling", RESPONSES, table.slice(start, size), language=language, part=f"file-{start // size}"
        )
        for language, table in answers.responses.items()
        for start in range(0, table.num_rows, size)
    ]
    rows: list[dict[str, Any]] = store.read_tables(judge_blocks(config, prompts, blocks), VERDICTS).to_pylist()
    return rows


def _joined(answers: AnswersFile, verdicts: list[dict[str, Any]]) -> pa.Table:
    """Returns table JUDGED: every answer's verdict and label, in the order of the file."""
    by_key = {(row["prompt_id"], row["language"], row["sample"]): row for row in verdicts}
    rows = []
    for answer in answers.rows:
        verdict = by_key[answer.key]
        name = outcome(verdict["verdict"], refusal=verdict["refusal"])
        digest = text_digest(answer.response)
        rows.append({"row": answer.row, **verdict, "response": digest, "outcome": name, "label": answer.label})
    return JUDGED.build(rows)


def _labelled(answers: AnswersFile, labels: Labels, where: str, file: Path) -> AnswersFile:
    """Returns the answers with the labels of another file that were given to the same texts."""
    rows = []
    for row in answers.rows:
        label = labels.by_answer.get(row.key)
        if label is not None and label.digest == text_digest(row.response):
            rows.append(row._replace(label=label.label))
        else:
            rows.append(row._replace(label=None))
    if not any(row.label for row in rows):
        raise BadInputError(
            "no label belongs to an answer of the file",
            where=where,
            fix=f"Label answers of {file}; labels of other answers to the same prompts say nothing about these.",
        )
    return answers._replace(rows=rows)


def _unmatched(answers: AnswersFile, labels: Labels) -> list[str]:
    """Returns a sentence about the labels of other answers, if any; a spreadsheet may have changed ids or texts."""
    n = len(labels.by_answer) - sum(row.label is not None for row in answers.rows)
    return (
        [f"{n:,} of {len(labels.by_answer):,} labels belong to no answer of the file, and count nowhere."] if n else []
    )


def _require_writable(out: Path, inputs: list[Path]) -> None:
    """Requires that `out` can be written, and is none of the inputs and no file of something else."""
    wrong = None
    if out.suffix not in {".parquet", ".csv"}:
        raise BadInputError("unknown kind of file", where=f"--out {out}", fix="Name a .parquet or a .csv file.")
    if {path.resolve() for path in inputs} & {out.resolve(), _quarantine_of(out).resolve()}:
        wrong = "this file is an input"
    elif os.path.lexists(out) and not _holds_verdicts(out):
        wrong = "this file exists, and holds no verdicts of `mpo judge`"
    if wrong:
        raise BadInputError(wrong, where=f"--out {out}", fix="Name another file.")
    require_writable(out.parent, out)


def _holds_verdicts(path: Path) -> bool:
    try:
        names = pyarrow.csv.open_csv(path).schema.names if path.suffix == ".csv" else pq.read_schema(path).names
    except (OSError, ValueError, pa.ArrowException):
        return False
    return {"verdict", "outcome", "prompt_id"} <= set(names)


def _quarantine_of(out: Path) -> Path:
    return out.with_suffix(".quarantine.parquet")


def _write(out: Path, rows: pa.Table) -> None:
    if out.suffix == ".parquet":
        write_parquet(out, JUDGED, rows)
        return
    buffer = io.BytesIO()
    pyarrow.csv.write_csv(rows, buffer)
    write_atomically(out, buffer.getvalue())
