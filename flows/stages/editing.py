"""Editing: a few neurons of the model change, so that harmful prompts are read as in the dominant language."""

from flows.benchmarks import Texts
from flows.run import Future, Run
from flows.stages.shards import of_split
from mpo_core.contract.artifacts import ArtifactRef
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.tables import PROMPTS
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
    """Edits a model with the prompts of the split `train` in every language.

    Raises:
        BadInputError: they are all of one kind; this is reported before a training that comes first has ended.
    """
    own = of_split(texts, "train").values()
    prompts = [text for text in own if isinstance(text, ArtifactRef)]
    kinds = set(run.store.read_tables(prompts, PROMPTS)["kind"].to_pylist())
    for missing in sorted({"harmful", "harmless"} - kinds):
        raise BadInputError(
            f"an edit needs harmful and harmless prompts, and none is {missing}",
            where="edit, prompts of the split `train`",
            fix="Give prompts of both kinds in prompts.sources.",
        )
    return run.submit(
        edit_model,
        model=base,
        trained=trained,
        prompts=prompts,
        translations=[text for text in own if not isinstance(text, ArtifactRef)],
        settings=settings,
        label=label,
    )
