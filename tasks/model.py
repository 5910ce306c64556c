"""A model as a stage's input: where it lies and what it is."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from mpo_core.artifacts import ArtifactRef, ArtifactStore, Shard
from mpo_core.errors import DamagedError
from mpo_core.models import model_digest, resolve, shared_model
from mpo_core.settings import ModelSettings


class ModelFolder(BaseModel):
    """A model folder with its digest; the content of a key is the digest, not the path."""

    model_config = ConfigDict(frozen=True)

    settings: ModelSettings
    sha256: str
    folder: str | None = None
    ref: ArtifactRef | None = None

    @contextlib.contextmanager
    def open(self, store: ArtifactStore) -> Iterator[Path]:
        """The local folder, verified if it is one of ours."""
        if self.ref is not None:
            with store.open_folder(self.ref) as path:
                yield path
        elif self.folder is not None:
            yield Path(self.folder)
        else:
            raise DamagedError("a model without a place")

    @contextlib.contextmanager
    def loaded(self, store: ArtifactStore, dtype: str | None = None) -> Iterator[tuple[Any, Any]]:
        """Model and tokenizer, for this thread alone while the context lasts; `dtype` overrides the settings'."""
        with self.open(store) as folder:
            model, tokenizer, lock = shared_model(folder, self.settings, dtype)
            with lock:
                yield model, tokenizer


def find_model(settings: ModelSettings) -> ModelFolder:
    """The model that a run starts from.

    Raises:
        BadInputError: it cannot be found or is no complete chat model.
    """
    folder = resolve(settings).resolve()
    return ModelFolder(settings=settings, sha256=model_digest(folder, settings), folder=str(folder))


def trained_model(base: ModelFolder, trained: Shard) -> ModelFolder:
    """The model that training made; it brings its chat template along."""
    if trained.model is None:
        raise DamagedError("training gave no model")
    return kept_model(base, trained.model)


def kept_model(base: ModelFolder, ref: ArtifactRef) -> ModelFolder:
    """A model of this root that was trained from `base`."""
    settings = base.settings.model_copy(update={"path": ref.path, "revision": None, "chat_template": None})
    return ModelFolder(settings=settings, sha256=ref.sha256, ref=ref)
