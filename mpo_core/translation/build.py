"""From settings to engines, and to what an engine's answers depend on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mpo_core.files import digest
from mpo_core.settings import (
    DeepTranslatorSource,
    MemorySource,
    MicroworldSource,
    OpenAISource,
    Seq2SeqSource,
    TranslationSettings,
    TranslationSource,
)
from mpo_core.translation.engines import Engine
from mpo_core.translation.machine import Backend, MachineEngine
from mpo_core.translation.memory import MEND, MemoryEngine
from mpo_core.translation.microworld import MicroworldEngine
from mpo_core.translation.replies import Replies
from mpo_core.translation.translate import Chain


def build_chain(
    settings: TranslationSettings, replies: Replies, on_reply: Callable[[], None], *, with_keys: bool = True
) -> Chain:
    """The engines in the order in which they are asked, with the gates.

    Args:
        settings: which engines, and their limits.
        replies: where the answers of machine translators are kept.
        on_reply: called at every new answer; may raise to end the work.
        with_keys: whether the services' keys must be set; an estimate, which asks nobody, does without.

    Raises:
        BadInputError: a memory file or a model is missing or malformed, or a service's key is not set.
    """
    back = settings.gates.back_translation
    return Chain(
        [_build(source, replies, on_reply, with_keys=with_keys) for source in settings.engines],
        settings.gates,
        None if back is None else _build(back.engine, replies, on_reply, with_keys=with_keys),
    )


def _build(source: TranslationSource, replies: Replies, on_reply: Callable[[], None], *, with_keys: bool) -> Engine:
    if isinstance(source, MicroworldSource):
        return MicroworldEngine()
    if isinstance(source, MemorySource):
        return MemoryEngine(Path(source.path), columns=source.columns, delimiter=source.delimiter)
    return MachineEngine(_backend(source, with_keys=with_keys), replies, on_reply)


def _backend(source: DeepTranslatorSource | OpenAISource | Seq2SeqSource, *, with_keys: bool) -> Backend:
    # Imported where they are used: each brings a library along.
    if isinstance(source, DeepTranslatorSource):
        from mpo_core.translation.deep import deep_translator_backend

        return deep_translator_backend(source, with_key=with_keys)
    if isinstance(source, OpenAISource):
        from mpo_core.translation.openai import openai_backend

        return openai_backend(source, with_key=with_keys)
    from mpo_core.translation.seq2seq import Seq2SeqBackend

    return Seq2SeqBackend(source)


def fingerprint(settings: TranslationSettings) -> list[str]:
    """What each engine's answers depend on beyond its settings: a file's or a model's digest, a version of ours.

    Raises:
        BadInputError: a memory file or a model is missing or cannot be read.
    """
    back = settings.gates.back_translation
    return [_digest(source) for source in (*settings.engines, *([] if back is None else [back.engine]))]


def _digest(source: TranslationSource) -> str:
    if isinstance(source, MicroworldSource):
        from mpo_core.microworld import WORLD_VERSION

        return f"microworld:{WORLD_VERSION}"
    if isinstance(source, MemorySource):
        return f"memory:{digest(Path(source.path), mend=MEND)}"
    if isinstance(source, DeepTranslatorSource):
        from mpo_core.translation.deep import identity as deep_identity

        return deep_identity(source)
    if isinstance(source, OpenAISource):
        from mpo_core.translation.openai import identity as openai_identity

        return openai_identity(source)
    from mpo_core.translation.seq2seq import identity

    return identity(source)
