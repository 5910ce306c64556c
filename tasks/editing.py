"""Edits a model: a change of a few neurons that is computed from prompts, without training."""

import shutil
from collections.abc import Sequence

from mpo_core.contract.artifacts import ArtifactRef, ArtifactStore, Shard
from mpo_core.contract.tables import EDITS, PROMPTS, QUARANTINE, TRANSLATIONS
from mpo_core.settings import EditSettings
from tasks.model import ModelFolder, trained_model
from tasks.stage import ShardInput, current_key, read_rows, shard_of, stage, tell_progress


@stage("edit", verb="edit", version=2)
def edit_model(
    store: ArtifactStore,
    *,
    model: ModelFolder,
    trained: ShardInput | None,
    prompts: Sequence[ArtifactRef],
    translations: Sequence[ShardInput],
    settings: EditSettings,
    label: str,
) -> Shard:
    """Edits the model that training made of `model`, or `model` itself where nothing was trained."""
    from mpo_core.editing.edit import EditedPrompts, edit_folder  # imports torch, which takes seconds

    edited = model if trained is None else trained_model(model, shard_of(trained))
    rows = EditedPrompts(
        store.read_tables(list(prompts), PROMPTS).to_pylist(), read_rows(store, translations, TRANSLATIONS).to_pylist()
    )
    work = store.scratch(f"edit/.work/{current_key()}")
    shutil.rmtree(work, ignore_errors=True)
    with edited.open(store) as folder, edited.loaded(store) as (network, tokenizer):
        table, rejected = edit_folder(
            folder,
            network,
            tokenizer,
            rows,
            settings,
            work / "model",
            system=edited.settings.system,
            progress=tell_progress,
        )
    shard = Shard(
        rows=store.write_table("edit", EDITS, table),
        quarantine=store.write_table("edit", QUARANTINE, rejected) if rejected.num_rows else None,
        model=store.write_folder("edit", work / "model"),
        counts={
            "neurons": sum(table["edited"].to_pylist()),
            **({"rejected": rejected.num_rows} if rejected.num_rows else {}),
        },
    )
    shutil.rmtree(work)
    return shard
