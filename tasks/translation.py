"""Translates prompts and answers from the dominant language into one target language."""

import itertools

from mpo_core.contract.artifacts import ArtifactRef, ArtifactStore, Shard
from mpo_core.contract.tables import PROMPTS, SOURCE_PAIRS, TRANSLATIONS
from mpo_core.settings import TranslationSettings
from mpo_core.translation.build import build_chain
from mpo_core.translation.replies import REPLIES_FILE, Replies
from mpo_core.translation.translate import Text, answer_texts, prompt_texts, translate_texts
from tasks.stage import ShardInput, read_rows, stage, tell_progress, write_shard


@stage("translation", verb="translate", version=7)
def translate_prompts(
    store: ArtifactStore,
    *,
    prompts: ArtifactRef,
    settings: TranslationSettings,
    fingerprint: list[str],
    source: str,
    target: str,
    label: str,
) -> Shard:
    """Translates one block of prompts; `fingerprint` (digests of the engines' files) is for the cache key."""
    return _translate(prompt_texts(store.read_table(prompts, PROMPTS)), settings, source, target, store)


@stage("translation", verb="translate-answers", version=7)
def translate_answers(
    store: ArtifactStore,
    *,
    pairs: ShardInput,
    settings: TranslationSettings,
    fingerprint: list[str],
    source: str,
    target: str,
    label: str,
) -> Shard:
    """Translates both answers, chosen and rejected, of a block of pairs; `fingerprint` is for the cache key."""
    return _translate(answer_texts(read_rows(store, [pairs], SOURCE_PAIRS)), settings, source, target, store)


def _translate(
    texts: list[Text], settings: TranslationSettings, source: str, target: str, store: ArtifactStore
) -> Shard:
    answered = itertools.count(1)
    with Replies(store.scratch(REPLIES_FILE), attempt=settings.attempt) as replies:
        # Engines translate texts in pieces, whose number is not known before: progress counts at most the texts.
        chain = build_chain(settings, replies, lambda: tell_progress(min(next(answered), len(texts)), len(texts)))
        rows, quarantine = translate_texts(texts, chain, source=source, target=target)
    return write_shard(store, "translation", TRANSLATIONS, rows, quarantine, language=target)
