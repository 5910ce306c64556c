"""Runs lm-eval in a process of its own: `python -m mpo_core.evaluation.lm_eval_child JOB.json`.

lm-eval sets seeds and log levels of the whole process, and its tasks may run code of their own.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mpo_core.settings import ModelSettings

_METRICS = ("acc,none", "exact_match,flexible-extract", "exact_match,strict-match", "exact_match,none")
"""The metrics that are looked for, as lm-eval names them: metric and filter."""


def main(job_file: str) -> None:
    """Evaluates the model of a job on its tasks, and writes the score of every item as JSON beside the job."""
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    from lm_eval import simple_evaluate  # type: ignore[import-not-found]
    from lm_eval.tasks import TaskManager  # type: ignore[import-not-found]

    from mpo_core.models import load_tokenizer

    manager = TaskManager(include_path=job["include_path"])
    known = set(manager.all_tasks)
    tasks = {name: place for name, place in job["tasks"].items() if name in known}
    result: dict[str, Any] = {"missing": sorted(job["tasks"].keys() - tasks.keys()), "items": []}
    if tasks:
        # Ours, so that both models have the chat template of the settings, and the tokens that they are trained on.
        tokenizer = load_tokenizer(Path(job["model"]), ModelSettings.model_validate(job["settings"]))
        evaluated = simple_evaluate(
            model="hf",
            model_args={"pretrained": job["model"], "tokenizer": tokenizer, **job["model_args"]},
            tasks=list(tasks),
            task_manager=manager,
            limit=job["limit"],
            batch_size=job["batch_size"],
            device=job["device"],
            apply_chat_template=job["chat"],
            bootstrap_iters=0,
        )
        if evaluated is None:
            raise RuntimeError("lm-eval gave no result")
        for name, place in tasks.items():
            for part in parts(name, evaluated.get("group_subtasks", {})):
                result["items"] += items(part, place, evaluated["samples"].get(part, []))
    Path(job["out"]).write_text(json.dumps(result), encoding="utf-8")


def parts(task: str, groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Returns the tasks of a group of tasks, whose members may be groups too; a single task is its only part."""
    return [part for member in groups.get(task, ()) for part in parts(member, groups)] or [task]


def items(task: str, place: dict[str, str], samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the score of every item of a task, by the first metric that lm-eval has computed of those looked for."""
    for wanted in _METRICS:
        metric, name = wanted.split(",")
        of_filter = [sample for sample in samples if sample.get("filter") == name and metric in sample]
        if of_filter:
            return [
                {**place, "item_id": f"{task}/{sample['doc_id']}", "value": float(sample[metric])}
                for sample in of_filter
            ]
    raise RuntimeError(f"task {task} has none of the metrics {', '.join(_METRICS)}")


if __name__ == "__main__":
    main(sys.argv[1])
