"""What a model can do beside refusing: its command of plain text, and how far its harmless answers have moved."""

import contextlib
from collections.abc import Sequence

from mpo_core.contract.artifacts import ArtifactRef, ArtifactStore, Shard
from mpo_core.contract.tables import (
    COMPARISONS,
    DIVERGENCES,
    METRICS,
    PASSAGES,
    PROMPT_STATES,
    PROMPTS,
    RESPONSES,
    TEXT_SCORES,
    TRANSLATIONS,
)
from mpo_core.evaluation import divergence, text
from mpo_core.evaluation.states import hidden_states
from tasks.model import ModelFolder
from tasks.stage import ShardInput, read_rows, stage, tell_progress


@stage("evaluation", verb="read-text")
def score_text(
    store: ArtifactStore, *, model: ModelFolder, passages: Sequence[ArtifactRef], weights: str, label: str
) -> Shard:
    """Computes the bits that a model needs for each passage of parallel text, in every language."""
    del label
    table = store.read_tables(list(passages), PASSAGES)
    with model.loaded(store, dtype=weights) as (network, tokenizer):
        scores = text.score_text(network, tokenizer, table, digest=model.sha256, progress=tell_progress)
    return Shard(rows=store.write_table("evaluation", TEXT_SCORES, scores))


@stage("evaluation", verb="diverge")
def measure_divergence(
    store: ArtifactStore,
    *,
    base: ModelFolder,
    trained: ModelFolder,
    answers: ShardInput,
    prompts: ArtifactRef,
    weights: str,
    cutoff: int,
    label: str,
) -> Shard:
    """Computes how far a trained model is from the base model, on the base model's harmless answers of a block."""
    del label
    with contextlib.ExitStack() as stack:
        network, tokenizer = stack.enter_context(base.loaded(store, dtype=weights))
        # A model's lock cannot be held twice.
        other = network if trained == base else stack.enter_context(trained.loaded(store, dtype=weights))[0]
        rows = divergence.divergences(
            network,
            other,
            tokenizer,
            read_rows(store, [answers], RESPONSES),
            store.read_table(prompts, PROMPTS),
            system=base.settings.system,
            cutoff=cutoff,
            progress=tell_progress,
        )
    return Shard(rows=store.write_table("evaluation", DIVERGENCES, rows))


@stage("evaluation", verb="evaluate-utility")
def evaluate_utility(
    store: ArtifactStore,
    *,
    scores: ShardInput,
    divergences: Sequence[ShardInput],
    model: str,
    confidence: float,
    label: str,
) -> Shard:
    """Computes bits per byte by language and the divergence from the base model, with intervals."""
    del label
    rows = text.text_metrics(read_rows(store, [scores], TEXT_SCORES), model=model, confidence=confidence)
    moved = read_rows(store, divergences, DIVERGENCES)
    rows += divergence.divergence_metrics(moved, model=model, confidence=confidence)
    return Shard(rows=store.write_table("evaluation", METRICS, METRICS.build(rows)))


@stage("evaluation", verb="compare-text")
def compare_texts(
    store: ArtifactStore, *, before: ShardInput, after: ShardInput, confidence: float, label: str
) -> Shard:
    """Compares two models' bits per byte on the same passages, by paired t-tests."""
    del label
    first, second = (read_rows(store, [shard], TEXT_SCORES) for shard in (before, after))
    return Shard(
        rows=store.write_table("evaluation", COMPARISONS, text.compare_text(first, second, confidence=confidence))
    )


@stage("evaluation", verb="states")
def read_states(
    store: ArtifactStore,
    *,
    model: ModelFolder,
    prompts: ArtifactRef | ShardInput,
    kinds: ArtifactRef,
    weights: str,
    language: str,
    label: str,
) -> Shard:
    """Reads a model's hidden states of a block of prompts; `kinds` is the block in the dominant language."""
    del label
    kind = {row["prompt_id"]: row["kind"] for row in store.read_table(kinds, PROMPTS).to_pylist()}
    if isinstance(prompts, ArtifactRef):
        table = store.read_table(prompts, PROMPTS)
    else:
        table = read_rows(store, [prompts], TRANSLATIONS)
    texts = [{**row, "kind": kind[row["prompt_id"]]} for row in table.to_pylist()]
    with model.loaded(store, dtype=weights) as (network, tokenizer):
        states = hidden_states(
            network, tokenizer, texts, language=language, system=model.settings.system, progress=tell_progress
        )
    return Shard(rows=store.write_table("evaluation", PROMPT_STATES, states, language=language))
