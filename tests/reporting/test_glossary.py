from __future__ import annotations

import re
from pathlib import Path

from mpo_core.reporting.glossary import GLOSSARY

PAGE = Path(__file__).resolve().parents[2] / "docs" / "glossary.md"


def documented() -> dict[str, str]:
    """Returns the terms of docs/glossary.md with their meanings, without markup."""
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {term.strip(): re.sub(r"[*`]", "", meaning).strip().removeprefix("1. ") for term, meaning in rows}


def test_the_report_and_the_documentation_explain_terms_alike() -> None:
    meanings = documented()
    shared = [term for term in GLOSSARY if term.name in meanings]
    assert len(shared) >= 14
    for term in shared:
        first = re.split(r"(?<=[.?]) ", meanings[term.name])[0]
        assert term.meaning.startswith(first), term.name
