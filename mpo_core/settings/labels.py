"""Labels of prompts as the settings and the files write them, in one spelling."""

from __future__ import annotations

import re
from decimal import Decimal

TRUE = frozenset({"true", "yes", "y", "t", "on", "1"})
FALSE = frozenset({"false", "no", "n", "f", "off", "0"})


def canonical_label(value: object) -> str:
    """Returns a label in the spelling that is compared: lower case, single spaces, `1` for 1.0, `true` for True.

    Nothing (null) is the empty label.
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
