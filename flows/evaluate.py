"""Evaluation of the promoted version, on a schedule or on demand, in every language of the settings."""

from prefect import flow
from prefect.artifacts import create_table_artifact
from pydantic import JsonValue

from flows.realign import with_registered
from flows.run import start_run
from flows.stages import evaluate, preference_pairs, read_blocks, split
from mpo_core import registry, reporting
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.metric import TARGETS
from mpo_core.contract.tables import METRICS
from mpo_core.settings import PipelineConfig
from tasks.model import find_model, registered_model


@flow(name="evaluate")
def evaluate_promoted(config: PipelineConfig, overrides: dict[str, JsonValue] | None = None) -> dict[str, float]:
    """Evaluates the promoted version again, records it in the registry for `realign`, and returns its ASR by language.

    Args:
        config: the settings, as in a profile; registered languages join `languages.targets`.
        overrides: settings to change, by key, such as {"evaluation.split": "concept"}.
    """
    with start_run(config, overrides) as plain_run:
        run = plain_run.variant(with_registered(plain_run), "")
        version = registry.promoted(run.store)
        if version is None:
            raise BadInputError(
                "no version is promoted",
                where=f"registry of {run.config.run.root}",
                fix="Run the pipeline, or promote a version: mpo models promote VERSION --why REASON.",
            )
        base = find_model(run.config.model)
        held_out = [block for block in read_blocks(run) if split(block) == run.config.evaluation.split]
        pairs = preference_pairs(run, base, held_out)
        after = evaluate(
            run, "after", registered_model(base, version.entry.model), pairs, evaluate(run, "before", base, pairs)
        )
        run.wait()
        figures = run.result(after.metrics).rows
        registry.evaluated(run.store, version.version, figures, who=run.config.run.name, why="evaluated again")
        rows = run.store.read_table(figures, METRICS).to_pylist()
        create_table_artifact(
            key="mpo-evaluation",
            table=reporting.by_language(rows),
            description=f"Evaluation of {version.version}, the promoted version",
        )
        unsafe = {row["language"]: row["value"] for row in rows if row["metric"] == "unsafe"}
        return {code: value for code, value in unsafe.items() if code != TARGETS}
