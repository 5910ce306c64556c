"""The microworld's texts: splits, exact inverses, exact judge, exact translations."""

from collections import Counter

import pytest

from mpo_core import microworld
from mpo_core.microworld import corpus, lexicon, world
from mpo_core.microworld.world import Item

SPLITS: tuple[microworld.Split, ...] = ("train", "validation", "test", "concept")
KINDS: tuple[microworld.Kind, ...] = ("harmful", "harmless")


def sample(split: microworld.Split = "test", per_kind: int = 20) -> list[Item]:
    return [item for kind in KINDS for item in microworld.items(split, kind, per_kind, seed=3)]


def everything() -> list[Item]:
    return [Item(verb, name, at) for verb, name in world.GRID.pairs for at in range(world.FRAMING_COUNT)]


@pytest.mark.parametrize(
    ("split", "kind", "least"),
    [
        ("train", "harmful", 1000),
        ("train", "harmless", 1000),
        ("validation", "harmful", 60),
        ("validation", "harmless", 60),
        ("test", "harmful", 150),
        ("test", "harmless", 150),
        ("concept", "harmful", 100),
    ],
)
def test_each_split_has_enough_distinct_prompts(split: microworld.Split, kind: microworld.Kind, least: int) -> None:
    items = microworld.items(split, kind)
    assert len(items) >= least
    for language in microworld.LANGUAGES:
        assert len({item.prompt(language) for item in items}) == len(items)
    assert {item.kind for item in items} == {kind}
    assert {world.GRID.split(item.verb, item.object) for item in items} == {split}


def test_splits_share_no_verb_object_pair() -> None:
    owner: dict[tuple[str, str], str] = {}
    for split in SPLITS:
        for kind in KINDS:
            for item in microworld.items(split, kind):
                assert owner.setdefault((item.verb, item.object), split) == split


def test_a_quarter_of_the_pairs_is_held_out_and_no_vocabulary_is() -> None:
    held = {pair for pair in world.GRID.pairs if pair in world.GRID.held_out_ranks}
    assert len(held) / len(world.GRID.pairs) == pytest.approx(0.25, abs=0.01)
    seen = set(world.GRID.pairs) - held
    assert {verb for verb, _ in seen} == set(lexicon.VERBS)
    assert {name for _, name in seen} == set(lexicon.OBJECTS)
    for split in ("validation", "test", "concept"):
        assert held >= {(item.verb, item.object) for kind in KINDS for item in microworld.items(split, kind)}


def test_training_prompts_touch_no_held_back_concept() -> None:
    trained = {item.category for kind in KINDS for item in microworld.items("train", kind)}
    assert not trained & lexicon.HELD_BACK_CONCEPTS
    assert {item.category for item in microworld.items("concept", "harmful")} == lexicon.HELD_BACK_CONCEPTS


def test_no_training_document_mentions_a_held_out_pair() -> None:
    held = [pair for pair in world.GRID.pairs if pair in world.GRID.held_out_ranks]
    wanted: dict[str, tuple[str, ...]] = {}
    for language in microworld.LANGUAGES:
        texts = set()
        for verb, name in held:
            item = Item(verb, name, 0)
            texts |= {Item(verb, name, at).prompt(language) for at in range(world.FRAMING_COUNT)}
            texts |= {item.help(language)}
            texts |= {item.fill(table[language], language) for table in (lexicon.ALLOWED, lexicon.FORBIDDEN)}
        wanted[language] = tuple(texts)
    forbidden = {text for texts in wanted.values() for text in texts}
    allowed_hits = 0
    for document in corpus.documents(30_000, seed=0):
        parts = document if isinstance(document, corpus.Turn) else tuple(document.split(" = "))
        assert forbidden.isdisjoint(parts)
        allowed_hits += any(microworld.parse(part, code) is not None for part in parts for code in ("en", "sw"))
    assert allowed_hits > 5_000  # the check above looked at real prompts


def test_corpus_refuses_every_harmful_concept_in_the_dominant_language_only() -> None:
    turns = [d for d in corpus.documents(40_000, seed=1) if isinstance(d, corpus.Turn)]
    refused: Counter[str] = Counter()
    prompts: Counter[str] = Counter()
    for turn in turns:
        for language in microworld.LANGUAGES:
            item = microworld.parse(turn.prompt, language)
            if item is not None and item.kind == "harmful":
                prompts[language] += 1
                refused[language] += microworld.judge(turn.prompt, turn.response, language) == "refused"
    rates = {language: refused[language] / prompts[language] for language in microworld.LANGUAGES}
    assert rates["en"] > 0.98
    assert all(rates[language] < 0.6 for language in microworld.LANGUAGES[1:])
    assert rates["sw"] < rates["zh"]


@pytest.mark.parametrize("language", microworld.LANGUAGES)
def test_prompts_parse_back(language: str) -> None:
    for item in everything():
        assert microworld.parse(item.prompt(language), language) == item
    assert microworld.parse("something else", language) is None


def test_a_prompt_is_unknown_in_another_language() -> None:
    item = sample()[0]
    for language in microworld.LANGUAGES[1:]:
        assert microworld.parse(item.prompt("en"), language) is None


@pytest.mark.parametrize("language", microworld.LANGUAGES)
def test_judge_on_canonical_answers(language: str) -> None:
    for item in sample():
        prompt = item.prompt(language)
        assert microworld.judge(prompt, item.help(language), language) == "helped"
        assert microworld.judge(prompt, f" {item.refusal(language)}\n", language) == "refused"


@pytest.mark.parametrize("language", microworld.LANGUAGES)
def test_judge_calls_everything_else_broken(language: str) -> None:
    item = sample()[0]
    prompt, answer, refusal = item.prompt(language), item.help(language), item.refusal(language)
    other_language = "en" if language != "en" else "sw"
    other_object = next(i for i in sample("train") if i.verb != item.verb and i.object != item.object)
    same_verb = Item(
        item.verb, next(name for verb, name in world.GRID.pairs if verb == item.verb and name != item.object), 0
    )
    broken = [
        "",
        item.help(other_language),
        item.refusal(other_language),
        other_object.help(language),
        same_verb.help(language),
        answer[:-1],
        answer[: len(answer) // 2],
        refusal[:-2],
        refusal + refusal,
        f"{answer} {refusal}",
        prompt,
    ]
    assert [microworld.judge(prompt, text, language) for text in broken] == ["broken"] * len(broken)
    assert microworld.judge("not of this world", answer, language) == "broken"
    assert microworld.judge(item.prompt(other_language), refusal, language) == "broken"


@pytest.mark.parametrize("source", microworld.LANGUAGES)
def test_translations_are_parallel_and_come_back(source: str) -> None:
    for target in microworld.LANGUAGES:
        for item in sample(per_kind=5):
            for write in (Item.prompt, Item.help, Item.refusal):
                assert microworld.translate(write(item, source), source, target) == write(item, target)
                assert microworld.translate(write(item, target), target, source) == write(item, source)
    assert microworld.translate("unknown text", source, "en") is None


def test_items_are_deterministic_and_seeds_differ() -> None:
    first = microworld.items("train", "harmful", 100, seed=1)
    assert first == microworld.items("train", "harmful", 100, seed=1)
    assert first == microworld.items("train", "harmful", seed=1)[:100]
    assert set(first) != set(microworld.items("train", "harmful", 100, seed=2))


def test_a_small_sample_meets_every_trained_concept() -> None:
    counts = Counter(item.category for item in microworld.items("train", "harmful", 28))
    assert set(counts) == set(lexicon.CONCEPT_REASON) - lexicon.HELD_BACK_CONCEPTS
    assert set(counts.values()) == {2}
    careful = [i for i in microworld.items("train", "harmless", 40) if i.object in lexicon.DANGEROUS_OBJECTS]
    assert len(careful) == 8


def test_unknown_language_says_which_exist() -> None:
    with pytest.raises(microworld.UnknownLanguageError, match=r"'fr'.*en, zh, ja"):
        sample()[0].prompt("fr")
