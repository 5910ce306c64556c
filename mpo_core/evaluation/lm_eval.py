"""Measures what a model can do by tasks of lm-eval, an extra that runs in a process of its own."""

import importlib.util
import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from mpo_core.contract.errors import BadInputError, installation
from mpo_core.contract.metric import ACCURACY
from mpo_core.contract.tables import COMPARISONS, TASK_ITEMS
from mpo_core.evaluation.comparison import paired_row
from mpo_core.evaluation.metrics import mean_row
from mpo_core.evaluation.shares import Share
from mpo_core.evaluation.statistics import add_holm, share_interval
from mpo_core.languages.known import LANGUAGES
from mpo_core.models.load import pick_device
from mpo_core.settings import LmEvalSettings, ModelSettings

_WHERE = "evaluation.lm_eval"
_POLL = 1.0  # seconds between two looks at the process


class Scores(NamedTuple):
    """The scores of a model's items, and the tasks that lm-eval does not have, such as `mgsm_direct_ko`."""

    items: pa.Table
    missing: list[str]


def require_lm_eval() -> None:
    """Checks that lm-eval is installed.

    Raises:
        BadInputError: it is not.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise BadInputError("lm-eval is not installed", where=_WHERE, fix=installation("lm-eval"))


def score_tasks(
    model: Path,
    model_settings: ModelSettings,
    settings: LmEvalSettings,
    languages: Sequence[str],
    *,
    work: Path,
    alive: Callable[[], None] = lambda: None,
) -> Scores:
    """Runs lm-eval on a model, in a process of its own.

    Args:
        model: the model's folder.
        model_settings: its number format, device, and whether its own code may run.
        settings: the tasks.
        languages: codes of the languages, the dominant one first; see `places`.
        work: a folder for the files of this process.
        alive: called about once a second while lm-eval runs; what it raises ends lm-eval.

    Raises:
        BadInputError: lm-eval is not installed or failed, or has none of the tasks.
    """
    require_lm_eval()
    work.mkdir(mode=0o700, parents=True, exist_ok=True)
    tasks = places(settings.tasks, languages)
    job = {
        "tasks": tasks,
        "include_path": settings.include_path,
        "model": str(model),
        "settings": model_settings.model_dump(mode="json"),
        "model_args": {"dtype": model_settings.dtype, "trust_remote_code": model_settings.trust_remote_code},
        "limit": settings.limit,
        "batch_size": settings.batch_size,
        "chat": settings.chat,
        "device": pick_device(model_settings.device),
        "out": str(work / "result.json"),
    }
    (work / "job.json").write_text(json.dumps(job), encoding="utf-8")
    _run([sys.executable, "-m", "mpo_core.evaluation.lm_eval_child", str(work / "job.json")], work / "log.txt", alive)
    result = json.loads((work / "result.json").read_text(encoding="utf-8"))
    if not result["items"]:
        raise BadInputError(
            f"lm-eval has none of the tasks {', '.join(tasks)}",
            where=_WHERE,
            fix="Correct evaluation.lm_eval.tasks; `lm_eval ls tasks` lists the names, include_path adds your own.",
        )
    return Scores(TASK_ITEMS.build(result["items"]), result["missing"])


def places(names: Sequence[str], languages: Sequence[str]) -> dict[str, dict[str, str]]:
    """Returns benchmark and language of each task of lm-eval, by its name.

    `{language}` in a name stands for each language in turn. A name without it counts for the language whose code is
    one of its parts, such as `mgsm_direct_sw`, and without a code for the dominant language, which is the first of
    `languages`.

    Raises:
        BadInputError: a name without `{language}` has the codes of several languages, or that of one which is not
            among `languages`, or two names give one task.
    """
    tasks: dict[str, dict[str, str]] = {}
    for name in names:
        for code in languages if "{language}" in name else [_language(name, languages)]:
            task = name.replace("{language}", code)
            if task in tasks:
                raise BadInputError(f"the task {task} is named twice", where=f"{_WHERE}.tasks", fix="Name it once.")
            tasks[task] = {"benchmark": benchmark_name(name), "language": code}
    return tasks


def _language(name: str, languages: Sequence[str]) -> str:
    """Returns the code of the language for which a task without `{language}` in its name counts."""
    parts = {*re.split("[_-]", name)}
    codes = sorted(parts & {*languages}) or sorted(parts & LANGUAGES.keys()) or [languages[0]]
    if len(codes) > 1 or codes[0] not in languages:
        raise BadInputError(
            f"it is unclear for which language the task {name} counts: its name has {' and '.join(codes)}, and the run "
            f"has the languages {', '.join(languages)}",
            where=f"{_WHERE}.tasks",
            fix="Write {language} in place of the task's language, or give the task another name by a file in "
            f"evaluation.lm_eval.include_path with `group: NAME` and `task: [{name}]`.",
        )
    return codes[0]


def benchmark_name(task: str) -> str:
    """Returns a task's name without its place for the language: `mgsm_direct` for `mgsm_direct_{language}`."""
    return task.replace("{language}", "").strip("_-").replace("__", "_")


def _run(command: list[str], log: Path, alive: Callable[[], None]) -> None:
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                alive()
                try:
                    process.wait(_POLL)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if process.returncode:
        # Only the error's type: its text may quote an item.
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or [""]
        kind = lines[-1].partition(":")[0].strip()[:80]
        raise BadInputError(
            f"lm-eval failed ({kind or f'exit code {process.returncode}'}); its log is {log}",
            where=_WHERE,
            fix="Offline, set evaluation.lm_eval.include_path to task files with local data (docs/evaluation.md).",
        )


def task_metrics(items: pa.Table, *, model: str, confidence: float) -> list[dict[str, Any]]:
    """Returns rows of METRICS: the mean score by task and language, with the interval of lm-eval's own standard error.

    lm-eval's standard error of a mean is that of the sample; the interval takes Student's quantile. Where all items
    have one score that error is 0, and the interval would have no width: there it is Wilson's.
    """
    rows = []
    for (benchmark, code), values in _by_task(items).items():
        if len(values) > 1:
            row = mean_row(list(values.values()), confidence)
            row |= {"low": max(row["low"], 0.0), "high": min(row["high"], 1.0)}
            if len(set(values.values())) == 1:
                row |= share_interval(_shares(values).values(), confidence)._asdict()
            rows.append({"benchmark": benchmark, "model": model, "language": code, "metric": ACCURACY.name, **row})
    return rows


def compare_tasks(before: pa.Table, after: pa.Table, *, confidence: float) -> pa.Table:
    """Computes COMPARISONS of the scores by task and language, paired item by item, with exact McNemar tests."""
    first, second = _by_task(before), _by_task(after)
    rows = [
        {"benchmark": benchmark, "language": code, "metric": ACCURACY.name}
        | paired_row(_shares(values), _shares(second[benchmark, code]), confidence)
        for (benchmark, code), values in first.items()
        if not values.keys().isdisjoint(second.get((benchmark, code), {}))
    ]
    for benchmark in {row["benchmark"] for row in rows}:
        add_holm([row for row in rows if row["benchmark"] == benchmark])
    return COMPARISONS.build(rows)


def _shares(values: dict[str, float]) -> dict[str, Share]:
    return {item: Share(value, 1) for item, value in values.items()}


def _by_task(items: pa.Table) -> dict[tuple[str, str], dict[str, float]]:
    values: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for row in TASK_ITEMS.check(items).to_pylist():
        values[row["benchmark"], row["language"]][row["item_id"]] = row["value"]
    return dict(sorted(values.items()))
