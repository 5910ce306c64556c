"""Texts through the engines; what none of them can do goes to the quarantine."""

from __future__ import annotations

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
"""So many texts more may rightly become the same: some languages say less differently."""
_log = logging.getLogger(__name__)


class Text(NamedTuple):
    """A text to translate; `role` is prompt, chosen or rejected."""

    prompt_id: str
    role: str
    text: str


class Chain(NamedTuple):
    """Engines in the order in which they are asked, the gates, and who translates back."""

    engines: Sequence[Engine]
    gates: TranslationGates = TranslationGates()
    back: Engine | None = None


class _Translation(NamedTuple):
    text: str
    engine: str
    verdicts: list[Verdict]


class _Failure(NamedTuple):
    """Why an engine's try at a text was none."""

    engine: str
    reason: str
    score: str = ""


def prompt_texts(prompts: pa.Table) -> list[Text]:
    """The requests of a PROMPTS table, in order."""
    return [Text(row["prompt_id"], "prompt", row["text"]) for row in prompts.select(["prompt_id", "text"]).to_pylist()]


def answer_texts(source_pairs: pa.Table) -> list[Text]:
    """The answers of a SOURCE_PAIRS table: chosen and rejected of each pair, in order."""
    rows = source_pairs.select(["prompt_id", "chosen", "rejected"]).to_pylist()
    return [Text(row["prompt_id"], role, row[role]) for row in rows for role in ("chosen", "rejected")]


def translate_texts(texts: Sequence[Text], chain: Chain, *, source: str, target: str) -> tuple[pa.Table, pa.Table]:
    """Asks the engines in order; the first translation that passes the hard gates wins.

    A text that no engine can translate is rejected with the last reason: a gate's name, `no_translation` (no engine
    knows it), or why a service gave nothing (`timed_out`, `too_many_requests`, `server_error` …). One that a soft
    gate marks stays, weighs less, or is rejected too, as `gates.marked` says.

    Args:
        texts: what to translate; (prompt_id, role) is unique.
        chain: engines and gates.
        source: language code of the texts.
        target: language code wanted.

    Returns:
        TRANSLATIONS in the order of `texts`, and QUARANTINE.

    Raises:
        UnknownLanguageError: no engine can work with these languages.
        BadInputError: a service refuses its key.
        StageFailedError: the last engine does not answer any more; what was answered is kept for the next run.
    """
    if chain.back is not None:
        chain.back.check(target, source)
    work = _Work(texts, chain, source, target)
    for engine, is_last in _usable(chain.engines, source, target):
        work.ask(engine, is_last=is_last)
    rows, rejected = [], []
    for text in texts:
        if text.text not in work.failures:
            rejected.append(_rejected_row(text, target, "invalid_text", "halves of characters, which no file takes"))
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
    """The engines that know the two languages, each with whether it is the last one."""
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
    """Texts on their way from engine to engine: the translations so far, and what each engine failed at."""

    def __init__(self, texts: Sequence[Text], chain: Chain, source: str, target: str) -> None:
        wanted = (text.text for text in texts if not damaged(text.text, like=text.text))
        self.done: dict[str, _Translation] = {}
        self.failures: dict[str, list[_Failure]] = {text: [] for text in wanted}
        self._chain, self._gates, self._source, self._target = chain, chain.gates, source, target

    def ask(self, engine: Engine, *, is_last: bool) -> None:
        """Asks an engine for what is not done yet; what then fails a hard gate stays open."""
        texts = [text for text in self.failures if text not in self.done]
        if not texts:
            return
        replies = _translated_by(engine, texts, self._source, self._target, is_last=is_last)
        given: dict[str, str] = {}
        for text, reply in zip(texts, replies, strict=True):
            if reply.text is None:
                self.failures[text].append(_Failure(engine.name, reply.reason))
            else:
                given[text] = reply.text
        refused = []
        for text, own_verdicts in self._judged(engine, given).items():
            failed = self._failed(own_verdicts)
            if failed is None:
                self.done[text] = _Translation(given[text], engine.name, own_verdicts)
            else:
                self.failures[text].append(_Failure(engine.name, failed.gate, f"{failed.score:.3g}"))
                refused.append(text)
        engine.judge(refused, self._source, self._target, refused=True)
        engine.judge([text for text in given if text in self.done], self._source, self._target, refused=False)

    def _judged(self, engine: Engine, given: dict[str, str]) -> dict[str, list[Verdict]]:
        """The verdicts on each translation, those that need the whole block or a way back included."""
        judged = {
            text: verdicts(
                text, given[text], source=self._source, target=self._target, settings=self._gates, measures=engine.masks
            )
            for text in given
        }
        if engine.masks:
            # A service that is broken may give one answer to everybody.
            counts = Counter(translation.casefold() for translation in given.values())
            for text, own_verdicts in judged.items():
                others = counts[given[text].casefold()] - 1
                own_verdicts.append(Verdict("shared", others <= _MOST_SHARED, float(others)))
        if self._chain.back is not None and self._gates.back_translation is not None:
            passed = [text for text, own_verdicts in judged.items() if self._failed(own_verdicts) is None]
            translations = [given[text] for text in passed]
            returned = _translated_by(self._chain.back, translations, self._target, self._source, is_last=True)
            for text, reply in zip(passed, returned, strict=True):
                chrf = _chrf(text, reply.text or "")
                bound = self._gates.back_translation.min_chrf
                judged[text].append(Verdict("back_translation", chrf >= bound, chrf))
        return judged

    def _failed(self, own_verdicts: list[Verdict]) -> Verdict | None:
        """The first hard gate that a translation does not pass."""
        return next((v for v in own_verdicts if not v.passed and v.gate in self._gates.hard), None)


def _translated_by(engine: Engine, texts: list[str], source: str, target: str, *, is_last: bool) -> list[Reply]:
    try:
        return engine.translate(texts, source, target)
    except EngineDownError as error:
        if is_last and error.refusal is not None:
            raise error.refusal from None
        if is_last:
            raise StageFailedError(
                f"the translation engine {error.engine} does not answer any more ({error.reason}). What it answered "
                "is kept: run again to go on, or name another engine after it"
            ) from None
        _log.warning("the engine %s does not answer any more (%s); the next one is asked", error.engine, error.reason)
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
    """The quarantine row of a text that no engine could translate, with what each engine failed at."""
    reasons = [failure.reason for failure in failures if failure.reason != NO_TRANSLATION]
    detail = "; ".join(" ".join(filter(None, failure)) for failure in failures)
    return _rejected_row(text, target, reasons[-1] if reasons else NO_TRANSLATION, detail)


def _rejected_row(text: Text, target: str, reason: str, detail: str) -> dict[str, Any]:
    return {"row_id": f"{text.prompt_id}/{text.role}", "language": target, "reason": reason, "detail": detail}
