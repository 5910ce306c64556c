"""Reads the prompts of every source, and cuts them into blocks, each of one split."""

import pyarrow.compute as pc

from mpo_core.contract.artifacts import ArtifactRef, ArtifactStore, Shard
from mpo_core.contract.tables import PROMPTS, QUARANTINE, REFERENCE_ANSWERS
from mpo_core.prompts.blocks import blocks
from mpo_core.prompts.load import count_kinds, load_prompts
from mpo_core.settings import PromptSettings
from tasks.stage import stage


@stage("prompts", verb="prompts", version=4)
def read_prompts(
    store: ArtifactStore,
    *,
    settings: PromptSettings,
    dominant: str,
    fingerprint: list[str],
    block_size: int,
    label: str,
) -> Shard:
    """Reads the prompts of every source; `fingerprint` (digests of the sources) only takes part in the cache key."""
    return store_prompts(store, settings, dominant=dominant, block_size=block_size)


def store_prompts(store: ArtifactStore, settings: PromptSettings, *, dominant: str, block_size: int) -> Shard:
    """Reads every source, and stores the prompts twice: as one table, and in blocks of one split."""
    prompts, answers, quarantine = load_prompts(settings, dominant=dominant, seed=settings.seed)
    parts: list[ArtifactRef] = []
    answer_parts: list[ArtifactRef] = []
    cut = blocks(prompts, block_size)
    splits = [block.column("split")[0].as_py() for block in cut]
    for number, (split, block) in enumerate(zip(splits, cut, strict=True)):
        alone = splits.count(split) == 1
        part = split if alone else f"{split}-{splits[:number].count(split):03d}"
        parts.append(store.write_table("prompts", PROMPTS, block, language=dominant, part=part))
        for language, table in answers.items():
            rows = table.filter(pc.is_in(table["prompt_id"], block["prompt_id"].combine_chunks()))
            if rows.num_rows:
                answer_parts.append(
                    store.write_table("reference_answers", REFERENCE_ANSWERS, rows, language=language, part=part)
                )
    return Shard(
        rows=store.write_table("prompts", PROMPTS, prompts, language=dominant),
        quarantine=store.write_table("prompts", QUARANTINE, quarantine),
        parts=tuple(parts),
        answers=tuple(answer_parts),
        counts={f"{source}/{kind}": n for source, kinds in count_kinds(prompts).items() for kind, n in kinds.items()},
    )
