"""Models that stay loaded, for as long as nobody wants their memory."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mpo_core.models.load import load_model, load_tokenizer
from mpo_core.settings import ModelSettings

forgetting: list[Callable[[], None]] = []
"""What else keeps models, such as translation: called by `forget_models`."""


@functools.lru_cache(maxsize=2)
def _loaded(
    folder: Path, settings_json: str, dtype: str | None, attention: str | None, device_map: str | None
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
    """Model, tokenizer and a lock, loaded once per process and folder (the last two are kept).

    Folders are content-addressed and never change, so the path is the identity. The other arguments are those of
    `load_model`.
    """
    with _CACHE:
        return _loaded(folder, settings.model_dump_json(), dtype, attention, device_map)


def forget_models() -> None:
    """Drops the loaded models that nobody uses: training wants the memory."""
    with _CACHE:
        _loaded.cache_clear()
    for forget in forgetting:
        forget()
