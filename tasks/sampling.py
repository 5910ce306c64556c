"""The model answers one block of prompts in one language."""

from mpo_core.contract.artifacts import ArtifactRef, ArtifactStore, Shard
from mpo_core.contract.tables import PROMPTS, QUARANTINE, RESPONSES, TRANSLATIONS
from mpo_core.sampling import Request, sample
from mpo_core.settings import SamplingSettings
from tasks.model import ModelFolder
from tasks.stage import ShardInput, read_rows, stage, tell_progress


@stage("sampling", verb="sample", version=2)
def sample_answers(
    store: ArtifactStore,
    *,
    model: ModelFolder,
    prompts: ArtifactRef | ShardInput,
    settings: SamplingSettings,
    language: str,
    label: str,
) -> Shard:
    """Answers the prompts of a block (dominant) or their translations (target)."""
    del label
    with model.loaded(store) as (network, tokenizer):
        rows, quarantine = sample(
            network,
            tokenizer,
            _requests(prompts, store),
            settings,
            language=language,
            system=model.settings.system,
            thinking=model.settings.thinking,
            progress=tell_progress,
        )
    return Shard(
        rows=store.write_table("sampling", RESPONSES, rows, language=language),
        quarantine=store.write_table("sampling", QUARANTINE, quarantine, language=language),
    )


def _requests(prompts: ArtifactRef | ShardInput, store: ArtifactStore) -> list[Request]:
    if isinstance(prompts, ArtifactRef):
        table = store.read_table(prompts, PROMPTS)
    else:
        table = read_rows(store, [prompts], TRANSLATIONS)
    return [Request(row["prompt_id"], row["text"]) for row in table.select(["prompt_id", "text"]).to_pylist()]
