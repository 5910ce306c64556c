"""Checks the shipped prompts and translations, and prints the table of their card.

python data/safety/check.py
"""

import csv
import statistics
from pathlib import Path

from sacrebleu import corpus_chrf, sentence_chrf

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


if __name__ == "__main__":
    figures = [checked(language) for language in LANGUAGES]
    print("| " + " | ".join(figures[0]) + " |")
    print("|" + "---|" * len(figures[0]))
    for row in figures:
        print("| " + " | ".join(map(str, row.values())) + " |")
