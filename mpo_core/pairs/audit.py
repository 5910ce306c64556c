"""Counts the flaws of a file of pairs by language: those that machine translation and sampling cause."""

from pathlib import Path

from mpo_core.languages.defects import broken_markup, entities_left
from mpo_core.languages.identify import language_fault
from mpo_core.languages.known import LANGUAGES
from mpo_core.pairs.check import empty_fault, template_marks
from mpo_core.pairs.gates import Row, alike
from mpo_core.pairs.interchange import read_rows, untranslated_columns
from mpo_core.settings import PairSettings

_MALFORMED = "malformed"
FLAWS = (
    _MALFORMED,
    "untranslated",
    "entities",
    "broken_markup",
    "lost_newlines",
    "empty",
    "template_marks",
    "wrong_language",
    "too_alike",
)
_NAMES = ("prompt", "chosen", "rejected")


def audit(path: Path) -> dict[str, dict[str, int]]:
    """Counts the rows with each flaw, by target language (`?` where none is recognised); `rows` counts all rows.

    `untranslated`: the target's prompt or chosen answer is the source's, or plainly not in the target language;
    `entities`: HTML entities that the source lacks; `broken_markup`: emphasis that opens and does not close;
    `lost_newlines`: an answer on one line where its source has several; `empty`: a prompt or answer without text;
    `template_marks`: two answers with beginnings of turns that their prompt lacks;
    `wrong_language`: an answer in another language than the row's; `too_alike`: chosen and rejected hardly
    differ (`pairs.max_similarity`). A row may have several. `malformed`: a row that `import_pairs` cannot read.

    Raises:
        BadInputError: the file is missing, damaged, or holds no list of rows.
    """
    counts: dict[str, dict[str, int]] = {}
    for row in read_rows(path):
        code = row.get("language", "?")
        known = code in LANGUAGES and code != row["source_language"]
        counts_here = counts.setdefault(code if known else "?", dict.fromkeys(("rows", *FLAWS), 0))
        counts_here["rows"] += 1
        for flaw in _flaws(row, known=known) if row else (_MALFORMED,):
            counts_here[flaw] += 1
    return dict(sorted(counts.items()))


def _flaws(row: Row, *, known: bool) -> list[str]:
    pairs = [(row[f"source_{name}"], row[f"target_{name}"]) for name in _NAMES]
    answers = pairs[1:]
    present = {
        "untranslated": bool(untranslated_columns(row)) if known else row["language"] == row["source_language"],
        "entities": any(entities_left(source, target) for source, target in pairs),
        "broken_markup": any(broken_markup(target) and not broken_markup(source) for source, target in pairs),
        "lost_newlines": any("\n" in source.strip() and "\n" not in target.strip() for source, target in answers),
        "empty": empty_fault(row) is not None,
        "template_marks": bool(template_marks(row)),
        "wrong_language": known and any(language_fault(target, row["language"]) for _, target in answers),
        "too_alike": alike(answers[0][1], answers[1][1], PairSettings().max_similarity) is not None,
    }
    return [flaw for flaw, here in present.items() if here]
