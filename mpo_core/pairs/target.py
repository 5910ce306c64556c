"""Makes the pairs in a target language, each with its dominant pair."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from mpo_core.contract.tables import PAIRS, QUARANTINE, source_id
from mpo_core.pairs.answers import (
    Sampled,
    Side,
    borrow,
    chosen_test,
    first_side,
    judged,
    pick,
    reference_sides,
    rejected_test,
)
from mpo_core.pairs.gates import Fault, Row, Texts, answers_fault, quarantine_row, repeated
from mpo_core.settings import PairSettings


class _Material(NamedTuple):
    """The texts from which target pairs are made; a part that the strategy does not use is empty."""

    prompts: Mapping[str, str]
    translated: Mapping[tuple[str, str], str]
    weights: Mapping[tuple[str, str], float]
    sampled: Mapping[str, Sequence[Sampled]]
    refusals: Mapping[str, Mapping[str, str]]
    references: Mapping[str, tuple[Side, Side]]


def target_pairs(
    source_pairs: pa.Table,
    prompt_translations: pa.Table,
    settings: PairSettings,
    *,
    dominant: str,
    language: str,
    reference_answers: pa.Table | None = None,
    answer_translations: pa.Table | None = None,
    responses: pa.Table | None = None,
    verdicts: pa.Table | None = None,
) -> tuple[pa.Table, pa.Table]:
    """Makes one target pair per source pair.

    A prompt with reference answers in the target language gets these (`reference`). For others the strategy decides:
    `translated`: both answers are the dominant ones translated. `sampled`: both are sampled in the target language
    and picked by verdict, as in `source_pairs`; a harmless pair without a sampled refusal borrows one that the model
    gave to a harmful prompt of the same split. `mixed`: the sampled answer where there is one, else the translated
    one; `origin` says which.

    Args:
        source_pairs: table SOURCE_PAIRS.
        prompt_translations: table TRANSLATIONS with role prompt; other languages in it are ignored.
        settings: strategy and limits.
        dominant: code of the dominant language.
        language: code of the target.
        reference_answers: table REFERENCE_ANSWERS in the target language. Where every pair has them, the strategy needs
            no other table.
        answer_translations: table TRANSLATIONS with roles chosen and rejected (`translated`, `mixed`).
        responses: table RESPONSES in the target language (`sampled`, `mixed`).
        verdicts: table VERDICTS on the responses.

    Returns:
        PAIRS in the order of the source pairs, and QUARANTINE (`no_translation`, `no_chosen`, `no_rejected`,
        `empty_response`, `too_alike`, `wrong_language`, `length_outlier`, `repeated_pair`).

    Raises:
        ValueError: the strategy lacks a table, a response has no verdict, or a table is of another language.
    """
    material = _material(
        source_pairs,
        prompt_translations,
        settings,
        language,
        reference_sides(reference_answers),
        answer_translations,
        responses,
        verdicts,
    )
    rows: list[Row] = []
    faults: dict[str, Fault] = {}
    for source in source_pairs.to_pylist():
        key = source["prompt_id"]
        sides = _sides(source, material, settings)
        if isinstance(sides, Fault):
            faults[f"{key}/{language}"] = sides
            continue
        weight = _weight(key, sides, material.weights)
        row = _row(source, material.prompts[key], *sides, weight, dominant=dominant, language=language)
        mirrored = _side(row, "source")
        fault = answers_fault(_side(row, "target"), language, settings, source=mirrored, dominant=dominant)
        if fault is None:
            rows.append(row)
        else:
            faults[row["pair_id"]] = fault
    faults |= repeated(((row["pair_id"], _side(row, "target")) for row in rows), settings.max_overlap)
    return (
        PAIRS.build([row for row in rows if row["pair_id"] not in faults]),
        QUARANTINE.build([quarantine_row(key, language, *fault) for key, fault in faults.items()]),
    )


def _side(row: Row, side: str) -> Texts:
    return Texts(*(row[f"{side}_{name}"] for name in Texts._fields))


def _material(
    source_pairs: pa.Table,
    prompt_translations: pa.Table,
    settings: PairSettings,
    language: str,
    references: Mapping[str, tuple[Side, Side]],
    answer_translations: pa.Table | None,
    responses: pa.Table | None,
    verdicts: pa.Table | None,
) -> _Material:
    translated: dict[tuple[str, str], str] = {}
    sampled: dict[str, list[Sampled]] = {}
    complete = references.keys() >= set(source_pairs["prompt_id"].to_pylist())
    if settings.strategy != "sampled" and not (complete and answer_translations is None):
        if answer_translations is None:
            raise ValueError(f"the strategy {settings.strategy} needs answer_translations")
        translated = _texts(answer_translations, language)
    if settings.strategy != "translated" and not (complete and responses is None):
        if responses is None or verdicts is None:
            raise ValueError(f"the strategy {settings.strategy} needs responses and verdicts")
        if set(responses.column("language").to_pylist()) - {language}:
            raise ValueError(f"the responses are not all in {language!r}")
        sampled = judged(responses, verdicts)
    prompts = {key: text for (key, role), text in _texts(prompt_translations, language).items() if role == "prompt"}
    refusals: dict[str, dict[str, str]] = {}
    for row in source_pairs.select(["prompt_id", "kind", "split"]).to_pylist():
        text = pick(sampled.get(row["prompt_id"], []), chosen_test("harmful")) if row["kind"] == "harmful" else None
        if text is not None and text.strip():
            refusals.setdefault(row["split"], {})[row["prompt_id"]] = text
    tables = [prompt_translations, *([] if answer_translations is None else [answer_translations])]
    weights = {key: weight for table in tables for key, weight in _weights(table, language).items()}
    return _Material(prompts, translated, weights, sampled, refusals, references)


def _texts(translations: pa.Table, language: str) -> dict[tuple[str, str], str]:
    return {
        (row["prompt_id"], row["role"]): row["text"] for row in translations.to_pylist() if row["language"] == language
    }


def _weights(translations: pa.Table, language: str) -> dict[tuple[str, str], float]:
    rows = translations.select(["prompt_id", "role", "language", "weight"]).to_pylist()
    return {(row["prompt_id"], row["role"]): row["weight"] for row in rows if row["language"] == language}


def _sides(source: Row, material: _Material, settings: PairSettings) -> tuple[Side, Side] | Fault:
    key = source["prompt_id"]
    if not material.prompts.get(key, "").strip():
        return Fault("no_translation", "the prompt has no translation")
    samples = material.sampled.get(key, [])
    chosen, rejected = material.references.get(key) or (
        first_side(
            _options(source, role, samples, material, settings),
            missing=_missing(role, settings),
            prompt=source["prompt"],
        )
        for role in ("chosen", "rejected")
    )
    for role, side in (("chosen", chosen), ("rejected", rejected)):
        if side.reason is not None:
            return Fault(side.reason, f"no {role} answer: {len(samples)} sampled, strategy {settings.strategy}")
    return chosen, rejected


def _missing(role: str, settings: PairSettings) -> str:
    return "no_translation" if settings.strategy == "translated" else f"no_{role}"


def _options(
    source: Row, role: str, samples: Sequence[Sampled], material: _Material, settings: PairSettings
) -> list[tuple[str | None, str]]:
    """Returns the candidates for an answer in order of preference; those that the strategy does not use are missing."""
    key, kind = source["prompt_id"], source["kind"]
    test = chosen_test(kind) if role == "chosen" else rejected_test(kind, settings.rejected_verdicts)
    options = [(pick(samples, test), "sampled"), (material.translated.get((key, role)), "translated")]
    if kind == "harmless" and role == "rejected":
        options.append((borrow(material.refusals.get(source["split"], {}), key), "sampled"))
    return options


def _weight(key: str, sides: tuple[Side, Side], weights: Mapping[tuple[str, str], float]) -> float | None:
    """Returns the minimum of the weights of a pair's translations; None if no gate has marked any of them."""
    roles = [
        "prompt",
        *(role for role, side in zip(("chosen", "rejected"), sides, strict=True) if side.origin == "translated"),
    ]
    least = min(weights.get((key, role), 1.0) for role in roles)
    return None if least == 1.0 else least


def _row(
    source: Row, prompt: str, chosen: Side, rejected: Side, weight: float | None, *, dominant: str, language: str
) -> Row:
    return {
        "pair_id": f"{source['prompt_id']}/{language}",
        "source_id": source_id(source["prompt"], source["chosen"], source["rejected"]),
        "prompt_id": source["prompt_id"],
        "kind": source["kind"],
        "split": source["split"],
        "source_language": dominant,
        "language": language,
        "source_prompt": source["prompt"],
        "source_chosen": source["chosen"],
        "source_rejected": source["rejected"],
        "target_prompt": prompt,
        "target_chosen": chosen.text,
        "target_rejected": rejected.text,
        "origin": chosen.origin if chosen.origin == rejected.origin else "mixed",
        "weight": weight,
    }
