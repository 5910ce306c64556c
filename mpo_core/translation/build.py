"""Builds the chain of engines from the settings, and finds out what the engines' answers depend on."""

from collections.abc import Callable

from mpo_core.contract.translation import Backend, Engine, TranslationEngine
from mpo_core.settings import TranslationSettings
from mpo_core.translation.machine import MachineEngine
from mpo_core.translation.replies import Replies
from mpo_core.translation.translate import Chain


def build_chain(settings: TranslationSettings, replies: Replies, on_reply: Callable[[], None]) -> Chain:
    """Returns the engines in the order of the settings, with the gates.

    Raises:
        BadInputError: a memory file or a model is missing or malformed.
    """

    def machine(backend: Backend) -> Engine:
        return MachineEngine(backend, replies, on_reply, lambda: require_keys(settings))

    back = settings.gates.back_translation
    return Chain(
        [engine.open(machine) for engine in settings.engines],
        settings.gates,
        None if back is None else back.engine.open(machine),
    )


def fingerprint(settings: TranslationSettings) -> list[str]:
    """Returns what each engine's answers depend on beside its settings, such as the digest of a file or a model.

    Raises:
        BadInputError: a memory file or a model is missing or cannot be read.
    """
    return [engine.identity() for engine in _engines(settings)]


def require_keys(settings: TranslationSettings) -> None:
    """Checks that the key of every service is set.

    Raises:
        BadInputError: a key is missing or malformed.
    """
    for engine in _engines(settings):
        engine.require_key()


def _engines(settings: TranslationSettings) -> list[TranslationEngine]:
    back = settings.gates.back_translation
    return [*settings.engines, *([] if back is None else [back.engine])]
