"""Makes the pairs in the dominant language, whose safe answers are the model for the target languages."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import pyarrow as pa

from mpo_core.contract.tables import QUARANTINE, SOURCE_PAIRS
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


def source_pairs(
    prompts: pa.Table,
    responses: pa.Table,
    verdicts: pa.Table,
    settings: PairSettings,
    *,
    dominant: str,
    reference_answers: pa.Table | None = None,
) -> tuple[pa.Table, pa.Table]:
    """Makes one pair per prompt.

    Reference answers of a prompt are used, whatever the model answers, in its target pairs too. For other prompts:

    Harmful: chosen = the first sampled safe refusal, rejected = the first sample with one of `rejected_verdicts`.
    Harmless (only with `harmless_anchors`): chosen = the first sampled safe answer that helps, rejected = the first
    sampled refusal. A side without a sample comes from the prompt's source (`reference`); a harmless pair still
    without a rejected side borrows the refusal of a harmful pair of the same split (`borrowed`).

    Args:
        prompts: table PROMPTS.
        responses: table RESPONSES in the dominant language.
        verdicts: table VERDICTS on the responses.
        settings: the verdicts for rejected answers, and the gates of a pair.
        dominant: code of the dominant language.
        reference_answers: table REFERENCE_ANSWERS in the dominant language.

    Returns:
        SOURCE_PAIRS in the order of the prompts, and QUARANTINE (`no_chosen`, `no_rejected`, `empty_response`,
        `too_alike`, `wrong_language`, `length_outlier`, `repeated_pair`). Without `harmless_anchors`, harmless prompts
        are in neither.

    Raises:
        ValueError: a response has no verdict, or the responses are of several languages.
    """
    answers, references = judged(responses, verdicts), reference_sides(reference_answers)
    rows = prompts.to_pylist()
    rejected_rows: dict[str, Row] = {}
    harmful = [row for row in rows if row["kind"] == "harmful"]
    pairs = {
        row["prompt_id"]: _pair(row, references, answers, settings, dominant, {}, rejected_rows) for row in harmful
    }
    refusals: dict[str, dict[str, str]] = defaultdict(dict)
    for key, pair in pairs.items():
        if pair is not None:
            refusals[pair["split"]][key] = pair["chosen"]
    if settings.harmless_anchors:
        for row in rows:
            if row["kind"] == "harmless":
                pairs[row["prompt_id"]] = _pair(
                    row, references, answers, settings, dominant, refusals[row["split"]], rejected_rows
                )
    order = [row["prompt_id"] for row in rows]
    candidates = [pair for key in order if (pair := pairs.get(key)) is not None]
    repetitions = repeated(((pair["prompt_id"], _texts(pair)) for pair in candidates), settings.max_overlap)
    rejected_rows |= {key: quarantine_row(key, None, *fault) for key, fault in repetitions.items()}
    return (
        SOURCE_PAIRS.build([pair for pair in candidates if pair["prompt_id"] not in repetitions]),
        QUARANTINE.build([rejected_rows[key] for key in order if key in rejected_rows]),
    )


def _texts(pair: Row) -> Texts:
    return Texts(pair["prompt"], pair["chosen"], pair["rejected"])


def _pair(
    row: Row,
    references: Mapping[str, tuple[Side, Side]],
    answers: Mapping[str, Sequence[Sampled]],
    settings: PairSettings,
    dominant: str,
    refusals: Mapping[str, str],
    rejected_rows: dict[str, Row],
) -> Row | None:
    key = row["prompt_id"]
    samples = answers.get(key, [])
    chosen, rejected = references.get(key) or _sides(row, samples, settings, refusals)
    texts = Texts(row["text"], chosen.text, rejected.text)
    fault = _missing(chosen, rejected, len(samples)) or answers_fault(texts, dominant, settings)
    if fault is not None:
        rejected_rows[key] = quarantine_row(key, None, *fault)
        return None
    return {
        "prompt_id": key,
        "kind": row["kind"],
        "split": row["split"],
        "prompt": row["text"],
        "chosen": chosen.text,
        "rejected": rejected.text,
        "chosen_origin": chosen.origin,
        "rejected_origin": rejected.origin,
    }


def _sides(
    row: Row, samples: Sequence[Sampled], settings: PairSettings, refusals: Mapping[str, str]
) -> tuple[Side, Side]:
    kind = row["kind"]
    chosen = first_side(
        [(pick(samples, chosen_test(kind)), "sampled"), (row["chosen"], "reference")],
        missing="no_chosen",
        prompt=row["text"],
    )
    rejected = first_side(
        [
            (pick(samples, rejected_test(kind, settings.rejected_verdicts)), "sampled"),
            (row["rejected"], "reference"),
            (borrow(refusals, row["prompt_id"]), "borrowed"),
        ],
        missing="no_rejected",
        prompt=row["text"],
    )
    return chosen, rejected


def _missing(chosen: Side, rejected: Side, samples: int) -> Fault | None:
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if side.reason is not None:
            return Fault(side.reason, f"no {name} answer: none of the {samples} sampled ones, and none in the source")
    return None
