"""What a model can do beside refusing: how well it predicts plain text, and how far its harmless answers have moved."""

import contextlib
import shutil
from collections.abc import Sequence

import pyarrow as pa

from mpo_core.contract.artifacts import ArtifactRef, ArtifactStore, Shard
from mpo_core.contract.tables import (
    COMPARISONS,
    DIVERGENCES,
    METRICS,
    PASSAGES,
    PROMPT_STATES,
    PROMPTS,
    RESPONSES,
    TASK_ITEMS,
    TEXT_SCORES,
)
from mpo_core.evaluation import divergence, lm_eval, text
from mpo_core.evaluation.states import hidden_states
from mpo_core.models import forget_models
from mpo_core.settings import LmEvalSettings
from tasks.model import ModelFolder
from tasks.stage import ShardInput, current_key, read_rows, read_texts, stage, tell_progress


@stage("evaluation", verb="read-text", version=2)
def score_text(
    store: ArtifactStore, *, model: ModelFolder, passages: Sequence[ArtifactRef], weights: str, label: str
) -> Shard:
    """Computes the bits that a model needs for each passage of parallel text, in every language."""
    table = store.read_tables(list(passages), PASSAGES)
    with model.loaded(store, dtype=weights) as (network, tokenizer):
        scores = text.score_text(network, tokenizer, table, digest=model.sha256, progress=tell_progress)
    return Shard(rows=store.write_table("evaluation", TEXT_SCORES, scores))


@stage("evaluation", verb="diverge", version=3)
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
    with contextlib.ExitStack() as stack:
        network, tokenizer = stack.enter_context(base.loaded(store, dtype=weights))
        # A model's lock cannot be held twice.
        same = trained.sha256 == base.sha256
        other, its_tokenizer = (
            (network, tokenizer) if same else stack.enter_context(trained.loaded(store, dtype=weights))
        )
        # Models of two vocabularies, as `mpo evaluate` may get, have no divergence.
        alike = its_tokenizer.get_vocab() == tokenizer.get_vocab()
        rows = divergence.divergences(
            network,
            other,
            tokenizer,
            read_rows(store, [answers], RESPONSES) if alike else RESPONSES.build([]),
            store.read_table(prompts, PROMPTS),
            system=base.settings.system,
            cutoff=cutoff,
            progress=tell_progress,
        )
    return Shard(rows=store.write_table("evaluation", DIVERGENCES, rows))


@stage("evaluation", verb="lm-eval", version=2)
def score_items(
    store: ArtifactStore, *, model: ModelFolder, settings: LmEvalSettings, languages: list[str], label: str
) -> Shard:
    """Scores a model on the items of lm-eval's tasks; a task that lacks a language is counted under its name."""
    forget_models()
    work = store.scratch(f"evaluation/.work/{current_key()}")
    with model.open(store) as folder:
        scores = lm_eval.score_tasks(
            folder, model.settings, settings, languages, work=work, alive=lambda: tell_progress(0, 0)
        )
    shard = Shard(
        rows=store.write_table("evaluation", TASK_ITEMS, scores.items),
        counts={f"without {name}": 1 for name in scores.missing},
    )
    shutil.rmtree(work)
    return shard


@stage("evaluation", verb="evaluate-utility", version=2)
def evaluate_utility(
    store: ArtifactStore,
    *,
    scores: ShardInput,
    divergences: Sequence[ShardInput],
    items: Sequence[ShardInput],
    model: str,
    confidence: float,
    label: str,
) -> Shard:
    """Computes bits per byte, the divergence from the base model and the scores of lm-eval, with intervals."""
    figures = (
        (text.text_metrics, [scores], TEXT_SCORES),
        (divergence.divergence_metrics, divergences, DIVERGENCES),
        (lm_eval.task_metrics, items, TASK_ITEMS),
    )
    rows = [
        row
        for compute, shards, spec in figures
        for row in compute(read_rows(store, shards, spec), model=model, confidence=confidence)
    ]
    return Shard(rows=store.write_table("evaluation", METRICS, METRICS.build(rows)))


@stage("evaluation", verb="compare-utility")
def compare_utility(
    store: ArtifactStore,
    *,
    before: Sequence[ShardInput],
    after: Sequence[ShardInput],
    confidence: float,
    label: str,
) -> Shard:
    """Compares two models on the same passages and, if there are two shards of each, the same items of lm-eval."""
    parts = [
        compare(read_rows(store, [first], spec), read_rows(store, [second], spec), confidence=confidence)
        for first, second, (compare, spec) in zip(before, after, _COMPARED, strict=False)
    ]
    return Shard(rows=store.write_table("evaluation", COMPARISONS, COMPARISONS.check(pa.concat_tables(parts))))


_COMPARED = ((text.compare_text, TEXT_SCORES), (lm_eval.compare_tasks, TASK_ITEMS))


@stage("evaluation", verb="states", version=3)
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
    kind = {row["prompt_id"]: row["kind"] for row in store.read_table(kinds, PROMPTS).to_pylist()}
    texts = [{**row, "kind": kind[row["prompt_id"]]} for row in read_texts(store, prompts).to_pylist()]
    with model.loaded(store, dtype=weights) as (network, tokenizer):
        states = hidden_states(
            network, tokenizer, texts, language=language, system=model.settings.system, progress=tell_progress
        )
    return Shard(rows=store.write_table("evaluation", PROMPT_STATES, states, language=language))
