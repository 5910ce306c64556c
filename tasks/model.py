"""A model as a stage's input: where it lies and what it is."""

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
from mpo_core.settings import ModelSettings


class ModelFolder(BaseModel):
    """A model folder with its digest; the content of a key is the digest, not the path."""

    model_config = ConfigDict(frozen=True)

    settings: ModelSettings
    sha256: str
    folder: str | None = None
    ref: ArtifactRef | None = None

    @property
    def name(self) -> str:
        """What sampling backends call it: `trained` for a model of ours, else its path in the settings."""
        return self.settings.path if self.ref is None else TRAINED

    @contextlib.contextmanager
    def open(self, store: ArtifactStore) -> Iterator[Path]:
        """The local folder, verified if it is one of ours; a base model is looked for where the run has no folder."""
        if self.ref is not None:
            with store.open_folder(self.ref) as path:
                yield path
        elif self.folder is not None:
            folder = Path(self.folder)
            yield folder if folder.is_dir() else _local_base(self.settings.model_dump_json(), self.sha256)
        else:
            raise DamagedError("a model without a place")

    @contextlib.contextmanager
    def loaded(self, store: ArtifactStore, dtype: str | None = None) -> Iterator[tuple[Any, Any]]:
        """Model and tokenizer, for this thread alone while the context lasts; `dtype` overrides the settings'."""
        with self.open(store) as folder:
            model, tokenizer, lock = shared_model(folder, self.settings, dtype)
            with lock:
                yield model, tokenizer


def find_model(settings: ModelSettings, *, cutoff: int | None = None) -> ModelFolder:
    """The model that a run starts from; `cutoff` is the length of training texts, if the run trains.

    Raises:
        BadInputError: it cannot be found or cannot be used, or its context is shorter than `cutoff`.
    """
    folder = resolve(settings, cutoff=cutoff).resolve()
    return ModelFolder(settings=settings, sha256=model_digest(folder, settings), folder=str(folder))


@functools.lru_cache(maxsize=8)
def _local_base(settings_json: str, sha256: str) -> Path:
    """A base model on a worker of another machine, which has its own cache of the hub.

    Raises:
        BadInputError: it cannot be found here, or is not the one that the run started from.
    """
    settings = ModelSettings.model_validate_json(settings_json)
    base = find_model(settings)
    if base.sha256 != sha256:
        raise BadInputError(
            "this worker finds another model than the run did",
            where=f"model.path {settings.path}",
            fix="Name a model.revision, or lay the same folder on every machine.",
        )
    return Path(str(base.folder))


def trained_model(base: ModelFolder, trained: Shard) -> ModelFolder:
    """The model that training made; it brings its chat template along."""
    if trained.model is None:
        raise DamagedError("training gave no model")
    return registered_model(base, trained.model)


def registered_model(base: ModelFolder, ref: ArtifactRef) -> ModelFolder:
    """A model of this root that was trained from `base`."""
    settings = base.settings.model_copy(update={"path": ref.path, "revision": None, "chat_template": None})
    return ModelFolder(settings=settings, sha256=ref.sha256, ref=ref)
