"""Preference pairs: the dominant ones, and their mirror in one target language."""

from collections.abc import Sequence

import pyarrow as pa

from mpo_core.contract.artifacts import ArtifactRef, ArtifactStore, Shard
from mpo_core.contract.tables import (
    PAIRS,
    PROMPTS,
    QUARANTINE,
    REFERENCE_ANSWERS,
    RESPONSES,
    SOURCE_PAIRS,
    SWAPS,
    TRANSLATIONS,
    VERDICTS,
    TableSpec,
)
from mpo_core.judging import Judge
from mpo_core.pairs import (
    confirmed,
    flip_answers,
    sample_pairs,
    settle_swaps,
    source_pairs,
    surplus,
    target_pairs,
    vary_pairs,
    within,
)
from mpo_core.settings import PairSettings
from tasks.stage import ShardInput, read_rows, stage, tell_progress, write_shard


@stage("pairs", verb="pairs", version=3)
def pair_dominant(
    store: ArtifactStore,
    *,
    prompts: ArtifactRef,
    responses: ShardInput,
    verdicts: ShardInput,
    reference_answers: ArtifactRef | None,
    settings: PairSettings,
    dominant: str,
    label: str,
) -> Shard:
    """Chooses the good and the bad dominant answer to every prompt of a block."""
    rows, quarantine = source_pairs(
        store.read_table(prompts, PROMPTS),
        read_rows(store, [responses], RESPONSES),
        read_rows(store, [verdicts], VERDICTS),
        settings,
        dominant=dominant,
        reference_answers=None if reference_answers is None else store.read_table(reference_answers, REFERENCE_ANSWERS),
    )
    return write_shard(store, "pairs", SOURCE_PAIRS, rows, quarantine, language=dominant)


@stage("pairs", verb="pairs", version=3)
def pair_target(
    store: ArtifactStore,
    *,
    source_pairs: ShardInput,
    prompt_translations: ShardInput,
    reference_answers: ArtifactRef | None,
    answer_translations: ShardInput | None,
    responses: ShardInput | None,
    verdicts: ShardInput | None,
    settings: PairSettings,
    dominant: str,
    language: str,
    label: str,
) -> Shard:
    """Mirrors a block's dominant pairs in a target language, with reference, translated or sampled answers."""

    def optional(shard: ShardInput | None, spec: TableSpec) -> pa.Table | None:
        return None if shard is None else read_rows(store, [shard], spec)

    rows, quarantine = target_pairs(
        read_rows(store, [source_pairs], SOURCE_PAIRS),
        read_rows(store, [prompt_translations], TRANSLATIONS),
        settings,
        dominant=dominant,
        language=language,
        reference_answers=None if reference_answers is None else store.read_table(reference_answers, REFERENCE_ANSWERS),
        answer_translations=optional(answer_translations, TRANSLATIONS),
        responses=optional(responses, RESPONSES),
        verdicts=optional(verdicts, VERDICTS),
    )
    return write_shard(store, "pairs", PAIRS, rows, quarantine, language=language)


@stage("pairs", verb="flip")
def flip_pairs(store: ArtifactStore, *, pairs: ShardInput, share: float, seed: int, language: str, label: str) -> Shard:
    """Swaps the chosen and the rejected answer in a share of a block's pairs, sampled by `seed`."""
    rows = flip_answers(read_rows(store, [pairs], PAIRS), share, seed=seed)
    return Shard(rows=store.write_table("pairs", PAIRS, rows, language=language))


@stage("pairs", verb="unswap")
def unswap_pairs(
    store: ArtifactStore, *, pairs: ShardInput, swaps: ShardInput, swap_back: bool, language: str, label: str
) -> Shard:
    """Returns the pairs of a block without the swapped ones, or with the answers of these swapped back."""
    rows, quarantine = settle_swaps(
        read_rows(store, [pairs], PAIRS), read_rows(store, [swaps], SWAPS), swap_back=swap_back
    )
    return write_shard(store, "pairs", PAIRS, rows, quarantine, language=language)


@stage("pairs", verb="confirm")
def confirm_pairs(
    store: ArtifactStore, *, pairs: ShardInput, judge: Judge, settings: PairSettings, language: str, label: str
) -> Shard:
    """Returns the pairs of a block without those whose answers the judge does not find good and bad."""
    rows, quarantine = confirmed(read_rows(store, [pairs], PAIRS), judge, settings, tell_progress)
    return write_shard(store, "pairs", PAIRS, rows, quarantine, language=language)


@stage("pairs", verb="surplus")
def find_surplus(
    store: ArtifactStore,
    *,
    pairs: Sequence[ShardInput],
    prompts: Sequence[ArtifactRef],
    settings: PairSettings,
    language: str,
    label: str,
) -> Shard:
    """Finds the training pairs of a language beyond the quotas; `prompts` have the harm categories."""
    table = store.read_tables(list(prompts), PROMPTS)
    categories = dict(zip(table["prompt_id"].to_pylist(), table["category"].to_pylist(), strict=True))
    over = surplus(read_rows(store, pairs, PAIRS), categories, settings)
    return Shard(rows=store.write_table("pairs", QUARANTINE, over, language=language))


@stage("pairs", verb="limit")
def limit_pairs(store: ArtifactStore, *, pairs: ShardInput, over: ShardInput, language: str, label: str) -> Shard:
    """Returns the pairs of a block without those beyond the quotas of their language."""
    rows, quarantine = within(read_rows(store, [pairs], PAIRS), read_rows(store, [over], QUARANTINE))
    return write_shard(store, "pairs", PAIRS, rows, quarantine, language=language)


@stage("pairs", verb="replay")
def replay_pairs(
    store: ArtifactStore, *, pairs: ShardInput, share: float, seed: int, language: str, label: str
) -> Shard:
    """Samples a share of a block's pairs, by their ids, to train on them again in a realignment."""
    rows = sample_pairs(read_rows(store, [pairs], PAIRS), share, seed=seed)
    return Shard(rows=store.write_table("pairs", PAIRS, rows, language=language))


@stage("pairs", verb="vary")
def vary_block(
    store: ArtifactStore,
    *,
    pairs: ShardInput,
    share: float,
    swapped: float,
    untranslated: float,
    seed: int,
    language: str,
    label: str,
) -> Shard:
    """Makes fewer or worse pairs of a block on purpose, for a study."""
    rows = vary_pairs(
        read_rows(store, [pairs], PAIRS), share=share, swapped=swapped, untranslated=untranslated, seed=seed
    )
    return Shard(rows=store.write_table("pairs", PAIRS, rows, language=language))
