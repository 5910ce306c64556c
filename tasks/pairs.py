"""Preference pairs: the dominant ones, and their mirror in one target language."""

from mpo_core.contract.artifacts import ArtifactRef, ArtifactStore, Shard
from mpo_core.contract.tables import PAIRS, PROMPTS, QUARANTINE, RESPONSES, SOURCE_PAIRS, TRANSLATIONS, VERDICTS
from mpo_core.pairs import draw_pairs, flip_answers, source_pairs, target_pairs
from mpo_core.settings import PairSettings
from tasks.stage import stage


@stage("pairs", verb="pairs", version=2)
def pair_dominant(
    prompts: ArtifactRef,
    responses: Shard,
    verdicts: Shard,
    settings: PairSettings,
    dominant: str,
    *,
    store: ArtifactStore,
    label: str,
) -> Shard:
    """The good and the bad dominant answer of every prompt in a block."""
    del label
    rows, quarantine = source_pairs(
        store.read_table(prompts, PROMPTS),
        store.read_table(responses.rows, RESPONSES),
        store.read_table(verdicts.rows, VERDICTS),
        settings,
    )
    return Shard(
        rows=store.write_table("pairs", SOURCE_PAIRS, rows, language=dominant),
        quarantine=store.write_table("pairs", QUARANTINE, quarantine, language=dominant),
    )


@stage("pairs", verb="pairs", version=2)
def pair_target(
    pairs: Shard,
    translations: Shard,
    answers: Shard | None,
    responses: Shard | None,
    verdicts: Shard | None,
    settings: PairSettings,
    dominant: str,
    target: str,
    *,
    store: ArtifactStore,
    label: str,
) -> Shard:
    """The same pairs in a target language: translated, sampled, or both."""
    del label
    rows, quarantine = target_pairs(
        store.read_table(pairs.rows, SOURCE_PAIRS),
        store.read_table(translations.rows, TRANSLATIONS),
        settings,
        dominant=dominant,
        language=target,
        answer_translations=None if answers is None else store.read_table(answers.rows, TRANSLATIONS),
        responses=None if responses is None else store.read_table(responses.rows, RESPONSES),
        verdicts=None if verdicts is None else store.read_table(verdicts.rows, VERDICTS),
    )
    return Shard(
        rows=store.write_table("pairs", PAIRS, rows, language=target),
        quarantine=store.write_table("pairs", QUARANTINE, quarantine, language=target),
    )


@stage("pairs", verb="flip")
def flip_pairs(pairs: Shard, share: float, seed: int, language: str, *, store: ArtifactStore, label: str) -> Shard:
    """The pairs of a block with the answers of a share of them swapped."""
    del label
    rows = flip_answers(store.read_table(pairs.rows, PAIRS), share, seed=seed)
    return Shard(rows=store.write_table("pairs", PAIRS, rows, language=language))


@stage("pairs", verb="replay")
def replay_pairs(pairs: Shard, share: float, seed: int, language: str, *, store: ArtifactStore, label: str) -> Shard:
    """A share of the pairs of a block, drawn by the pairs' ids."""
    del label
    rows = draw_pairs(store.read_table(pairs.rows, PAIRS), share, seed=seed)
    return Shard(rows=store.write_table("pairs", PAIRS, rows, language=language))
