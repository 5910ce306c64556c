"""Translates texts with a chain of engines; what no engine can translate goes to the quarantine."""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from mpo_core.contract.errors import StageFailedError
from mpo_core.contract.tables import QUARANTINE, TRANSLATIONS
from mpo_core.contract.translation import NO_TRANSLATION, Engine, EngineDownError, Reply, UnknownLanguageError
from mpo_core.languages.defects import damaged
from mpo_core.settings import TranslationGates
from mpo_core.translation.gates import Verdict, verdicts

_MOST_SHARED = 3
"""Up to this many other texts may have the same translation, since a language may express them all in one way."""
_log = logging.getLogger(__name__)


class Text(NamedTuple):
    """A text to translate: that of a prompt, or one of its answers. `role` is prompt, chosen or rejected."""

    prompt_id: str
    role: str
    text: str


class Chain(NamedTuple):
    """The engines in the order of their use, the gates, and the engine `back` for translating back."""

    engines: Sequence[Engine]
    gates: TranslationGates = TranslationGates()
    back: Engine | None = None


class _Translation(NamedTuple):
    text: str
    engine: str
    verdicts: list[Verdict]


class _Failure(NamedTuple):
    """Why an engine gave no usable translation of a text: a reason, or a gate's name and score."""

    engine: str
    reason: str
    score: str = ""


def prompt_texts(prompts: pa.Table) -> list[Text]:
    """Returns the requests of a PROMPTS table, in order."""
    return [Text(row["prompt_id"], "prompt", row["text"]) for row in prompts.select(["prompt_id", "text"]).to_pylist()]


def answer_texts(source_pairs: pa.Table) -> list[Text]:
    """Returns the answers of a SOURCE_PAIRS table: chosen and rejected of each pair, in order."""
    rows = source_pairs.select(["prompt_id", "chosen", "rejected"]).to_pylist()
    return [Text(row["prompt_id"], role, row[role]) for row in rows for role in ("chosen", "rejected")]


def translate_texts(texts: Sequence[Text], chain: Chain, *, source: str, target: str) -> tuple[pa.Table, pa.Table]:
    """Translates texts: asks the engines in order, and takes the first translation that passes the hard gates.

    A text that no engine can translate is rejected with the last reason: a gate's name, `no_translation` (no engine
    knows it), or why a service gave nothing (`timed_out`, `too_many_requests`, `server_error` …). The setting
    `gates.marked` says whether a translation that a soft gate marks is used, counts less, or is rejected too.

    Args:
        texts: what to translate; (prompt_id, role) is unique.
        chain: engines and gates.
        source: language code of the texts.
        target: language code of the translations.

    Returns:
        TRANSLATIONS in the order of `texts`, and QUARANTINE.

    Raises:
        UnknownLanguageError: no engine knows both languages.
        BadInputError: a service refuses its key.
        StageFailedError: the last engine does not answer any more; its answers are saved for the next run.
    """
    if chain.back is not None:
        chain.back.check(target, source)
    work = _Work(texts, chain, source, target)
    for engine, is_last in _usable(chain.engines, source, target):
        work.ask(engine, is_last=is_last)
    rows, rejected = [], []
    for text in texts:
        if text.text not in work.failures:
            rejected.append(
                _rejected_row(text, target, "invalid_text", "half of a surrogate pair, which no file can hold")
            )
        elif text.text in work.done:
            result = work.done[text.text]
            marks = [verdict.gate for verdict in result.verdicts if not verdict.passed]
            if marks and chain.gates.marked == "drop":
                rejected.append(_rejected_row(text, target, marks[0], f"{result.engine} {', '.join(marks)}"))
            else:
                rows.append(_row(text, target, result, marks, chain.gates))
        else:
            rejected.append(_failed_row(text, target, work.failures[text.text]))
    return TRANSLATIONS.build(rows), QUARANTINE.build(rejected)


def _usable(engines: Sequence[Engine], source: str, target: str) -> list[tuple[Engine, bool]]:
    """Returns the engines that know both languages, each with whether it is the last one."""
    usable, unknown = [], []
    for engine in engines:
        try:
            engine.check(source, target)
        except UnknownLanguageError as error:
            unknown.append(error)
        else:
            usable.append(engine)
    if not usable:
        raise unknown[0]
    return [(engine, engine is usable[-1]) for engine in usable]


class _Work:
    """The state of one call: the translations so far, and by text the failures of each engine."""

    def __init__(self, texts: Sequence[Text], chain: Chain, source: str, target: str) -> None:
        usable = (text.text for text in texts if not damaged(text.text, like=text.text))
        self.done: dict[str, _Translation] = {}
        self.failures: dict[str, list[_Failure]] = {text: [] for text in usable}
        self._chain, self._gates, self._source, self._target = chain, chain.gates, source, target

    def ask(self, engine: Engine, *, is_last: bool) -> None:
        """Asks an engine for the texts without a translation; those that fail a hard gate go to the next engine."""
        texts = [text for text in self.failures if text not in self.done]
        if not texts:
            return
        replies = _translated_by(engine, texts, self._source, self._target, is_last=is_last)
        translations: dict[str, str] = {}
        for text, reply in zip(texts, replies, strict=True):
            if reply.text is None:
                self.failures[text].append(_Failure(engine.name, reply.reason))
            else:
                translations[text] = reply.text
        failed_texts = []
        for text, own_verdicts in self._verdicts(engine, translations).items():
            failed = self._failed(own_verdicts)
            if failed is None:
                self.done[text] = _Translation(translations[text], engine.name, own_verdicts)
            else:
                self.failures[text].append(_Failure(engine.name, failed.gate, f"{failed.score:.3g}"))
                failed_texts.append(text)
        engine.judge(failed_texts, self._source, self._target, refused=True)
        engine.judge([text for text in translations if text in self.done], self._source, self._target, refused=False)

    def _verdicts(self, engine: Engine, translations: dict[str, str]) -> dict[str, list[Verdict]]:
        """Tests each translation by all gates, with those that need the whole block or a translation back."""
        judged = {
            text: verdicts(
                text,
                translations[text],
                source=self._source,
                target=self._target,
                settings=self._gates,
                measures=engine.masks,
            )
            for text in translations
        }
        if engine.masks:
            # A broken service may give the same answer to every text.
            counts = Counter(translation.casefold() for translation in translations.values())
            for text, own_verdicts in judged.items():
                others = counts[translations[text].casefold()] - 1
                own_verdicts.append(Verdict("shared", others <= _MOST_SHARED, float(others)))
        if self._chain.back is not None and self._gates.back_translation is not None:
            passed = [text for text, own_verdicts in judged.items() if self._failed(own_verdicts) is None]
            passed_translations = [translations[text] for text in passed]
            returned = _translated_by(self._chain.back, passed_translations, self._target, self._source, is_last=True)
            for text, reply in zip(passed, returned, strict=True):
                chrf = _chrf(text, reply.text or "")
                bound = self._gates.back_translation.min_chrf
                judged[text].append(Verdict("back_translation", chrf >= bound, chrf))
        return judged

    def _failed(self, own_verdicts: list[Verdict]) -> Verdict | None:
        """Returns the verdict of the first hard gate that a translation fails; None if it passes all."""
        return next((v for v in own_verdicts if not v.passed and v.gate in self._gates.hard), None)


def _translated_by(engine: Engine, texts: list[str], source: str, target: str, *, is_last: bool) -> list[Reply]:
    try:
        return engine.translate(texts, source, target)
    except EngineDownError as error:
        if is_last and error.refusal is not None:
            raise error.refusal from None
        if is_last:
            raise StageFailedError(
                f"the translation engine {error.engine} does not answer any more ({error.reason}). Its answers so far "
                "are saved: run again to continue, or name another engine after it in translation.engines"
            ) from None
        _log.warning("the engine %s does not answer any more (%s); the next one is used", error.engine, error.reason)
        return [error.replies[text] for text in texts]


def _chrf(text: str, returned: str) -> float:
    from sacrebleu import sentence_chrf

    return float(sentence_chrf(returned, [text]).score)


def _row(text: Text, target: str, result: _Translation, marks: list[str], gates: TranslationGates) -> dict[str, Any]:
    return {
        "prompt_id": text.prompt_id,
        "role": text.role,
        "language": target,
        "text": result.text,
        "engine": result.engine,
        "weight": gates.weight if marks and gates.marked == "weigh" else 1.0,
        "marks": marks,
        "gates": [verdict._asdict() for verdict in result.verdicts],
    }


def _failed_row(text: Text, target: str, failures: list[_Failure]) -> dict[str, Any]:
    """Makes the quarantine row of a text that no engine could translate, with the failure of each engine."""
    reasons = [failure.reason for failure in failures if failure.reason != NO_TRANSLATION]
    detail = "; ".join(" ".join(filter(None, failure)) for failure in failures)
    return _rejected_row(text, target, reasons[-1] if reasons else NO_TRANSLATION, detail)


def _rejected_row(text: Text, target: str, reason: str, detail: str) -> dict[str, Any]:
    return {"row_id": f"{text.prompt_id}/{text.role}", "language": target, "reason": reason, "detail": detail}
