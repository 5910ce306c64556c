"""The model answers one block of prompts in one language."""

from collections import Counter

from mpo_core.contract.artifacts import ArtifactRef, ArtifactStore, Shard
from mpo_core.contract.sampling import SampledModel
from mpo_core.contract.tables import RESPONSES
from mpo_core.sampling import Request, sample
from mpo_core.settings import SamplingSettings
from tasks.model import ModelFolder
from tasks.stage import ShardInput, read_texts, stage, tell_progress, write_shard


@stage("sampling", verb="sample", version=5)
def sample_answers(
    store: ArtifactStore,
    *,
    model: ModelFolder,
    prompts: ArtifactRef | ShardInput,
    settings: SamplingSettings,
    backend: str,
    language: str,
    label: str,
) -> Shard:
    """Samples answers to a block of prompts or to their translations; `backend`, its identity, is for the cache key."""
    with model.open(store) as folder:
        rows, quarantine = sample(
            SampledModel(model.name, folder, model.settings, model.sha256),
            [Request(row["prompt_id"], row["text"]) for row in read_texts(store, prompts).to_pylist()],
            settings,
            language=language,
            progress=tell_progress,
        )
    reasons = Counter(filter(None, rows.column("finish_reason").to_pylist()))
    return write_shard(store, "sampling", RESPONSES, rows, quarantine, language=language, counts=dict(reasons))
