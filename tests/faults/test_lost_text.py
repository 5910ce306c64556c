"""Text that a translation loses: sentences, and what must come back as it was."""

import pytest

from mpo_core.languages.sentences import count_sentences, split_sentences
from mpo_core.settings import TranslationGates
from mpo_core.translation.gates import verdicts
from mpo_core.translation.layout import take_apart
from mpo_core.translation.protect import mask, protected_lost

SENTENCES = {
    "English": ("Bake bread. Pour tea! Is it good?", 3),
    "numbers": ("It is 3.14 long. It costs 2.50 now.", 2),
    "abbreviations": ("Dr. Otieno and Mrs. Wanjiru met at 5 p.m. in town. They left.", 2),
    "initials": ("J. K. Otieno wrote it. I read it.", 2),
    "for example": ("Use flour, e.g. Rye flour. Mix it.", 2),
    "quoted": ('"Why?" he asked. "I know." She left.', 3),
    "dots": ("Wait... then go. Stop.", 2),
    "Chinese": ("我烤面包。你喝茶！好吗？", 3),
    "Chinese, quoted": ("他说：“好。”我走了。", 2),
    "Japanese": ("パンを焼く。お茶を飲む。", 2),
    "Korean": ("빵을 굽는다. 차를 마신다.", 2),
    "Arabic": ("اخبز الخبز. هل هو جيد؟ نعم.", 3),
    "Bengali": ("রুটি বানাও। চা খাও। ভালো?", 3),
    "Urdu": ("روٹی پکاؤ۔ چائے پیو۔", 2),
    "Swahili": ("Oka mkate. Kunywa chai.", 2),
    "no full stop": ("Bake bread", 1),
    "lines": ("Bake bread\nPour tea", 2),
    "nothing": ("", 0),
}


@pytest.mark.parametrize("case", SENTENCES)
def test_sentences_of_each_script(case):
    text, count = SENTENCES[case]
    assert count_sentences(text) == count
    assert "".join(gap + sentence for gap, sentence in split_sentences(text)) == text


def test_sentence_models_get_sentences_and_others_paragraphs():
    text = "- Bake bread. Pour {0} tea! It is 3.14 long.\n"
    layout = take_apart(text, 800, sentences=True)
    assert [piece.text for piece in layout.pieces] == ["Bake bread.", "Pour ⟦0⟧ tea!", "It is 3.14 long."]
    assert layout.rebuilt({piece.text: piece.text for piece in layout.pieces}) == text
    assert len(take_apart(text, 800).pieces) == 1


THREE = "I want to bake bread at home. Which flour should I buy? How long does it take?"


@pytest.mark.parametrize(
    ("translation", "target", "is_lost"),
    [
        ("Ninataka kuoka mkate nyumbani. Ninunue unga gani? Inachukua muda gani?", "sw", False),
        ("Ninataka kuoka mkate nyumbani, ninunue unga gani na inachukua muda gani kuoka?", "sw", False),  # joined
        ("Ninataka kuoka mkate nyumbani.", "sw", True),
        ("Ninunue unga gani? Inachukua muda gani?", "sw", True),
        ("我想在家烤面包。我应该买哪种面粉？需要多长时间？", "zh", False),
        ("我想在家烤面包。", "zh", True),
        ("আমি বাড়িতে রুটি বানাতে চাই।", "bn", True),
    ],
)
def test_a_translation_that_lost_sentences_is_none(translation, target, is_lost):
    gates = TranslationGates()
    own_verdicts = verdicts(THREE, translation, source="en", target=target, settings=gates, measures=True)
    refused = {verdict.gate for verdict in own_verdicts if not verdict.passed and verdict.gate in gates.hard}
    assert ("sentences_lost" in refused) == is_lost


def test_short_sentences_that_commas_join_are_not_lost():
    text = "I want to recognise fresh bread. What should I do?"
    for translation, is_lost in {"我想辨认面包，该怎么办？": False, "我想辨认新鲜面包？": True}.items():
        own_verdicts = verdicts(text, translation, source="en", target="zh", settings=TranslationGates(), measures=True)
        lost = next(verdict for verdict in own_verdicts if verdict.gate == "sentences_lost")
        assert lost.score == 1.0
        assert lost.passed != is_lost


PLACEHOLDERS = [
    *("%s", "%d", "%i", "%u", "%@", "%ld", "%.2f", "%5d", "%-10s", "%1$s", "%2$@", "%(name)s", "%(count)d", "%PATH%"),
    *("{}", "{0}", "{name}", "{user.name}", "{0:.2f}", "{name!r}", "{{x}}", "{{{x}}}", "{{ user.name }}"),
    *("{% if x %}", "<%= x %>", "${x}", "$(x)", "$x", "#{x}", "%{name}", "{n,number}", "{d, date, short}"),
    *("${{ x }}", "{$x}", "{ $x }", "{-brand}", "%%NAME%%", "__NAME__", "<0>", "</0>", "<1/>", "%%"),
    "{n, plural, one {# loaf} other {# loaves}}",
    "{g, select, male {He} other {{n, plural, one {a} other {b}}}}",
]


@pytest.mark.parametrize("item", PLACEHOLDERS)
def test_each_placeholder_is_masked_and_checked(item):
    text = f"Bake {item} at home."
    assert mask(text).items == (item,)
    assert protected_lost(text, f"Oka {item} nyumbani.", measures=True) == 0
    assert protected_lost(text, "Oka nyumbani.", measures=True) == 1


PLACES = {
    "at the start": ("{0} bakes bread.", "⟦0⟧ anaoka mkate.", "{0} anaoka mkate."),
    "at the end": ("Bake bread for {0}", "Oka mkate kwa ⟦0⟧", "Oka mkate kwa {0}"),
    "twice": ("{0} and {0} bake", "⟦0⟧ na ⟦1⟧ wanaoka", "{0} na {0} wanaoka"),
    "side by side": ("{a}{b} bakes", "⟦0⟧⟦1⟧ anaoka", "{a}{b} anaoka"),
    "reordered": ("%1$s for %2$s, please", "Kwa ⟦1⟧, ⟦0⟧ tafadhali", "Kwa %2$s, %1$s tafadhali"),
    "with spaces in it": ("Bake {0} now", "Oka ⟦ 0 ⟧ sasa", "Oka {0} sasa"),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_placeholder_may_stand_anywhere(place):
    text, reply, translation = PLACES[place]
    layout = take_apart(text)
    (piece,) = layout.pieces
    assert layout.rebuilt({piece.text: reply}) == translation
    assert protected_lost(text, translation, measures=True) == 0


@pytest.mark.parametrize(
    "translation", ["Habari {nombre}!", "Habari!", "Habari {name} {name}!", "Habari {Name}!", "⟦0⟧"]
)
def test_a_placeholder_that_is_translated_lost_or_doubled_is_noticed(translation):
    assert protected_lost("Hello {name}!", translation, measures=False) > 0


def test_characters_without_a_width_around_a_translation_are_taken_off():
    assert take_apart("Bread").rebuilt({"Bread": "\u200b Mkate\u200b"}) == "Mkate"


def test_people_translate_what_is_inside_an_icu_message():
    source, translation = "You have {n, plural, one {# loaf} other {# loaves}}.", "Una {n, plural, other {mikate #}}."
    assert protected_lost(source, translation, measures=False) == 0
    assert protected_lost(source, "Una mikate.", measures=False) == 1


@pytest.mark.parametrize("text", ["a {word one} b", "{not, a, message}", "%discount", "fifty% sure"])
def test_ordinary_text_is_no_placeholder(text):
    assert mask(text).items == ()


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "text", ["{{" + "a" * 50_000, "1," * 25_000, "{ " * 25_000, "{n, plural, {" * 5_000, "a@" * 9_000]
)
def test_masking_a_hostile_text_ends(text):
    assert mask(text).text
