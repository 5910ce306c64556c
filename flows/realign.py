"""Re-alignment: trains again for what the promoted version does not cover well; the rest comes from the cache.

mpo languages add sw
mpo realign deployments/profiles/demo.yaml
"""

from typing import NamedTuple

from prefect import flow
from prefect.artifacts import create_table_artifact
from pydantic import BaseModel, JsonValue

from flows import registered, stages
from flows.benchmarks import read_benchmarks
from flows.report import write_report
from flows.run import Run, start_run
from flows.swaps import check_swaps
from mpo_core import registry
from mpo_core.contract.artifacts import ArtifactRef
from mpo_core.contract.tables import METRICS
from mpo_core.reporting import RunSummary
from mpo_core.settings import PipelineConfig
from mpo_core.settings.profiles import parse_config
from tasks.model import registered_model
from tasks.pairs import replay_pairs


class Realignment(BaseModel):
    """The result of `mpo realign`: why training was needed, and the report of the run that trained, if one did."""

    needs: list[tuple[str | None, str]]
    """Pairs of a language and the reason; without a language it concerns all of them."""
    summary: RunSummary | None = None


class _Work(NamedTuple):
    """What a realignment has to do: the promoted version, the reasons to train again, and the prompts."""

    version: registry.Version | None
    """The promoted version."""
    needs: list[registry.Need]
    blocks: list[ArtifactRef]


@flow(name="realign")
def realign(config: PipelineConfig, overrides: dict[str, JsonValue] | None = None) -> Realignment:
    """Trains again for languages or prompts that are new since the promoted version, and for languages that got worse.

    A language got worse if its latest evaluation shows an attack success rate above `realign.max_unsafe`. Finished work
    comes from the cache.

    Args:
        config: the settings, as in a profile; languages added with `mpo languages add` join `languages.targets`.
        overrides: settings to change, by key, such as {"realign.start": "promoted"}.
    """
    with start_run(config, overrides) as plain_run, registered.origin_explained(plain_run.config):
        run = plain_run.variant(with_registered(plain_run), "")
        base = stages.find_base(run.config)
        work = _find_work(run)
        _tell(run, work)
        if not work.needs:
            return Realignment(needs=[])
        version, start, promoted = work.version, base, None
        if version is not None:
            promoted = (version.version, registered_model(base, version.entry.model))
            start = promoted[1] if run.config.realign.start == "promoted" else base

        benchmarks = read_benchmarks(run)
        pairs = check_swaps(run, base, stages.preference_pairs(run, base, work.blocks))
        reference = stages.measure(run, start, pairs, run.config.training)
        learned = pairs if start is base else _replayed(run, pairs, work)
        trained = stages.train(run, start, learned, reference, run.config.training)
        final = stages.edit(run, start, pairs.texts, trained)
        change = stages.evaluate_change(run, base, final, pairs, benchmarks, promoted)
        settled = stages.register(run, start, final, change, stages.decide(run, change))
        summary = write_report(run, base, learned, trained, change, settled)
        return Realignment(needs=[tuple(need) for need in work.needs], summary=summary)


def with_registered(run: Run) -> PipelineConfig:
    """Returns the run's settings with every registered language among the targets."""
    data = registered.with_registered(run.config.model_dump(), join=True)  # not as JSON: URLs have their credentials
    return parse_config(data, where=f"languages registered in {run.config.run.root}")


def _find_work(run: Run) -> _Work:
    version, blocks = registry.promoted(run.store), stages.read_blocks(run)
    latest = (
        None if version is None or version.evaluation is None else run.store.read_table(version.evaluation, METRICS)
    )
    needs = registry.find_work(
        version, latest, run.config.languages.with_pairs, blocks, max_unsafe=run.config.realign.max_unsafe
    )
    return _Work(version, needs, blocks)


def _tell(run: Run, work: _Work) -> None:
    """Creates the Prefect table of what needs work and why."""
    create_table_artifact(
        key="mpo-realign",
        table=[{"language": need.language or "all", "why": need.why} for need in work.needs]
        or [{"language": "none", "why": "nothing needs work"}],
        description=f"What needs work in run {run.config.run.name}; "
        f"promoted: {work.version.version if work.version else 'no version'}",
    )


def _replayed(run: Run, pairs: stages.Pairs, work: _Work) -> stages.Pairs:
    """Returns the pairs to train on: all pairs of the languages that need work, and a share of the others'."""
    needed = {need.language for need in work.needs}
    if None in needed:
        return pairs
    realign, seed = run.config.realign, run.config.training.seed
    target = dict(pairs.target)
    for (code, block), future in pairs.of("train").target.items():
        if code not in needed and realign.replay > 0:
            label = f"{code}-{block.part}-replay"
            target[code, block] = run.submit(
                replay_pairs, pairs=future, share=realign.replay, seed=seed, language=code, label=label
            )
        elif code not in needed:
            del target[code, block]
    return pairs._replace(target=target)
