"""Words by which the columns of many data sets say whether a text is harmful or harmless."""

import re
from collections.abc import Sequence, Set
from decimal import Decimal
from typing import Literal

TRUE = frozenset({"true", "yes", "y", "t", "on", "1"})
FALSE = frozenset({"false", "no", "n", "f", "off", "0"})
HARMFUL = frozenset({"harmful", "unsafe", "toxic", "malicious", "jailbreak"})
HARMLESS = frozenset({"harmless", "safe", "benign", "unharmful", "nontoxic"})
HARM_NOUNS = frozenset({"toxicity", "harm"})
"""Words that mean harm in the name of a column only."""
NOT = frozenset({"not", "non", "no"})


def canonical_label(value: object) -> str:
    """Returns a label in the spelling for comparisons: lower case, single spaces, `1` for 1.0, `true` for True.

    Null becomes the empty label.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | Decimal):
        value = str(value)
    text = " ".join(str(value).split()).casefold()
    whole = re.fullmatch(r"([+-]?[0-9]+)\.0*", text)
    return whole.group(1) if whole else text


def words_of(name: str) -> list[str]:
    """Returns the words of a column's name in lower case: `is`, `safe` of `isSafe` and of `is_safe`."""
    return re.findall(r"[a-z]+|[0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).lower())


def kind_of_label(label: str) -> Literal["harmful", "harmless"] | None:
    """Returns the kind that a canonical label means, such as `unsafe` or `not harmful`; None if it means none."""
    return kind_of_words(label.replace("_", " ").replace("-", " ").split())


def kind_of_words(words: Sequence[str], harmful: Set[str] = HARMFUL) -> Literal["harmful", "harmless"] | None:
    """Returns the kind that one word means, or a negation and a word; None if they mean none."""
    negated = len(words) == 2 and words[0] in NOT  # noqa: PLR2004 - a negation and a word
    if not words or len(words) != 1 + negated:
        return None
    if words[-1] in harmful:
        return "harmless" if negated else "harmful"
    if words[-1] in HARMLESS:
        return "harmful" if negated else "harmless"
    return None
