"""Loaded models that stay in memory for the next task, until `forget_models` frees it."""

import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mpo_core.models.load import load_model, load_tokenizer
from mpo_core.settings import ModelSettings

forgetting: list[Callable[[], None]] = []
"""Functions that `forget_models` calls, too: other modules that keep models loaded, such as translation, add theirs."""


@functools.lru_cache(maxsize=2)
def _loaded(
    folder: Path, settings_json: str, dtype: str, attention: str | None, device_map: str | None
) -> tuple[Any, Any, threading.Lock]:
    settings = ModelSettings.model_validate_json(settings_json)
    model = load_model(folder, settings, dtype=dtype, attention=attention, device_map=device_map)
    return model, load_tokenizer(folder, settings), threading.Lock()


_CACHE = threading.Lock()


def shared_model(
    folder: Path,
    settings: ModelSettings,
    dtype: str | None = None,
    *,
    attention: str | None = None,
    device_map: str | None = None,
) -> tuple[Any, Any, threading.Lock]:
    """Returns a model, its tokenizer and a lock to hold while it is used; the two models last used stay loaded.

    Folders are content-addressed and never change, so the path is the identity. The other arguments are those of
    `load_model`.
    """
    with _CACHE:
        return _loaded(folder, settings.model_dump_json(), dtype or settings.dtype, attention, device_map)


def forget_models() -> None:
    """Frees the memory of all loaded models that are not in use, before training or another model needs it."""
    with _CACHE:
        _loaded.cache_clear()
    for forget in forgetting:
        forget()
