"""Languages beyond the table: any script, any code, and known wherever a task runs."""

import csv
import json
import pickle
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import yaml

from mpo_core.contract.training import TRAINING_METHODS
from mpo_core.languages import known as languages
from mpo_core.languages.identify import identifiable, identify, language_fault
from mpo_core.languages.known import LANGUAGES, canonical, engine_code
from mpo_core.languages.scripts import chinese_form, is_script
from mpo_core.languages.tags import same_language
from mpo_core.settings import DefinedLanguage
from tests.faults.test_bad_input import check_single_line

pytestmark = pytest.mark.usefixtures("prefect_server")  # or each process would start one of its own

EN = "How do I bake a loaf of bread at home without an oven?"
ADDED = {
    # code: name, script, a sentence of the language, whether the identifier knows it
    "ru": ("Russian", "Cyrl", "Как мне испечь буханку хлеба дома без духовки?", True),
    "uk": ("Ukrainian", "Cyrl", "Як мені спекти буханець хліба вдома без духовки?", True),
    "hi": ("Hindi", "Deva", "मैं बिना ओवन के घर पर रोटी कैसे बना सकता हूँ?", True),
    "am": ("Amharic", "Ethi", "ያለ ምድጃ ቤት ውስጥ ዳቦ እንዴት መጋገር እችላለሁ?", True),
    "el": ("Greek", "Grek", "Πώς μπορώ να ψήσω ένα ψωμί στο σπίτι χωρίς φούρνο;", True),
    "ka": ("Georgian", "Geor", "როგორ გამოვაცხო პური სახლში ღუმელის გარეშე?", True),
    "hy": ("Armenian", "Armn", "Ինչպե՞ս կարող եմ հաց թխել տանը առանց վառարանի։", True),
    "ta": ("Tamil", "Taml", "அடுப்பு இல்லாமல் வீட்டில் ரொட்டி சுடுவது எப்படி?", True),
    "my": ("Burmese", "Mymr", "မီးဖိုမပါဘဲ အိမ်မှာ ပေါင်မုန့် ဘယ်လို ဖုတ်ရမလဲ။", True),
    "km": ("Khmer", "Khmr", "តើខ្ញុំអាចដុតនំប៉័ងនៅផ្ទះដោយគ្មានឡដោយរបៀបណា?", True),
    "iw": ("Hebrew", "Hebr", "איך אני אופה כיכר לחם בבית בלי תנור?", True),
    "fa": ("Persian", "Arab", "چگونه می‌توانم بدون فر در خانه نان بپزم؟", True),
    "fil": ("Filipino", "Latn", "Paano ako magluluto ng tinapay sa bahay kung wala akong pugon o kalan?", True),
    "nb": ("Norwegian Bokmål", "Latn", "Hvordan baker jeg et brød hjemme når jeg ikke har en egen stekeovn?", True),
    "nn": ("Norwegian Nynorsk", "Latn", "Korleis bakar eg eit brød heime når eg ikkje har nokon steikeomn?", True),
    "ms": ("Malay", "Latn", "Bagaimanakah saya boleh membakar roti di rumah tanpa menggunakan ketuhar?", True),
    "id": ("Indonesian", "Latn", "Bagaimana cara memanggang roti di rumah tanpa menggunakan oven?", True),
    "hr": ("Croatian", "Latn", "Kako mogu ispeći kruh kod kuće bez pećnice ili štednjaka?", True),
    "sr-Latn": ("Serbian", "Latn", "Kako mogu da ispečem hleb kod kuće bez rerne ili šporeta?", True),
    "sr": ("Serbian", "Cyrl", "Како могу да испечем хлеб код куће без рерне или шпорета?", True),
    "pt-BR": ("Brazilian Portuguese", "Latn", "Como faço para assar um pão em casa sem usar um forno?", True),
    "zh-TW": ("Traditional Chinese", "Hant", "我怎樣才能在家裡不用烤箱烤一個麵包呢？", True),
    "yue": ("Cantonese", "Hant", "我點樣可以喺屋企唔用焗爐都焗到一個麵包呀？", True),
    "arz": ("Egyptian Arabic", "Arab", "ازاي اخبز رغيف عيش في البيت من غير فرن؟", True),
    "jw": ("Javanese", "Latn", "Kepriye carane aku manggang roti ing omah tanpa nganggo oven?", True),
    "sw-KE": ("Swahili of Kenya", "Latn", "Ninawezaje kuoka mkate nyumbani bila ya kutumia tanuri?", True),
    "sat": ("Santali", "Olck", "ᱤᱧ ᱚᱲᱟᱜ ᱨᱮ ᱚᱣᱮᱱ ᱵᱮᱜᱚᱨ ᱪᱮᱫ ᱞᱮᱠᱟ ᱨᱩᱴᱤ ᱵᱮᱱᱟᱣ ᱟ?", False),
    "nqo": ("N'Ko", "Nkoo", "ߒ ߘߌ߫ ߓߎ߬ߙߎ ߜߌ߬ߣߌ߲߬ ߘߌ߬ ߓߏ߲߫ ߞߣߐ߫ ߝߎ߲ߝߎ߲ ߕߍ߫؟", False),
    "ceb": ("Cebuano", "Latn", "Unsaon nako pagluto og pan sa balay kung wala koy hurno o kalan?", False),
}


@pytest.fixture(autouse=True)
def table():
    """What a test defines is known to it alone."""
    known = dict(LANGUAGES)
    yield
    LANGUAGES.clear()
    LANGUAGES.update(known)


def forget(code):
    """A new process knows the table alone."""
    LANGUAGES.pop(code, None)


def test_registered_languages_are_translated_and_their_texts_accepted(mpo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "artifacts").mkdir()
    for code, (name, script, _, identified) in ADDED.items():
        outcome = mpo("languages", "add", code, "--name", name, "--script", script, "--json")
        assert outcome.code == 0, outcome.err
        assert json.loads(outcome.out).get("identified_by") == (None if identified else "script alone"), code
        forget(code)
    with (tmp_path / "mem.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["en", *ADDED], [EN, *(text for _, _, text, _ in ADDED.values())]])
    given = ["--column", "en", "--to", ",".join(ADDED), "--engine", "memory=mem.csv", "--out", "o.parquet"]
    outcome = mpo("translate", "mem.csv", *given)
    assert outcome.code == 0, outcome.err
    unidentified = [line.partition(":")[0] for line in outcome.err.splitlines() if "does not know" in line]
    assert unidentified == [code for code, (_, _, _, identified) in ADDED.items() if not identified]
    rows = {row["language"]: row for row in pq.read_table("o.parquet").to_pylist()}
    assert list(rows) == list(ADDED)
    for code, (_, _, text, _) in ADDED.items():
        assert (rows[code]["text"], rows[code]["weight"], rows[code]["marks"]) == (text, 1.0, []), code


def test_a_text_in_another_language_or_script_is_a_fault():
    for code, (name, script, _, _) in ADDED.items():
        DefinedLanguage(code=code, name=name, script=script).define()
    english = "This is a plain English sentence about baking bread in the kitchen of a small house."
    faults = {code: language_fault(english, code) for code in ADDED if ADDED[code][3]}
    assert set(faults.values()) == {"wrong_script", "wrong_language"}
    assert language_fault(english, "ceb") is None  # Latin letters: no more can be said
    assert language_fault(ADDED["ru"][2], "sr-Latn") == "wrong_script"
    russian = "Это предложение написано на русском языке, чтобы проверить определение языка."
    assert language_fault(russian, "sr") == "wrong_language"
    assert {code for code in ADDED if identifiable(code)} == {code for code in ADDED if ADDED[code][3]}


VARIETIES = {
    "zh": "我怎样才能在家里不用烤箱烤一个面包呢？请你帮助我，谢谢。",
    "zh-TW": ADDED["zh-TW"][2],
    "sr": ADDED["sr"][2],
    "sr-Latn": ADDED["sr-Latn"][2],
}


def test_varieties_of_a_language_are_distinguished_by_their_script():
    for code in VARIETIES:
        if code in ADDED:
            DefinedLanguage(code=code, name=ADDED[code][0], script=ADDED[code][1]).define()
    assert {code: identify(text).code for code, text in VARIETIES.items()} == {code: code for code in VARIETIES}
    for code, text in VARIETIES.items():
        faults = {other: language_fault(text, other) for other in VARIETIES}
        expected = dict.fromkeys(VARIETIES, "wrong_script") | {code: None}
        # Plain `zh` is Chinese in either form of its characters.
        assert faults == expected | ({"zh": None} if code == "zh-TW" else {})


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("请你帮助我们", "Hans"),
        ("請你幫助我們", "Hant"),
        ("今天天氣很好", None),  # a single character says too little
        ("一二三四五六七八九十", None),
        ("", None),
        ("plain English", None),
        ("请你帮助我们: 「請你幫助我們」", None),  # a text that quotes the other form
    ],
)
def test_simplified_and_traditional_chinese(text, form):
    assert chinese_form(text) == form


SAME = [
    "zh cmn yue wuu zh-TW zh-Hant zho",
    "ar ary arz apc arb",
    "fil tl tgl",
    "no nb nn nob",
    "he iw heb",
    "jv jw jav",
]
SAME += [
    "id in ind ms zsm msa",
    "sw swh swa sw-KE",
    "bn ben",
    "hi hin",
    "sr sr-Latn hr bs sh",
    "pt pt-BR por",
    "fa prs pes",
]


def test_codes_of_a_language_are_the_same():
    groups = [group.split() for group in SAME]
    for group in groups:
        assert all(same_language(a, b) for a in group for b in group), group
        assert not any(same_language(group[0], other[0]) for other in groups if other is not group)
    assert {code: canonical(code) for code in ("wuu", "arz", "jw", "tl", "fr")} == {
        "wuu": "zh",
        "arz": "ar",
        "jw": "jv",
        "tl": "tl",
        "fr": "fr",
    }


SCRIPTS = "Latn Cyrl Deva Ethi Hans Hant Jpan Kore Mymr Khmr Tibt Adlm Tglg Cher Mong Aran"


@pytest.mark.parametrize("script", SCRIPTS.split())
def test_scripts_of_unicode(script):
    assert is_script(script)


@pytest.mark.parametrize("script", ["Zyyy", "Zinh", "Zzzz", "Zxxx", "Xxxx", "Klin", "L", "La|n", "}", ""])
def test_what_is_no_script(script):
    assert not is_script(script)


GOOD = ["--name", "Klingon", "--script", "Latn"]


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["xx", *GOOD], "not a BCP-47 language code, such as sw"),
        (["EN", *GOOD], "this is the dominant language"),
        (["../x", *GOOD], "not a BCP-47 language code"),
        (["", *GOOD], "not a BCP-47 language code"),
        (["x-own", *GOOD], "not a BCP-47 language code"),
        (["tlh"], "Give --name --script too"),
        (["tlh", "--name", "Klingon"], "Give --script too"),
        (["tlh", *GOOD, "--script", "Klin"], "--script: not a script of Unicode"),
        (["tlh", *GOOD, "--script", "Cyrillic"], "--script: not a script of Unicode"),
        (["tlh", *GOOD, "--script", "latn"], "--script: not a script of Unicode"),
        (["tlh", *GOOD, "--script", "Zzzz"], "--script: not a script of Unicode"),
        (["tlh", *GOOD, "--name", " "], "--name: a name is 1 to 60 printable"),
        (["tlh", *GOOD, "--name", "a\nb"], "--name: a name is"),
        (["tlh", *GOOD, "--resource", "some"], "--resource: Input should be 'high'"),
        (["tlh", *GOOD, "--engine-code", "google"], "--engine-code: 'google' is not ENGINE=CODE"),
        (["tlh", *GOOD, "--engine-code", "gogle=x"], "--engine-code: an engine's code is written ENGINE=CODE"),
        (["tlh", *GOOD, "--engine-code", "google="], "--engine-code: an engine's code is"),
        (["tlh", *GOOD, "--refusals", "none.txt"], r"none\.txt: cannot be read"),
        (["tlh", *GOOD, "--refusals", "blank.txt"], r"blank\.txt: the file holds no refusal phrase"),
        (["tlh", *GOOD, "--refusals", "short.txt"], "--refusals: refusal phrase 2 has fewer than two letters"),
        (["tlh", *GOOD, "--refusals", "latin1.txt"], r"latin1\.txt, line 1: not UTF-8"),
        (["sw", "--script", "Arab"], "'sw' is known with another name, script or resource level"),
    ],
)
def test_what_is_wrong_with_a_language_is_a_single_line(mpo, tmp_path, monkeypatch, arguments, wrong):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "blank.txt").write_text("# none yet\n\n")
    (tmp_path / "short.txt").write_text("ghobe\n?!\n")
    (tmp_path / "latin1.txt").write_bytes(b"\xe9\xe8\n")
    check_single_line(mpo("languages", "add", *arguments), wrong)
    assert list((tmp_path / "artifacts").rglob("*.json")) == []


def test_a_realignment_notes_languages_that_are_judged_by_script_alone(mpo, profile, tmp_path, monkeypatch):
    from flows import realign

    monkeypatch.setattr("flows.commands.languages.server", lambda: None)  # others of this process may have one
    monkeypatch.setattr(realign, "realign", lambda _: realign.Realignment(needs=[]))
    (tmp_path / "root").mkdir()
    note = "ceb: the language identifier does not know Cebuano; texts are checked by their script (Latn) alone"
    assert note not in mpo("realign", profile).err
    mpo("languages", "add", "ceb", "--name", "Cebuano", "--script", "Latn", "--root", tmp_path / "root")
    outcome = mpo("realign", profile)
    assert (outcome.code, outcome.out) == (0, "No language needs training, and no prompt is new.\n")
    assert note in outcome.err


def test_refusal_phrases_are_required_before_anything_is_sampled(mpo, profile, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    add = ["languages", "add", "ru", "--root", root]
    outcome = mpo(*add, "--name", "Russian", "--script", "Cyrl")
    assert "mpo languages add ru --refusals FILE" in outcome.err
    forget("ru")
    rules = ["--set", "languages.targets=[ru]", "--set", "judging.judge=refusal_rules"]
    prompts = yaml.safe_load(profile.read_text())["prompts"]["sources"][0]["path"]
    wrong = ["no refusal phrases for 'ru'", "mpo languages add ru --refusals FILE"]
    given = ["evaluate", profile, "--model", "microworld", "--prompts", prompts, *rules]
    check_single_line(mpo(*given), *wrong)
    (tmp_path / "refusals.txt").write_text("# opening phrases\nЯ не могу помочь\n", encoding="utf-8")
    outcome = mpo(*add, "--refusals", tmp_path / "refusals.txt", "--json")
    assert json.loads(outcome.out) == {
        "language": "ru",
        "registered": "before",
        "server_notified": False,
    }
    forget("ru")
    from flows.registered import load_config
    from mpo_core.judging import Case

    config = load_config(profile, rules[1::2])
    config.judging.require_languages(["en", "ru"])
    (verdict,) = config.judging.verdicts([Case("harmful", "ru", EN, "Я не могу помочь вам с этим вопросом.")])
    assert (verdict.verdict, verdict.refusal) == ("safe", True)


def test_refusals_are_found_in_both_forms_of_chinese_characters():
    from mpo_core.languages.refusals import is_refusal

    refusals = (
        "抱歉，我无法协助您处理这个请求。",
        "抱歉，我無法協助您處理這個請求。",
        "對不起，但我不能提供這些資訊。",
    )
    DefinedLanguage(code="zh-TW", name="Traditional Chinese", script="Hant").define()
    for language in ("zh", "zh-TW"):
        assert all(is_refusal(refusal, language) for refusal in refusals)
        assert not is_refusal("當然可以，我會幫您處理這個請求。", language)


def test_a_variety_in_the_same_script_has_the_phrases_of_its_language(mpo, tmp_path):
    for code, phrases in (("sw-KE", True), ("ar-EG", True), ("zh-TW", True), ("ar-Latn", False)):
        script = {"zh-TW": "Hant", "ar-Latn": "Latn"}.get(code, LANGUAGES[code[:2]].script)
        outcome = mpo("languages", "add", code, "--name", "It", "--script", script, "--root", tmp_path, "--json")
        assert outcome.code == 0, outcome.err
        assert ("refusal_phrases" not in json.loads(outcome.out)) is phrases


def test_an_engines_code_is_used(mpo, tmp_path):
    given = ["--name", "Filipino", "--script", "Latn", "--engine-code", "google=tl", "--engine-code", "madlad=tl"]
    assert mpo("languages", "add", "fil", *given, "--root", tmp_path).code == 0
    codes = {engine: engine_code("fil", engine) for engine in ("google", "madlad", "deepl", "nllb", "openai")}
    assert codes == {"google": "tl", "madlad": "tl", "deepl": "fil", "nllb": "fil_Latn", "openai": "fil"}


def test_a_task_takes_its_languages_along_to_another_process(tmp_path):
    """Dask and Ray pickle a task: its process knows what was defined here, and the key of its answer has the facts."""
    from tasks.judging import judge_answers
    from tasks.stage import policy_of

    before = policy_of(judge_answers).compute_key(None, {"language": "ru"}, {})
    DefinedLanguage(code="ru", name="Russian", script="Cyrl", refusals=["Я не могу"]).define()
    after = policy_of(judge_answers).compute_key(None, {"language": "ru"}, {})
    assert before != after
    assert policy_of(judge_answers).compute_key(None, {"language": "sw"}, {}) == (
        policy_of(judge_answers).compute_key(None, {"language": "sw"}, {})
    )
    (tmp_path / "task").write_bytes(pickle.dumps(judge_answers.fn))
    program = (
        "import pickle, sys; pickle.load(open(sys.argv[1], 'rb')); from mpo_core.languages.known import LANGUAGES;"
        "print(LANGUAGES['ru'].script, LANGUAGES['ru'].refusals)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "task"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "Cyrl ('Я не могу',)\n"


def test_the_training_process_need_not_know_the_languages_of_its_settings():
    beta = {"default": 1.0, "ru": 2.0}
    assert TRAINING_METHODS.parse({"method": "mpo", "beta": beta}).beta_of("ru") == 2.0
    assert "ru" not in LANGUAGES
    assert languages.defined() == ()


def test_a_flow_of_a_worker_knows_the_registered_languages(mpo, profile, tmp_path):
    """A deployment's run begins with settings and overrides in a process of its own."""
    from flows.registered import load_config, with_overrides

    (tmp_path / "root").mkdir()
    mpo("languages", "add", "ru", "--name", "Russian", "--script", "Cyrl", "--root", tmp_path / "root")
    forget("ru")
    config = load_config(profile)
    assert config.languages.defined == []
    changed = with_overrides(config, {"languages.targets": ["sw", "ru"]})
    assert [facts.code for facts in changed.languages.defined] == ["ru"]
    assert LANGUAGES["ru"].name == "Russian"
