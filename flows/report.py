"""The report of a run: page, summary, Prefect artifacts."""

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.events import emit_event

from flows.pairs_card import pairs_card
from flows.run import Future, Run
from flows.stages import Change, Pairs, figures
from flows.stages.utility import utility_cards
from flows.summary import summarise
from mpo_core import registry, reporting
from mpo_core.contract.artifacts import Shard
from mpo_core.contract.tables import COMPARISONS, PROMPTS, TRAINING_LOG
from mpo_core.prompts.load import count_kinds
from mpo_core.reporting import RunSummary
from tasks.model import ModelFolder


def write_report(
    run: Run, base: ModelFolder, pairs: Pairs, trained: Future, change: Change, settled: registry.Settled
) -> RunSummary:
    """Writes the page and its summary with the resolved settings beside them, and shows Prefect the figures."""
    store = run.store
    since = store.read_table(run.result(change.since.comparison).rows, COMPARISONS).to_pylist() if change.since else []
    sources, metrics = _sources(run), figures(run, change)
    summary = summarise(
        run,
        base,
        {"before": change.before.measured, "after": change.after.measured},
        change.all_comparisons,
        metrics=metrics.to_pylist(),
        benchmarks=[*(part.prompts.card for part in change.after.measured), *utility_cards(run, metrics)],
        gate=settled.gate,
        since=since,
        since_version=change.since.version if change.since else None,
        pairs=pairs_card(run, pairs),
        training=_training_log(run, run.result(trained)),
        inputs=[source.name for source in sources],
        version=settled.version.version,
        promoted_version=settled.in_use,
        registry=settled.outcome,
        kinds=_kinds(run),
        sources=sources,
    )
    with reporting.exclusive(store, run.folder):
        earlier = reporting.keep_earlier(store, run.folder, summary.version)
        summary = summary.model_copy(update={"earlier": earlier})
        run.write_settings()
        reporting.write(summary, store, run.folder)
    if (model := change.after.model.ref) is not None:
        store.write_text(f"{model.path}/{reporting.CARD}", reporting.model_card(summary))
    tell_prefect(summary)
    return summary


def _sources(run: Run) -> list[reporting.SourceLicence]:
    """Lists the prompt sources, each once, with the licence that the profile states."""
    licences: dict[str, str | None] = {}
    for source in run.config.prompts.sources:
        name = getattr(source, "path", source.source)
        licences[name] = source.licence or licences.get(name)
    return [reporting.SourceLicence(name=name, licence=licence) for name, licence in licences.items()]


def _kinds(run: Run) -> dict[str, dict[str, int]]:
    """Counts the harmful and harmless prompts of every source."""
    prompts_step = next(step for step in run.steps if step.stage == "prompts")
    return count_kinds(run.store.read_table(prompts_step.shard.rows, PROMPTS))


def _training_log(run: Run, trained: Shard) -> list[dict[str, float | None]]:
    log: dict[int, dict[str, float | None]] = {}
    for row in run.store.read_table(trained.rows, TRAINING_LOG).to_pylist():
        log.setdefault(row["step"], {"step": row["step"]})[row["metric"]] = row["value"]
    return [log[step] for step in sorted(log)]


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
