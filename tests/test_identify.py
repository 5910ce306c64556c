"""Letters of scripts, and the identifier behind judging and pairs."""

import pytest

from mpo_core.languages.identify import identify
from mpo_core.languages.known import LANGUAGES
from mpo_core.languages.scripts import count_letters, keep_letters, letters

SAMPLES = {
    "en": "Mix flour, water and salt, then let the dough rest for an hour.",
    "zh": "把面粉、水和盐混合，揉成面团，静置一个小时，然后烤三十分钟。",
    "ja": "小麦粉と水と塩を混ぜて、生地をこねて、一時間休ませてから焼いてください。",
    "ko": "밀가루와 물과 소금을 섞어 반죽을 만들고 한 시간 동안 쉬게 한 다음 구우세요.",
    "ar": "امزج الدقيق والماء والملح ثم اترك العجين يرتاح لمدة ساعة قبل الخبز.",
    "bn": "ময়দা, জল ও লবণ মিশিয়ে আটা মাখুন এবং এক ঘণ্টা রেখে দিন।",
    "sw": "Changanya unga, maji na chumvi, kisha acha unga upumzike kwa saa moja.",
    "it": "Mescola la farina con l'acqua e il sale e lascia riposare la pasta per un'ora.",
    "th": "ผสมแป้ง น้ำ และเกลือ แล้วพักแป้งไว้หนึ่งชั่วโมงก่อนนำไปอบ",
}


@pytest.mark.parametrize("code", SAMPLES)
def test_a_sentence_is_in_its_language(code):
    guess = identify(SAMPLES[code])
    assert guess.code == code
    assert 0.5 < guess.probability <= 1.0


def test_a_macro_language_is_ours(monkeypatch):
    from types import SimpleNamespace

    fixed = SimpleNamespace(classify=lambda _text: ("wuu", 0.75))
    monkeypatch.setattr("mpo_core.languages.identify._identifier", lambda: fixed)
    assert identify("x") == ("zh", 0.75)


def test_every_language_has_letters_and_they_are_letters():
    scripts = {entry.script for entry in LANGUAGES.values()}
    for code, text in SAMPLES.items():
        script = LANGUAGES[code].script
        others = [name for name in scripts if name != script and not {name, script} <= {"Hans", "Jpan"}]
        assert count_letters(script, text) > 10
        assert [count_letters(name, text) for name in others] == [0] * len(others)
    for script in scripts:
        assert not any(letters(script).match(c) for c in " 0123456789.,!?؟।。、٠١২๑")


def test_kana_are_not_han():
    assert (count_letters("Hani", "日本語です"), count_letters("Hrkt", "日本語です")) == (3, 2)


def test_keep_letters_blanks_other_scripts_only():
    assert keep_letters("Beng", "রুটি (bread) ১২!") == "রুটি (     ) ১২!"
