"""The summary of a run: what its report is made of, read from the artifacts of its tasks."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from flows.categories import category_figures
from flows.run import Future, Run, Step
from flows.stages import Measured
from mpo_core import reporting
from mpo_core.contract.artifacts import ArtifactRef
from mpo_core.contract.judge import outcome
from mpo_core.contract.tables import COMPARISONS, METRICS, PROMPTS, QUARANTINE, RESPONSES, TRANSLATIONS, VERDICTS
from mpo_core.evaluation.outcomes import flips, outcome_counts
from mpo_core.reporting import RunSummary
from mpo_core.reporting.summary import BenchmarkCard, Model
from tasks.model import ModelFolder

_EXAMPLES_PER_LANGUAGE = 2
Evaluated = Mapping[Model, Sequence[Measured]]
"""The results of each model by its role (before, after, or model), on the same sets of prompts."""


def summarise(
    run: Run, base: ModelFolder, evaluated: Evaluated, comparisons: Iterable[Future], /, **more: Any
) -> RunSummary:
    """Makes the summary of a run from its tasks, which are waited for; `more` are further fields of it."""
    steps = run.wait()
    config, store = run.config, run.store
    figures = [run.result(measured.metrics).rows for parts in evaluated.values() for measured in parts]
    tests = [run.result(future).rows for future in comparisons]
    finished = datetime.now(UTC)
    fields: dict[str, Any] = {
        "run": config.run.name,
        "started": run.started,
        "finished": finished,
        "seconds": (finished - run.started).total_seconds(),
        "dominant": config.languages.dominant,
        "targets": config.languages.targets,
        "config": run.settings,
        "packages": run.packages(),
        "base_model": config.model.path,
        "base_digest": base.sha256,
        "stages": [_stage(run, step) for step in steps],
        "quarantine": _quarantine(run, steps),
        "metrics": store.read_tables(figures, METRICS).to_pylist(),
        "comparisons": store.read_tables(tests, COMPARISONS).to_pylist(),
        "benchmarks": [measured.prompts.card for measured in next(iter(evaluated.values()))],
        "categories": category_figures(run, evaluated).to_pylist(),
        "outcomes": _outcomes(run, evaluated),
        "flips": _flips(run, evaluated),
        "judge": config.judging.card(),
        "artifacts": [ref for step in steps for ref in step.shard.refs],
        "examples": _examples(run, evaluated),
    }
    fields |= more
    measured_by = {measured.prompts.card.name: measured for measured in next(iter(evaluated.values()))}
    fields["benchmarks"] = [
        _complete(run, card, measured_by[card.name]) if card.name in measured_by else card
        for card in fields["benchmarks"]
    ]
    return RunSummary.model_validate(fields)


def _complete(run: Run, card: BenchmarkCard, measured: Measured) -> BenchmarkCard:
    """Adds to a card by what two runs can be compared: the digests of its prompts, and the card of its own judge."""
    texts: dict[str, list[tuple[str, str]]] = {}
    for (language, block), prompts in measured.prompts.texts.items():
        blocks = run.store.read_table(block, PROMPTS)
        kinds = dict(zip(blocks["prompt_id"].to_pylist(), blocks["kind"].to_pylist(), strict=True))
        table = blocks if isinstance(prompts, ArtifactRef) else _read(run, prompts, TRANSLATIONS)
        rows = zip(table["prompt_id"].to_pylist(), table["text"].to_pylist(), strict=True)
        texts.setdefault(language, []).extend((kinds[prompt_id], text) for prompt_id, text in rows)
    digests = {
        language: hashlib.sha256(json.dumps(sorted(rows)).encode()).hexdigest() for language, rows in texts.items()
    }
    own = measured.prompts.benchmark.judging
    return card.model_copy(update={"digests": digests, "judge_card": {} if own is None else own.card()})


def _stage(run: Run, step: Step) -> reporting.StageSummary:
    shard = step.shard
    return reporting.StageSummary(
        stage=step.stage,
        label=step.label,
        language=shard.rows.language,
        state="computed" if run.computed(step) else "cached",
        rows=shard.rows.rows,
        quarantined=shard.quarantine.rows if shard.quarantine else 0,
        seconds=shard.seconds,
        counts=shard.counts,
    )


def _quarantine(run: Run, steps: list[Step]) -> list[reporting.QuarantineCount]:
    counts: Counter[tuple[str, str | None, str]] = Counter()
    for step in steps:
        if step.shard.quarantine is not None and step.shard.quarantine.rows:
            for reason in run.store.read_table(step.shard.quarantine, QUARANTINE)["reason"].to_pylist():
                counts[step.stage, step.shard.rows.language, reason] += 1
    return [
        reporting.QuarantineCount(stage=stage, language=language, reason=reason, count=count)
        for (stage, language, reason), count in counts.items()
    ]


def _outcomes(run: Run, evaluated: Evaluated) -> list[dict[str, Any]]:
    return [
        {"benchmark": measured.prompts.card.name, "model": role, **row._asdict()}
        for role, parts in evaluated.items()
        for measured in parts
        for row in outcome_counts(_read(run, future, VERDICTS) for future in measured.verdicts.values())
    ]


def _flips(run: Run, evaluated: Evaluated) -> list[dict[str, Any]]:
    if len(evaluated) == 1:
        return []
    return [
        {"benchmark": old.prompts.card.name, **row._asdict()}
        for old, new in zip(*evaluated.values(), strict=True)
        for row in flips(
            (_read(run, verdicts, VERDICTS), _read(run, new.verdicts[key], VERDICTS))
            for key, verdicts in old.verdicts.items()
        )
    ]


def _examples(run: Run, evaluated: Evaluated) -> list[reporting.Example]:
    """Draws a few prompts per benchmark, language and kind, by hash and not by how well they were answered."""
    examples = []
    *earlier, later = evaluated.values()
    for number, measured in enumerate(later):
        drawn: Counter[tuple[str, str]] = Counter()
        for language, block in measured.answers:
            if all(drawn[language, kind] == _EXAMPLES_PER_LANGUAGE for kind in ("harmful", "harmless")):
                continue
            first = _first_samples(run, earlier[0][number], (language, block)) if earlier else {}
            second = _first_samples(run, measured, (language, block))
            kinds = {row["prompt_id"]: row["kind"] for row in run.store.read_table(block, PROMPTS).to_pylist()}
            shared = second.keys() & first.keys() if earlier else second.keys()
            for prompt_id in sorted(shared, key=lambda i: hashlib.sha256(i.encode()).digest()):
                kind = kinds[prompt_id]
                if drawn[language, kind] == _EXAMPLES_PER_LANGUAGE:
                    continue
                drawn[language, kind] += 1
                old, new = first.get(prompt_id), second[prompt_id]
                examples.append(
                    reporting.Example(
                        benchmark=measured.prompts.card.name,
                        prompt_id=prompt_id,
                        language=language,
                        kind=kind,
                        prompt=new["prompt"],
                        before=old["text"] if old else None,
                        after=new["text"],
                        verdict_before=old["outcome"] if old else None,
                        verdict_after=new["outcome"],
                    )
                )
    return examples


def _first_samples(run: Run, measured: Measured, key: tuple[str, ArtifactRef]) -> dict[str, dict[str, Any]]:
    """Returns the answer and the outcome of each prompt's first sample, by prompt id."""
    outcomes = {
        row["prompt_id"]: outcome(row["verdict"], refusal=row["refusal"]).replace("_", " ")
        for row in _read(run, measured.verdicts[key], VERDICTS).to_pylist()
        if row["sample"] == 0
    }
    return {
        row["prompt_id"]: {**row, "outcome": outcomes[row["prompt_id"]]}
        for row in _read(run, measured.answers[key], RESPONSES).to_pylist()
        if row["sample"] == 0
    }


def _read(run: Run, future: Future, spec: Any) -> Any:
    return run.store.read_table(run.result(future).rows, spec)
