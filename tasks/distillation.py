"""The teacher of self-distillation: its answers to one block of prompts in one language, and their distributions."""

from mpo_core.contract.artifacts import ArtifactRef, ArtifactStore, Shard
from mpo_core.contract.sampling import SampledModel
from mpo_core.contract.tables import PROMPTS, RESPONSES, TEACHER, TRANSLATIONS, VERDICTS
from mpo_core.sampling import Request, sample
from mpo_core.settings import SamplingSettings
from mpo_core.training.teaching import distributions, teacher_prompt
from tasks.model import ModelFolder
from tasks.stage import ShardInput, read_rows, stage, tell_progress, write_shard


@stage("distillation", verb="teach", version=2)
def answer_as_teacher(
    store: ArtifactStore,
    *,
    model: ModelFolder,
    prompts: ArtifactRef,
    translations: ShardInput,
    instruction: str,
    settings: SamplingSettings,
    backend: str,
    language: str,
    label: str,
) -> Shard:
    """Samples the teacher's answers to a block of translated prompts with originals; `backend` is for the cache key."""
    originals = _originals(store, prompts)
    texts = read_rows(store, [translations], TRANSLATIONS).to_pylist()
    requests = [
        Request(row["prompt_id"], teacher_prompt(instruction, prompt=row["text"], original=originals[row["prompt_id"]]))
        for row in texts
    ]
    with model.open(store) as folder:
        rows, quarantine = sample(
            SampledModel(model.name, folder, model.settings, model.sha256),
            requests,
            settings,
            language=language,
            progress=tell_progress,
        )
    # The judge, and the student after it, see the request alone.
    by_id = {row["prompt_id"]: row["text"] for row in texts}
    seen = RESPONSES.build([row | {"prompt": by_id[row["prompt_id"]]} for row in rows.to_pylist()])
    return write_shard(store, "distillation", RESPONSES, seen, quarantine, language=language)


@stage("distillation", verb="distil", version=2)
def measure_teacher(
    store: ArtifactStore,
    *,
    model: ModelFolder,
    prompts: ArtifactRef,
    responses: ShardInput,
    verdicts: ShardInput,
    instruction: str,
    top_k: int,
    cutoff: int,
    precision: str,
    weights: str,
    language: str,
    tokens_per_forward: int | None,
    label: str,
) -> Shard:
    """Measures the teacher's likeliest tokens at each token of its answers, but of those that the judge objects to."""
    with model.loaded(store, dtype=weights) as (network, tokenizer):
        rows, quarantine = distributions(
            network,
            tokenizer,
            read_rows(store, [responses], RESPONSES),
            read_rows(store, [verdicts], VERDICTS),
            _originals(store, prompts),
            instruction=instruction,
            top_k=top_k,
            cutoff=cutoff,
            system=model.settings.system,
            digest=model.sha256,
            precision=precision,
            tokens_per_forward=tokens_per_forward,
            progress=tell_progress,
        )
    counts = {"answers": rows.num_rows, "rejected": quarantine.num_rows}
    return write_shard(store, "distillation", TEACHER, rows, quarantine, language=language, counts=counts)


def _originals(store: ArtifactStore, prompts: ArtifactRef) -> dict[str, str]:
    table = store.read_table(prompts, PROMPTS)
    return dict(zip(table["prompt_id"].to_pylist(), table["text"].to_pylist(), strict=True))
