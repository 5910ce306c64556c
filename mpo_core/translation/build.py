"""Builds the chain of engines from the settings, and finds out what the engines' answers depend on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mpo_core.contract.translation import Backend, Engine, RemoteSource, TranslationEngine
from mpo_core.settings import TranslationSettings
from mpo_core.translation.machine import MachineEngine
from mpo_core.translation.replies import Replies
from mpo_core.translation.translate import Chain


def build_chain(
    settings: TranslationSettings, replies: Replies, on_reply: Callable[[], None], *, with_keys: bool = True
) -> Chain:
    """Returns the engines in the order of the settings, with the gates.

    Args:
        settings: which engines, and their limits.
        replies: where the answers of machine translators are stored.
        on_reply: called at every new answer; may raise to end the work.
        with_keys: whether the services' keys must be set; an estimate sends no request and needs none.

    Raises:
        BadInputError: a memory file or a model is missing or malformed, or a service's key is not set.
    """

    def machine(backend: Backend) -> Engine:
        return MachineEngine(backend, replies, on_reply)

    back = settings.gates.back_translation
    return Chain(
        [engine.open(machine, with_key=with_keys) for engine in settings.engines],
        settings.gates,
        None if back is None else back.engine.open(machine, with_key=with_keys),
    )


def fingerprint(settings: TranslationSettings) -> list[str]:
    """Returns what each engine's answers depend on beside its settings, such as the digest of a file or a model.

    Raises:
        BadInputError: a memory file or a model is missing or cannot be read.
    """
    return [engine.identity() for engine in _engines(settings)]


def require_ready(settings: TranslationSettings) -> None:
    """Checks that every engine's file or model is there, and that every service's key is set.

    Raises:
        BadInputError: something is missing.
    """

    def unused(_: Backend) -> Any:
        return None

    fingerprint(settings)
    for engine in _engines(settings):
        if isinstance(engine, RemoteSource):  # to open the others, files and models are read
            engine.open(unused)


def _engines(settings: TranslationSettings) -> list[TranslationEngine]:
    back = settings.gates.back_translation
    return [*settings.engines, *([] if back is None else [back.engine])]
