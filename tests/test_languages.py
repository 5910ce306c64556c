"""What is known of a language."""

import pytest

from mpo_core.errors import BadInputError
from mpo_core.languages import LANGUAGES, canonical, language


def test_the_papers_languages_are_there():
    assert {"en", "zh", "ko", "ar", "bn", "sw", "ja", "it", "vi", "th", "jv"} <= set(LANGUAGES)
    assert [code for code, entry in LANGUAGES.items() if entry.code != code] == []
    assert {entry.code for entry in LANGUAGES.values() if entry.right_to_left} == {"ar"}
    assert {code: LANGUAGES[code].resource for code in ("en", "zh", "ko", "ar", "bn", "sw")} == {
        "en": "high",
        "zh": "high",
        "ko": "medium",
        "ar": "medium",
        "bn": "low",
        "sw": "low",
    }


def test_an_unknown_code_is_told_with_the_known_ones():
    assert language("sw").name == "Swahili"
    with pytest.raises(BadInputError, match=r"languages\.targets: unknown language 'xx'\. Known: en, zh, .*jv\.$"):
        language("xx", where="languages.targets")


def test_what_an_identifier_says_is_brought_to_our_codes():
    said = {"wuu": "zh", "yue": "zh", "arz": "ar", "swh": "sw", "en": "en", "fr": "fr"}
    assert {code: canonical(code) for code in said} == said
    # No identifier's code may stand for two of our languages, or be one of them.
    aliases = [alias for entry in LANGUAGES.values() for alias in entry.identified_as]
    assert len(aliases) == len(set(aliases))
    assert not set(aliases) & set(LANGUAGES)
