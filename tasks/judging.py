"""Verdicts on one block of answers."""

from mpo_core.contract.artifacts import ArtifactRef, ArtifactStore, Shard
from mpo_core.contract.tables import PROMPTS, RESPONSES, VERDICTS
from mpo_core.judging import Judge, judge_responses
from tasks.stage import ShardInput, shard_of, stage, tell_progress


@stage("judging", verb="judge", version=6)
def judge_answers(
    store: ArtifactStore, *, responses: ShardInput, prompts: ArtifactRef, judge: Judge, label: str
) -> Shard:
    """Judges every answer of a block; `prompts` has the kind (harmful or harmless) of each request."""
    responses = shard_of(responses)
    table = store.read_table(prompts, PROMPTS)
    kinds = dict(zip(table.column("prompt_id").to_pylist(), table.column("kind").to_pylist(), strict=True))
    verdicts = judge_responses(store.read_table(responses.rows, RESPONSES), kinds, judge, tell_progress)
    counts: dict[str, int] = {}
    for verdict in verdicts.column("verdict").to_pylist():
        counts[verdict] = counts.get(verdict, 0) + 1
    return Shard(rows=store.write_table("judging", VERDICTS, verdicts, language=responses.rows.language), counts=counts)
