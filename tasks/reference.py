"""Reward gaps and pooled hidden states of a model that does not train, once per pair."""

from collections.abc import Sequence
from typing import Any

from mpo_core.contract.artifacts import ArtifactStore, Shard
from mpo_core.contract.tables import GAPS, PAIRS, RESPONSES, SOURCE_PAIRS, SWAPS, source_id
from mpo_core.pairs import answer_pairs, find_swaps, ranked
from mpo_core.training.encoding import PairText
from mpo_core.training.reference import gaps, target_texts
from tasks.model import ModelFolder
from tasks.stage import ShardInput, read_rows, stage, tell_progress, write_shard


@stage("reference", verb="reference", version=4)
def measure_gaps(
    store: ArtifactStore,
    *,
    model: ModelFolder,
    pairs: ShardInput,
    cutoff: int,
    pooling: str | None,
    precision: str,
    weights: str,
    language: str,
    tokens_per_forward: int | None,
    label: str,
) -> Shard:
    """Measures the reward gap of every pair of a block; with `pooling`, for dominant pairs, the pooled states too."""
    # Number formats are those of training, not of sampling: its weights, and autocast if training uses it.
    forward = {"cutoff": cutoff, "precision": precision, "tokens_per_forward": tokens_per_forward}
    texts = _texts(pairs, language, store, dominant=pooling is not None)
    return _measured(store, model, texts, language, weights=weights, pooling=pooling, **forward)


@stage("reference", verb="states", version=3)
def measure_states(
    store: ArtifactStore,
    *,
    model: ModelFolder,
    pairs: ShardInput,
    cutoff: int,
    precision: str,
    weights: str,
    language: str,
    dominant: bool,
    tokens_per_forward: int | None,
    label: str,
) -> Shard:
    """Measures the state after the last token of every answer of a block, from the model's middle layer."""
    forward = {"cutoff": cutoff, "precision": precision, "tokens_per_forward": tokens_per_forward}
    texts = _texts(pairs, language, store, dominant=dominant)
    return _measured(store, model, texts, language, weights=weights, pooling="last", middle=True, **forward)


@stage("reference", verb="swaps")
def check_order(
    store: ArtifactStore, *, pairs: Sequence[ShardInput], states: Sequence[ShardInput], language: str, label: str
) -> Shard:
    """Finds the pairs of a language whose answers are swapped, by the states of all its and all dominant pairs."""
    swaps = find_swaps(read_rows(store, pairs, PAIRS), read_rows(store, states, GAPS))
    return Shard(rows=store.write_table("reference", SWAPS, swaps.rows, language=language), counts=swaps.counts)


@stage("reference", verb="rank", version=3)
def rank_answers(
    store: ArtifactStore,
    *,
    model: ModelFolder,
    responses: ShardInput,
    cutoff: int,
    precision: str,
    weights: str,
    language: str,
    tokens_per_forward: int | None,
    label: str,
) -> Shard:
    """Renumbers the sampled answers of a block by their rewards under the model, the highest first."""
    answers = read_rows(store, [responses], RESPONSES)
    texts = [PairText(key, language, a["prompt"], a["text"], b["text"]) for key, a, b in answer_pairs(answers)]
    forward = {"cutoff": cutoff, "precision": precision, "tokens_per_forward": tokens_per_forward}
    rewards = _measured(store, model, texts, language, weights=weights, pooling=None, **forward)
    table = ranked(answers, store.read_table(rewards.rows, GAPS))
    return Shard(rows=store.write_table("sampling", RESPONSES, table, language=language))


def _measured(
    store: ArtifactStore, model: ModelFolder, texts: list[PairText], language: str, *, weights: str, **forward: Any
) -> Shard:
    """Loads the model with its weights in a number format, and stores what `gaps` measures on the texts."""
    with model.loaded(store, dtype=weights) as (network, tokenizer):
        rows, quarantine = gaps(
            network,
            tokenizer,
            texts,
            system=model.settings.system,
            digest=model.sha256,
            progress=tell_progress,
            **forward,
        )
    return write_shard(store, "reference", GAPS, rows, quarantine, language=language)


def _texts(pairs: ShardInput, language: str, store: ArtifactStore, *, dominant: bool) -> list[PairText]:
    if not dominant:
        return target_texts(read_rows(store, [pairs], PAIRS))
    return [
        PairText(
            source_id(row["prompt"], row["chosen"], row["rejected"]),
            language,
            row["prompt"],
            row["chosen"],
            row["rejected"],
            row["kind"],
        )
        for row in read_rows(store, [pairs], SOURCE_PAIRS).to_pylist()
    ]
