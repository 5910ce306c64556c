"""A model as the input of a task: its folder and its digest."""

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from mpo_core.contract.artifacts import ArtifactRef, ArtifactStore, Shard
from mpo_core.contract.errors import BadInputError, DamagedError
from mpo_core.contract.sampling import TRAINED
from mpo_core.models import model_digest, resolve, shared_model
from mpo_core.models.training_memory import warn_if_too_large
from mpo_core.settings import ModelSettings, TrainingSettings


class ModelFolder(BaseModel):
    """A model folder with its digest; cache keys contain the digest, not the path."""

    model_config = ConfigDict(frozen=True)

    settings: ModelSettings
    sha256: str
    folder: str | None = None
    ref: ArtifactRef | None = None

    @property
    def name(self) -> str:
        """Name of the model for sampling backends: `trained` for one that a run made, else its path in the settings."""
        return self.settings.path if self.ref is None else TRAINED

    @contextlib.contextmanager
    def open(self, store: ArtifactStore) -> Iterator[Path]:
        """Opens the local folder, verified if a run made it; a worker without the base model's folder finds its own."""
        if self.ref is not None:
            with store.open_folder(self.ref) as path:
                yield path
        elif self.folder is not None:
            folder = Path(self.folder)
            yield folder if folder.is_dir() else _local_base(self.settings.model_dump_json(), self.sha256)
        else:
            raise DamagedError("the model has neither a folder nor an artifact")

    @contextlib.contextmanager
    def loaded(self, store: ArtifactStore, dtype: str | None = None) -> Iterator[tuple[Any, Any]]:
        """Loads model and tokenizer, with `dtype` in place of `model.dtype`; no other thread can use them meanwhile."""
        with self.open(store) as folder:
            model, tokenizer, lock = shared_model(folder, self.settings, dtype)
            with lock:
                yield model, tokenizer


def find_model(settings: ModelSettings, *, training: TrainingSettings | None = None) -> ModelFolder:
    """Finds the model that a run starts from, and warns if this machine's device is too small for its training.

    Raises:
        BadInputError: it cannot be found or cannot be used, or its context is shorter than the training's cutoff.
    """
    folder = resolve(settings, cutoff=training.cutoff if training else None).resolve()
    if training is not None and settings.path != "microworld":
        warn_if_too_large(folder, training)
    return ModelFolder(settings=settings, sha256=model_digest(folder, settings), folder=str(folder))


@functools.lru_cache(maxsize=8)
def _local_base(settings_json: str, sha256: str) -> Path:
    """Finds the run's base model in the cache of another machine; BadInputError if it is missing or another one."""
    settings = ModelSettings.model_validate_json(settings_json)
    base = find_model(settings)
    if base.sha256 != sha256:
        raise BadInputError(
            "this worker has another model of this name than the machine that started the run",
            where=f"model.path {settings.path}",
            fix="Set model.revision, or copy the same folder to every machine.",
        )
    return Path(str(base.folder))


def trained_model(base: ModelFolder, trained: Shard) -> ModelFolder:
    """Returns the model that training made, which contains its chat template."""
    if trained.model is None:
        raise DamagedError("training gave no model")
    return registered_model(base, trained.model)


def registered_model(base: ModelFolder, ref: ArtifactRef) -> ModelFolder:
    """Returns a model that an earlier run trained from `base`, and that `ref` names."""
    settings = base.settings.model_copy(update={"path": ref.path, "revision": None, "chat_template": None})
    return ModelFolder(settings=settings, sha256=ref.sha256, ref=ref)
