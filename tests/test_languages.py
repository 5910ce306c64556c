"""What is known of a language."""

import pytest

from mpo_core.contract.errors import BadInputError
from mpo_core.languages.known import LANGUAGES, canonical, engine_code, language
from mpo_core.languages.scripts import is_script


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


def test_an_unknown_code_is_reported_with_the_known_ones():
    assert language("sw").name == "Swahili"
    with pytest.raises(
        BadInputError,
        match=r"languages\.targets: unknown language 'xx'\. Known: en, it, .*sw\. Add another: mpo languages add",
    ):
        language("xx", where="languages.targets")


def test_what_an_identifier_says_is_brought_to_our_codes():
    said = {"wuu": "zh", "yue": "zh", "arz": "ar", "swh": "sw", "en": "en", "fr": "fr"}
    assert {code: canonical(code) for code in said} == said
    # No identifier's code may stand for two of our languages, or be one of them.
    aliases = [alias for entry in LANGUAGES.values() for alias in entry.identified_as]
    assert len(aliases) == len(set(aliases))
    assert not set(aliases) & set(LANGUAGES)


@pytest.mark.parametrize("code", LANGUAGES)
def test_an_entry_is_complete(code):
    entry = LANGUAGES[code]
    assert entry.code == code
    assert entry.name
    assert is_script(entry.script)
    assert 0.2 < entry.length < 2.0
    assert {"google", "nllb", "madlad", "m2m100"} <= set(entry.engines)


@pytest.mark.parametrize(
    ("engine", "listed"),
    [
        ("google", "GOOGLE_LANGUAGES_TO_CODES"),
        ("mymemory", "MY_MEMORY_LANGUAGES_TO_CODES"),
        ("baidu", "BAIDU_LANGUAGE_TO_CODE"),
        ("qcri", "QCRI_LANGUAGE_TO_CODE"),
    ],
)
def test_engine_codes_are_the_librarys_own(engine, listed):
    from deep_translator import constants

    known = {name.lower(): code for name, code in getattr(constants, listed).items()}
    for entry in LANGUAGES.values():
        names = [name for name in known if name.split(" ")[0] == entry.name.lower()]
        own = engine_code(entry.code, engine)
        assert (own in known.values()) if names else own is None, entry.code
        assert own is None or any(known[name] == own for name in names), entry.code


def test_flores_codes_are_those_of_nllb():
    from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES

    codes = {engine_code(code, "nllb") for code in LANGUAGES}
    assert codes <= set(FAIRSEQ_LANGUAGE_CODES)
    assert len(codes) == len(LANGUAGES)
    scripts = {code: engine_code(code, "nllb").split("_")[1] for code in LANGUAGES}
    assert scripts == {code: entry.script for code, entry in LANGUAGES.items()}


def test_an_engine_that_is_not_listed_does_not_know_the_language():
    assert engine_code("sw", "deepl") is None
    assert engine_code("zh", "openai") == "zh"
