"""Editing: a few neurons of the model change, so that harmful prompts are read as in the dominant language."""

from flows.benchmarks import Texts
from flows.run import Future, Run
from flows.stages.shards import of_split
from mpo_core.contract.artifacts import ArtifactRef
from mpo_core.settings import EditSettings
from tasks.editing import edit_model
from tasks.model import ModelFolder


def edit(run: Run, base: ModelFolder, texts: Texts, trained: Future, label: str = "mpo") -> Future:
    """Edits the model that was trained from `base`, if the settings ask for it; else returns the training as it is."""
    if run.config.edit is None:
        return trained
    return submit_edit(run, base, texts, run.config.edit, trained, label)


def submit_edit(
    run: Run, base: ModelFolder, texts: Texts, settings: EditSettings, trained: Future | None, label: str
) -> Future:
    """Edits a model with the prompts of the split `train` in every language."""
    own = of_split(texts, "train").values()
    return run.submit(
        edit_model,
        model=base,
        trained=trained,
        prompts=[text for text in own if isinstance(text, ArtifactRef)],
        translations=[text for text in own if not isinstance(text, ArtifactRef)],
        settings=settings,
        label=label,
    )
