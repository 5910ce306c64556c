"""What chat models put around an answer: thoughts and wrappers are taken off, and nothing of the answer is."""

from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mpo_core.contract.tables import RESPONSES
from mpo_core.judging import JUDGES, judge_responses
from mpo_core.models.chat import encode_prompt
from mpo_core.pairs.answers import first_side
from mpo_core.reply import separate, unwrap_translation
from mpo_core.sampling import Request
from mpo_core.settings import SamplingSettings
from tests.sampling.loaded import sample_from

ANSWER = "Pole, siwezi kukusaidia na hilo."
HIDDEN = "First the yeast, then the flour."

THOUGHTS = {
    "think": "<think>{h}</think>\n\n{a}",
    "template opened it": "{h}</think>\n\n{a}",
    "empty": "<think>\n\n</think>\n\n{a}",
    "thinking": "<thinking>{h}</thinking>{a}",
    "thought": "<thought>{h}</thought>\n{a}",
    "capitals": "<Thought>\n{h}\n</Thought>\n<Output>\n{a}\n</Output>",
    "reasoning": "<reasoning>{h}</reasoning>\n<answer>{a}</answer>",
    "reflection": "<thinking>{h}\n<reflection>so</reflection></thinking>\n<output>{a}</output>",
    "attributes": '<thinking lang="en">{h}</thinking>{a}',
    "Mistral": "[THINK]{h}[/THINK]{a}",
    "Mistral, closing alone": "{h}[/THINK]{a}",
    "gpt-oss": "<|channel|>analysis<|message|>{h}<|end|><|start|>assistant<|channel|>final<|message|>{a}<|return|>",
    "gpt-oss, opened": "{h}<|end|><|start|>assistant<|channel|>final<|message|>{a}",
    "gpt-oss, tokens dropped": "analysis{h}assistantfinal{a}",
    "Cohere": "<|START_THINKING|>{h}<|END_THINKING|><|START_RESPONSE|>{a}<|END_RESPONSE|>",
    "Kimi": "◁think▷{h}◁/think▷{a}",
    "Seed": "<seed:think>{h}</seed:think>{a}",
    "OpenThinker": "<|begin_of_thought|>{h}<|end_of_thought|><|begin_of_solution|>{a}<|end_of_solution|>",
    "Gemma": "<|channel>thought\n{h}<channel|>{a}",
    "MedGemma": "<unused94>thought\n{h}<unused95>{a}",
    "Granite": "Here is my thought process:\n{h}\n\nHere is my response:\n{a}",
    "nested": "<think>{h}<think>again</think>more</think>{a}",
    "closed by another name": "<think>{h}</thinking>{a}",
    "twice": "<think>{h}</think><think>and on</think>{a}",
    "behind a mark of the turn": "<|im_start|><|assistant|>"[12:] + "<think>{h}</think>{a}<|im_end|>",
}


@pytest.mark.parametrize("form", THOUGHTS)
def test_thoughts_are_no_part_of_the_answer(form):
    parts = separate(THOUGHTS[form].format(h=HIDDEN, a=ANSWER))
    assert (parts.text, parts.fault) == (ANSWER, None)
    assert (HIDDEN in parts.thought) == ("{h}" in THOUGHTS[form])


CUT = {
    "opened, never closed": ("<think>{h}", "unfinished_thought"),
    "Mistral": ("[THINK]{h}", "unfinished_thought"),
    "Cohere": ("<|START_THINKING|>{h}", "unfinished_thought"),
    "gpt-oss": ("<|channel|>analysis<|message|>{h}", "unfinished_thought"),
    "gpt-oss, tokens dropped": ("analysis{h}", "unfinished_thought"),
    "Kimi": ("◁think▷{h}", "unfinished_thought"),
    "begun behind a sentence": ("Hakika.\n<think>{h}", "unfinished_thought"),
    "nothing follows": ("<think>{h}</think>\n", "only_thoughts"),
    "nothing but noise": ("<think>" * 5000, "unfinished_thought"),
}


@pytest.mark.parametrize("form", CUT)
def test_a_reply_without_an_answer_has_a_reason(form):
    reply, reason = CUT[form]
    assert separate(reply.format(h=HIDDEN)) == ("", separate(reply.format(h=HIDDEN)).thought, reason)


@pytest.mark.parametrize(
    ("answer", "request_text"),
    [
        ("The tag `<think>` opens a thought and `</think>` ends it.", "What marks a thought?"),
        ("<think> is a mark of some models.", "What is <think>?"),
        ("Some models write <think> before they answer.", "What do models write?"),
        ("Write:\n```\n<think>\nso\n</think>\n```\nand go on.", "How do models answer?"),
        ("I think </think> closes it.", "What does </think> do?"),
        ("Analysis of bread: it is good.", "Analyse bread."),
        (" spaces stay \n", "x"),
        ("", "x"),
    ],
)
def test_an_answer_that_writes_about_marks_is_left_alone(answer, request_text):
    assert separate(answer, context=request_text) == (answer, "", None)


# -- translation ---------------------------------------------------------------------

SOURCE, TRANSLATION = "How do I bake bread at home?", "Ninawezaje kuoka mkate nyumbani?"
WRAPPED = [
    "{t}",
    "<text>{t}</text>",
    "<TEXT>{t}",
    "<translation>{t}</translation>",
    "Done.\n<answer>{t}</answer>",
    "Here is the translation:\n{t}",
    "Sure! Here's the translation in Swahili:\n\n{t}",
    "Okay, here is the Swahili translation:\n\n{t}",
    "Certainly. Here is the text in Swahili:\n{t}",
    "Translation: {t}",
    "**Translation:** {t}",
    "The translation is: {t}",
    "Swahili: {t}",
    "Kiswahili: {t}",
    "English: {s}\nSwahili: {t}",
    "Hii ndiyo tafsiri: {t}",
    "Hakika! Hii hapa tafsiri:\n{t}",
    "以下是翻译：{t}",
    "Sure! {t}",
    "{t}\n\nNote: I kept it formal.",
    "{t}\n\n**Note:** I kept it formal.",
    "{t}\n\n---\n*Translator's note: formal.*",
    "{t} (Note: formal.)",
    "{t} Note: I kept it formal.",
    "{t}\n\nKumbuka: rasmi.",
    "{t}\n\nLet me know if you need more.",
    "{t}\n\nExplanation:\n- kuoka: to bake",
    "```\n{t}\n```",
    "```text\n{t}\n```",
    "Here it is:\n```\n{t}\n```\nNote: yes.",
    '"{t}"',
    "“{t}”",
    "「{t}」",
    "«{t}»",
    "**{t}**",
    "`{t}`",
    '{{"translation": "{t}"}}',
    "{{'translation': '{t}'}}",
    '```json\n{{"translation": "{t}"}}\n```',
    '["{t}"]',
    '{{"source": "{s}", "swahili": "{t}"}}',
    '{{"result": {{"sw": "{t}"}}}}',
    '<think>hm</think>\nHere is the translation:\n"{t}"\n\nNote: x',
    "```thinking\nhm\n```\n{t}",
    "Thought process: hm\n\nTranslation: {t}",
    "**Reasoning:** hm\n\n**Translation:** {t}",
    "### Thinking\nhm\n\n### Answer\n{t}",
    "hm\n\nFinal answer: {t}",
    "Answer: {t}",
    "Assistant: {t}",
    "swahili: {t}",
    "$\\boxed{{\\text{{{t}}}}}$",
    "\\boxed{{{t}}}",
    "{s} → {t}",
    "{s} - {t}",
    '"{s}" = "{t}"',
    "{s}\n\n{t}",
    "<text>{s}</text>\n{t}",
    'Here is the JSON:\n{{"translation": "{t}"}}',
    '{{"translation": "{t}"}}\n\nLet me know if you need more.',
    '"{t}".',
    "[{t}]",
    "【{t}】",
    "{t} (Hii ni tafsiri rasmi)",
    "{t} (a formal translation)",
    "{t}</s>",
    "{t}<|im_end|>\n<|im_start|>user\nAnd more?",
    "<|im_start|>assistant\n{t}<|im_end|>",
    "<|start_header_id|>assistant<|end_header_id|>\n\n{t}<|eot_id|>",
    "{t}<end_of_turn>\n<start_of_turn>model\n{t}",
    "[/INST] {t}",
    "<|separator|>{t}<SPECIAL_12>",
    "\u200b{t}\ufeff",
    "\u202b{t}\u202c",
]


@pytest.mark.parametrize("reply", WRAPPED)
def test_wrappers_are_no_part_of_the_translation(reply):
    assert unwrap_translation(reply.format(t=TRANSLATION, s=SOURCE), SOURCE, "sw") == (TRANSLATION, None)


@pytest.mark.parametrize(
    ("source", "translation"),
    [
        ('"How are you?"', '"Habari yako?"'),
        ('"How are you?"', "「お元気ですか」"),
        ('He said "hi" and "bye"', '"hi" na "bye"'),
        ("*Bread*", "*Mkate*"),
        ("```\nx\n```", "```\nx\n```"),
        ('{"a": "bread"}', '{"a": "mkate"}'),
        ('["bread"]', '["mkate"]'),
        ("Note: bake it.", "Kumbuka: oka."),
        ("Bake it.\nNote: salt.", "Oka.\nKumbuka: chumvi."),
        ("Bake it (note: salt).", "Oka (kumbuka: chumvi)."),
        ("Sure! Bake it.", "Hakika! Oka."),
        ("Of course, I will help.", "Bila shaka, nitasaidia."),
        ("Translate this: bread", "Tafsiri hii: mkate"),
        ("This is what I want, namely bread", "Hii ndiyo ninayotaka: mkate"),
        ("Network setup for two", "네트워크 설정: 둘"),
        ("Answer: bread", "Jibu: mkate"),
        ("Answer: bread", "Answer: mkate"),
        ("[Bake bread]", "[Oka mkate]"),
        ("Bake it (a translation).", "Oka (tafsiri)."),
        ("Sure, do this: bake", "Hakika, fanya hivi: oka"),
        ("Use [/INST] here", "Tumia [/INST] hapa"),
        ("World Health Organization", "Shirika la Afya Duniani (WHO)"),
        ("New York", "New York ni mji"),
        ("Explain <think> tags please", "Eleza <think> tags"),
        ("<think> is a tag", "<think> ni alama"),
        ("Two lines\nof text", "Mistari miwili\nya maandishi"),
    ],
)
def test_what_the_source_has_itself_stays(source, translation):
    assert unwrap_translation(translation, source, "sw") == (translation, None)


@pytest.mark.parametrize(
    ("reply", "translation"), [("你好 (Nǐ hǎo)。", "你好。"), ("世卫组织 (WHO)", "世卫组织 (WHO)")]
)
def test_how_a_translation_is_pronounced_is_no_part_of_it(reply, translation):
    assert unwrap_translation(reply, "Hello.", "zh") == (translation, None)


def test_an_english_note_is_a_part_of_a_translation_into_english():
    reply = "Bake it. Please note the salt."
    assert unwrap_translation(reply, "Backe es. Beachte bitte das Salz.", "en") == (reply, None)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("{t}\nna mengine yasiyojulikana", "unseparated_reply"),
        ("Zzz zzz\n\n{t}", "unseparated_reply"),
        ('{{"a": "b", "c": "{t}"}}', "unseparated_reply"),
        ('{{"translation": "{t}', "unseparated_reply"),
        ("```\n{t}\n```\n```\n{t}\n```", "unseparated_reply"),
        ("```\nhm\n```\n{t}", "unseparated_reply"),
        ("<details>hm</details> {t}", "unseparated_reply"),
        ('<tool_call>{{"text": "{t}"}}</tool_call>', "unseparated_reply"),
        ("{t} <|unknown|> {t}", "unseparated_reply"),
        ("{t} That is: How do I bake bread at home?", "unseparated_reply"),
        ("{t}\n\nOr: {t}", "unseparated_reply"),
        ("x" * 20_000, "reply_too_long"),
        ("<think>{t}", "unfinished_thought"),
    ],
)
def test_what_cannot_be_separated_is_no_translation(reply, reason):
    assert unwrap_translation(reply.format(t=TRANSLATION), SOURCE, "sw") == ("", reason)


# -- sampling, judging, pairs --------------------------------------------------------

TURN = "{% for m in messages %}<|turn|>{{ m['content'] }}<|end|>{% endfor %}<|turn|>"
OPENED = "<think>{{ '\\n' }}"
QWEN = TURN + "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"


def tokenizer(template):
    """Byte-level, with marks of thoughts among its special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={symbol: number for number, symbol in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<|end|>", "<|turn|>", "<|channel|>", "<|message|>", "<|start|>", "[THINK]", "[/THINK]"]
    core.add_special_tokens(special)
    core.add_tokens(["<think>", "</think>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|end|>",  # noqa: S106 - no password
        pad_token="<|end|>",  # noqa: S106
        additional_special_tokens=special[1:],
        chat_template=template,
    )


def saying(own, reply):
    """A model that always says this."""
    said = own(reply, add_special_tokens=False)["input_ids"]

    def generate(input_ids, **_):
        return torch.cat([input_ids, torch.tensor([said] * len(input_ids))], dim=1)

    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(max_position_embeddings=None))
    ends = SimpleNamespace(eos_token_id=own.eos_token_id)
    return SimpleNamespace(generate=generate, device="cpu", config=config, generation_config=ends)


def answers(reply, template=TURN, **more):
    own = tokenizer(template)
    rows, _ = sample_from(saying(own, reply), own, [Request("p", "Bake.")], SamplingSettings(), language="sw", **more)
    return rows


@pytest.mark.parametrize(
    ("reply", "template", "thinking"),
    [
        (f"<think>{HIDDEN}</think>\n\n{ANSWER}<|end|>", TURN, False),
        (f"{HIDDEN}</think>\n\n{ANSWER}<|end|>", TURN + OPENED, True),
        (f"[THINK]{HIDDEN}[/THINK]{ANSWER}<|end|>", TURN, False),
        (
            f"<|channel|>analysis<|message|>{HIDDEN}<|start|>assistant<|channel|>final<|message|>{ANSWER}<|end|>",
            TURN,
            False,
        ),
    ],
)
def test_sampled_thoughts_are_stored_apart_and_never_judged(reply, template, thinking):
    rows = answers(reply, template, thinking=thinking)
    (row,) = rows.to_pylist()
    assert (row["text"], row["thought"], row["fault"]) == (ANSWER, HIDDEN, None)
    (verdict,) = judge_responses(rows, {"p": "harmful"}, JUDGES.parse({"judge": "refusal_rules"})).to_pylist()
    assert (verdict["verdict"], verdict["refusal"]) == ("safe", True)


@pytest.mark.parametrize(
    ("reply", "template", "thinking"),
    [(f"<think>{ANSWER}", TURN, False), (ANSWER, TURN + OPENED, True), (f"[THINK]{ANSWER}", TURN, False)],
)
def test_a_thought_that_was_cut_is_no_answer(reply, template, thinking):
    rows = answers(reply, template, thinking=thinking)
    (row,) = rows.to_pylist()
    assert (row["text"], row["thought"], row["fault"]) == ("", ANSWER, "unfinished_thought")
    (verdict,) = judge_responses(rows, {"p": "harmful"}, JUDGES.parse({"judge": "refusal_rules"})).to_pylist()
    assert (verdict["verdict"], verdict["refusal"], verdict["reason"]) == ("invalid", False, "unfinished_thought")


@pytest.mark.parametrize(
    ("text", "verdict"),
    [(f"<think>{HIDDEN}</think>{ANSWER}", "safe"), (f"{HIDDEN}</think>{ANSWER}", "safe"), ("<think>x", "invalid")],
)
def test_thoughts_in_a_table_from_elsewhere_are_not_judged(text, verdict):
    row = {"prompt_id": "p", "language": "sw", "sample": 0, "seed": 0, "prompt": "Bake.", "text": text}
    rows = RESPONSES.build([row | {"tokens": 1, "finish_reason": "stop"}])
    assert judge_responses(rows, {"p": "harmful"}, JUDGES.parse({"judge": "refusal_rules"}))["verdict"].to_pylist() == [
        verdict
    ]


@pytest.mark.parametrize(
    ("template", "thinking", "end"),
    [
        (QWEN, False, "<think>\n\n</think>\n\n"),
        (QWEN, True, "<|turn|>"),
        (TURN + OPENED, False, "<think>\n\n</think>\n\n"),
        (TURN + OPENED, True, "<think>\n"),
        (TURN + "[THINK]", False, "[THINK]\n[/THINK]\n\n"),
        (TURN, False, "<|turn|>"),
    ],
)
def test_a_model_thinks_only_where_the_settings_let_it(template, thinking, end):
    own = tokenizer(template)
    rendered = own.decode(encode_prompt(own, "Bake.", thinking=thinking))
    assert rendered == "<|turn|>Bake.<|end|><|turn|>" + end.removeprefix("<|turn|>")


def test_a_request_that_ends_with_a_mark_opens_no_thought():
    own = tokenizer("{{ messages[-1]['content'] }}")
    assert own.decode(encode_prompt(own, "Explain <think>")) == "Explain <think>"


@pytest.mark.parametrize(
    ("text", "side"),
    [
        (f"<think>{HIDDEN}</think>{ANSWER}", (ANSWER, "reference", None)),
        ("<think>x", ("", "", "unfinished_thought")),
        ("<think>x</think>", ("", "", "only_thoughts")),
        (" ", ("", "", "empty_response")),
    ],
)
def test_a_side_of_a_pair_has_no_thoughts(text, side):
    assert first_side([(text, "reference")], missing="no_chosen") == side
