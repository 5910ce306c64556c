"""The report of a run: page, summary, Prefect artifacts."""

import hashlib
from datetime import UTC, datetime
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.events import emit_event

from flows.categories import category_figures
from flows.pairs_card import pairs_card
from flows.run import Future, Run, Step
from flows.stages import Change, Evaluation, Pairs, figures
from flows.stages.utility import utility_cards
from mpo_core import registry, reporting
from mpo_core.contract.artifacts import Shard
from mpo_core.contract.tables import COMPARISONS, PROMPTS, QUARANTINE, RESPONSES, TRAINING_LOG, VERDICTS
from mpo_core.prompts.load import count_kinds
from mpo_core.reporting import RunSummary
from tasks.model import ModelFolder

_EXAMPLES_PER_LANGUAGE = 2


def write_report(
    run: Run, base: ModelFolder, pairs: Pairs, trained: Future, change: Change, settled: registry.Settled
) -> RunSummary:
    """Writes the page and its summary with the resolved settings beside them, and shows Prefect the figures."""
    steps = run.wait()
    config, store = run.config, run.store
    since = store.read_table(run.result(change.since.comparison).rows, COMPARISONS).to_pylist() if change.since else []
    tests = [run.result(future).rows for future in change.all_comparisons]
    sources = _sources(run)
    finished = datetime.now(UTC)
    summary = RunSummary(
        run=config.run.name,
        started=run.started,
        finished=finished,
        seconds=(finished - run.started).total_seconds(),
        dominant=config.languages.dominant,
        targets=config.languages.targets,
        config=run.settings,
        packages=run.packages(),
        base_model=config.model.path,
        base_digest=base.sha256,
        stages=[_stage(run, step) for step in steps],
        quarantine=_quarantine(run, steps),
        metrics=figures(run, change).to_pylist(),
        comparisons=store.read_tables(tests, COMPARISONS).to_pylist(),
        categories=category_figures(run, change).to_pylist(),
        benchmarks=[
            reporting.BenchmarkCard(),
            *(measured.prompts.card for measured in change.after.benchmarks),
            *utility_cards(run, figures(run, change)),
        ],
        gate=settled.gate,
        since=since,
        since_version=change.since.version if change.since else None,
        pairs=pairs_card(run, pairs),
        training=_training_log(run, run.result(trained)),
        artifacts=[ref for step in steps for ref in step.shard.refs],
        inputs=[source.name for source in sources],
        version=settled.version.version,
        promoted_version=settled.in_use,
        registry=settled.outcome,
        kinds=_kinds(run, steps),
        sources=sources,
        examples=_examples(run, change.before, change.after),
    )
    run.write_settings()
    reporting.write(summary, store, run.folder)
    tell_prefect(summary)
    return summary


def _sources(run: Run) -> list[reporting.SourceLicence]:
    """Lists the prompt sources, each once, with the licence that the profile states."""
    licences: dict[str, str | None] = {}
    for source in run.config.prompts.sources:
        name = getattr(source, "path", source.source)
        licences[name] = source.licence or licences.get(name)
    return [reporting.SourceLicence(name=name, licence=licence) for name, licence in licences.items()]


def _kinds(run: Run, steps: list[Step]) -> dict[str, dict[str, int]]:
    """Counts the harmful and harmless prompts of every source."""
    prompts_step = next(step for step in steps if step.stage == "prompts")
    return count_kinds(run.store.read_table(prompts_step.shard.rows, PROMPTS))


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
    counts: dict[tuple[str, str | None, str], int] = {}
    for step in steps:
        if step.shard.quarantine is not None and step.shard.quarantine.rows:
            for row in run.store.read_table(step.shard.quarantine, QUARANTINE).to_pylist():
                key = (step.stage, step.shard.rows.language, row["reason"])
                counts[key] = counts.get(key, 0) + 1
    return [
        reporting.QuarantineCount(stage=stage, language=language, reason=reason, count=count)
        for (stage, language, reason), count in counts.items()
    ]


def _training_log(run: Run, trained: Shard) -> list[dict[str, float | None]]:
    log: dict[int, dict[str, float | None]] = {}
    for row in run.store.read_table(trained.rows, TRAINING_LOG).to_pylist():
        log.setdefault(row["step"], {"step": row["step"]})[row["metric"]] = row["value"]
    return [log[step] for step in sorted(log)]


def _examples(run: Run, before: Evaluation, after: Evaluation) -> list[reporting.Example]:
    """Samples a few prompts per language, by hash and not by how well they were answered."""
    examples = []
    for (language, block), future in before.answers.items():
        first = _first_samples(run, future, before.verdicts[language, block])
        second = _first_samples(run, after.answers[language, block], after.verdicts[language, block])
        kinds = {row["prompt_id"]: row["kind"] for row in run.store.read_table(block, PROMPTS).to_pylist()}
        prompt_ids = sorted(first.keys() & second.keys(), key=lambda i: hashlib.sha256(i.encode()).digest())
        for kind in ("harmful", "harmless"):
            for prompt_id in [i for i in prompt_ids if kinds[i] == kind][:_EXAMPLES_PER_LANGUAGE]:
                old, new = first[prompt_id], second[prompt_id]
                examples.append(
                    reporting.Example(
                        prompt_id=prompt_id,
                        language=language,
                        kind=kind,
                        prompt=old["prompt"],
                        before=old["text"],
                        after=new["text"],
                        verdict_before=old["verdict"],
                        verdict_after=new["verdict"],
                    )
                )
    return examples


def _first_samples(run: Run, answers: Future, verdicts: Future) -> dict[str, dict[str, Any]]:
    """Returns the answer and the verdict of each prompt's first sample, by prompt id."""
    verdict_by_prompt = {
        row["prompt_id"]: "refused" if row["refusal"] else row["verdict"]
        for row in run.store.read_table(run.result(verdicts).rows, VERDICTS).to_pylist()
        if row["sample"] == 0
    }
    return {
        row["prompt_id"]: {**row, "verdict": verdict_by_prompt[row["prompt_id"]]}
        for row in run.store.read_table(run.result(answers).rows, RESPONSES).to_pylist()
        if row["sample"] == 0
    }


def tell_prefect(summary: RunSummary) -> None:
    """Creates Prefect artifacts of the evaluation and an event of the gate's decision: figures alone, no texts."""
    create_table_artifact(
        key="mpo-evaluation",
        table=reporting.by_language([row.model_dump() for row in summary.metrics], summary.cards),
        description=f"Evaluation of run {summary.run}: before and after",
    )
    create_markdown_artifact(key="mpo-report", markdown=reporting.markdown(summary), description=summary.run)
    if summary.since:
        create_table_artifact(
            key="mpo-since-promoted",
            table=[row.model_dump() for row in summary.since],
            description=f"Run {summary.run} against {summary.since_version}, the version promoted before",
        )
    if summary.gate is not None:
        # An automation calls the webhook on a refusal.
        emit_event(
            f"mpo.gate.{'passed' if summary.gate.promoted else 'refused'}",
            resource={"prefect.resource.id": f"mpo.run.{summary.run}", "prefect.resource.name": summary.run},
            payload={
                "version": summary.version,
                "reason": summary.gate.reason,
                "registry": summary.registry,
                "promoted": summary.promoted_version,
            },
        )
