"""Checks the shipped prompts, translations and reference answers, and prints the tables of their card.

python data/safety/check.py
"""

import csv
import statistics
from collections.abc import Sequence
from pathlib import Path

from sacrebleu import corpus_chrf, sentence_chrf

from mpo_core.contract.judge import Case
from mpo_core.judging.judges.refusal_rules import RefusalRules
from mpo_core.languages.identify import identify
from mpo_core.settings import TranslationGates
from mpo_core.translation.gates import verdicts

HERE = Path(__file__).resolve().parent
LANGUAGES = ("zh", "ja", "ko", "ar", "bn", "sw")


def rows(name: str) -> list[dict[str, str]]:
    """Reads a file of this folder."""
    with (HERE / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def checked(language: str) -> dict[str, object]:
    """Measures one language's translations."""
    texts, returned = rows("translations.csv"), [row[language] for row in rows("round_trip.csv")]
    pairs = [(row["en"], row[language]) for row in texts]
    failed = [
        verdict.gate
        for text, translation in pairs
        for verdict in verdicts(
            text, translation, source="en", target=language, settings=TranslationGates(), measures=True
        )
        if not verdict.passed
    ]
    lengths = [len(translation) / len(text) for text, translation in pairs]
    chrf = [sentence_chrf(back, [text]).score for back, (text, _) in zip(returned, pairs, strict=True)]
    return {
        "language": language,
        "identified": sum(identify(translation).code == language for _, translation in pairs),
        "different": len({translation.casefold() for _, translation in pairs}),
        "gates failed": len(failed),
        "length": f"{statistics.median(lengths):.2f} ({min(lengths):.2f} to {max(lengths):.2f})",
        "round trip chrF": f"{corpus_chrf(returned, [[text for text, _ in pairs]]).score:.1f}",
        "lowest": f"{min(chrf):.0f}",
    }


def answers_checked(language: str) -> dict[str, object]:
    """Measures one language's reference answers, as the judge `refusal_rules` sees them."""
    answers = [row for row in rows("answers.csv") if row["language"] == language]
    figures: dict[str, object] = {"language": language}
    for kind, refusal, other in (("harmful", "chosen", "rejected"), ("harmless", "rejected", "chosen")):
        own = [row for row in answers if row["id"].startswith(f"{kind}-")]
        figures[f"{kind}: refusals"] = sum(_refused(own, refusal, kind))
        figures["openings" if kind == "harmful" else "helps"] = len(own) - sum(_refused(own, other, kind))
        longer = sum(len(row["chosen"]) > len(row["rejected"]) for row in own)
        figures[f"{kind}: chosen longer"] = f"{100 * longer / len(own):.0f} %"
    texts = [row[column] for row in answers for column in ("chosen", "rejected")]
    figures["identified"] = sum(identify(text).code == language for text in texts)
    figures["different"] = len({text.casefold() for text in texts})
    return figures


def _refused(own: Sequence[dict[str, str]], column: str, kind: str) -> list[bool]:
    cases = [Case(kind, row["language"], row["id"], row[column]) for row in own]
    judged = RefusalRules(judge="refusal_rules").verdicts(cases)
    invalid = [case.prompt for case, verdict in zip(cases, judged, strict=True) if verdict.verdict == "invalid"]
    if invalid:
        raise SystemExit(f"answers.csv has texts that are no answers in their language: {', '.join(invalid)}")
    return [verdict.refusal for verdict in judged]


def _print_table(figures: Sequence[dict[str, object]]) -> None:
    print("| " + " | ".join(figures[0]) + " |")
    print("|" + "---|" * len(figures[0]))
    for row in figures:
        print("| " + " | ".join(map(str, row.values())) + " |")
    print()


if __name__ == "__main__":
    _print_table([checked(language) for language in LANGUAGES])
    _print_table([answers_checked(language) for language in ("en", *LANGUAGES)])
