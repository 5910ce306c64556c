"""Re-alignment: what the promoted version does not cover well is made good, at the cost of what is missing.

mpo languages add sw
mpo realign deployments/profiles/demo.yaml
"""

from typing import NamedTuple

from prefect import flow
from prefect.artifacts import create_table_artifact
from pydantic import BaseModel, JsonValue

from flows import registered
from flows.report import Since, finish
from flows.run import Future, Run, start_run
from flows.stages import Pairs, compare, evaluate, preference_pairs, read_blocks, references, require_pairs
from mpo_core import registry
from mpo_core.contract.artifacts import ArtifactRef
from mpo_core.contract.tables import METRICS
from mpo_core.reporting import RunSummary
from mpo_core.settings import PipelineConfig
from mpo_core.settings.profiles import parse_config
from tasks.model import find_model, registered_model, trained_model
from tasks.pairs import replay_pairs
from tasks.training import train_model


class Realignment(BaseModel):
    """What needed work, and the run that did it, if anything did."""

    needs: list[tuple[str | None, str]]
    """Language (none: all of them) and why."""
    summary: RunSummary | None = None


class _Work(NamedTuple):
    version: registry.Version | None
    """The promoted version."""
    needs: list[registry.Need]
    blocks: list[ArtifactRef]


@flow(name="realign")
def realign(config: PipelineConfig, overrides: dict[str, JsonValue] | None = None) -> Realignment:
    """Aligns the languages that were registered since, faded, or have new prompts; all others come from the cache.

    Args:
        config: the settings, as in a profile; registered languages join `languages.targets`.
        overrides: by key, settings that are to be otherwise, such as {"realign.start": "promoted"}.
    """
    with start_run(config, overrides) as plain_run:
        run = plain_run.variant(with_registered(plain_run), "")
        base = find_model(run.config.model, cutoff=run.config.training.cutoff)
        work = _find_work(run)
        _tell(run, work)
        if not work.needs:
            return Realignment(needs=[])
        promoted_model = None if work.version is None else registered_model(base, work.version.entry.model)
        start = promoted_model if promoted_model is not None and run.config.realign.start == "promoted" else base

        pairs = preference_pairs(run, base, work.blocks)
        reference = references(run, start, pairs, run.config.training)
        require_pairs(run, pairs)
        train = _train_pairs(run, pairs, work) if start is not base else list(pairs.of("train").target.values())
        validation = list(pairs.of("validation").target.values())
        trained = run.submit(
            train_model,
            model=start,
            pairs=train,
            validation=validation,
            references=reference,
            settings=run.config.training,
            label="mpo",
        )

        before = evaluate(run, "before", base, pairs)
        previous = None if promoted_model is None else evaluate(run, "previous", promoted_model, pairs, before)
        after = evaluate(run, "after", trained_model(base, run.result(trained)), pairs, before)
        since = None
        if previous is not None and work.version is not None:
            since = Since(work.version.version, compare(run, previous, after, "previous-after"), start)
        summary = finish(run, base, trained, before, after, compare(run, before, after), since)
        return Realignment(needs=[tuple(need) for need in work.needs], summary=summary)


def with_registered(run: Run) -> PipelineConfig:
    """The run's settings, with every registered language among the targets."""
    data = registered.with_registered(run.config.model_dump(), join=True)  # not as JSON: URLs have their credentials
    return parse_config(data, where=f"languages registered in {run.config.run.root}")


def _find_work(run: Run) -> _Work:
    version, blocks = registry.promoted(run.store), read_blocks(run)
    latest = (
        None if version is None or version.evaluation is None else run.store.read_table(version.evaluation, METRICS)
    )
    needs = registry.find_work(
        version, latest, run.config.languages.targets, blocks, max_unsafe=run.config.realign.max_unsafe
    )
    return _Work(version, needs, blocks)


def _tell(run: Run, work: _Work) -> None:
    """What needs work, as a Prefect artifact."""
    create_table_artifact(
        key="mpo-realign",
        table=[{"language": need.language or "all", "why": need.why} for need in work.needs]
        or [{"language": "none", "why": "nothing needs work"}],
        description=f"Run {run.config.run.name}: what {work.version.version if work.version else 'no version'} leaves",
    )


def _train_pairs(run: Run, pairs: Pairs, work: _Work) -> list[Future]:
    """All pairs of the languages that need work, and a share of the others'."""
    needed = {need.language for need in work.needs}
    if None in needed:
        return list(pairs.of("train").target.values())
    realign, seed = run.config.realign, run.config.training.seed
    futures = []
    for (code, block), future in pairs.of("train").target.items():
        if code in needed:
            futures.append(future)
        elif realign.replay > 0:
            label = f"{code}-{block.part}-replay"
            futures.append(
                run.submit(replay_pairs, pairs=future, share=realign.replay, seed=seed, language=code, label=label)
            )
    return futures
