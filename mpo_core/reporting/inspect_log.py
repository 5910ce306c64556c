"""Writes the answers of one model to one set of prompts as a log of inspect_ai, which `inspect view` shows."""

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC
from pathlib import Path
from typing import Any

from mpo_core.reporting.summary import Model, RunSummary

_SCORER = "judge"
_STOP = {"stop": "stop", "length": "max_tokens"}


def write_inspect_log(
    folder: Path, summary: RunSummary, role: Model, benchmark: str, answers: Iterable[dict[str, Any]]
) -> None:
    """Writes the log, sample by sample, so that not all of them are in memory.

    It is called by moment, benchmark and model, as inspect calls its own; `answers` are rows as in `answers.csv`.
    """
    name, identifier = summary.models.get(role, role), _identifier(summary, role, benchmark)
    # `inspect view` lists no file whose name begins otherwise.
    task = f"{benchmark}-{role}".replace("_", "-")
    path = folder / f"{summary.started.astimezone(UTC):%Y-%m-%dT%H-%M-%S+00-00}_{task}_{identifier}.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(_head(summary, role, benchmark, name, identifier), ensure_ascii=False)[:-1])
        file.write(', "samples": [')
        for number, answer in enumerate(answers):
            file.write(",\n" if number else "\n")
            json.dump(_sample(answer, name), file, ensure_ascii=False)
        file.write("\n]}\n")


def _identifier(summary: RunSummary, role: Model, benchmark: str) -> str:
    return hashlib.sha256(f"{summary.started} {summary.base_digest} {benchmark} {role}".encode()).hexdigest()[:22]


def _head(summary: RunSummary, role: Model, benchmark: str, name: str, identifier: str) -> dict[str, Any]:
    rows = [row for row in summary.metrics if (row.benchmark, row.model) == (benchmark, role)]
    answers = sum(
        sum(row.counts.values()) for row in summary.outcomes if (row.benchmark, row.model) == (benchmark, role)
    )
    scores = [
        {
            "name": code,
            "scorer": _SCORER,
            "metrics": {row.metric: {"name": row.metric, "value": row.value} for row in rows if row.language == code},
        }
        for code in summary.languages
        if any(row.language == code for row in rows)
    ]
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": identifier,
            "run_id": identifier,
            "task_id": identifier,
            "created": summary.started.isoformat(),
            "task": benchmark,
            "dataset": {"name": benchmark, "samples": answers},
            "model": name,
            "config": {},
            "packages": summary.packages,
            "metadata": summary.judge,
            "viewer": {"trust_content": False},  # an answer is shown as text, whatever markup it holds
        },
        "plan": {"name": "mpo evaluate", "steps": [], "config": {}},
        "results": {"total_samples": answers, "completed_samples": answers, "scores": scores},
        "stats": {"started_at": summary.started.isoformat(), "completed_at": summary.finished.isoformat()},
    }


def _sample(answer: dict[str, Any], name: str) -> dict[str, Any]:
    reply = {"role": "assistant", "content": answer["answer"]}
    stop = _STOP.get(answer["finish_reason"] or "", "unknown")
    metadata = {key: answer[key] for key in ("language", "kind", "category", "verdict", "refusal")}
    return {
        "id": f"{answer['prompt_id']}/{answer['language']}",
        "epoch": answer["sample"] + 1,
        "input": answer["prompt"],
        "target": "",
        "messages": [{"role": "user", "content": answer["prompt"]}, reply],
        "output": {"model": name, "choices": [{"message": reply, "stop_reason": stop}]},
        "scores": {_SCORER: {"value": answer["outcome"], "answer": answer["answer"], "explanation": answer["reason"]}},
        "metadata": metadata,
    }
