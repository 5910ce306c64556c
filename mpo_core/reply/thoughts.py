"""Separates the thoughts of a reasoning model from its answer; each family of models marks them in its own way."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

UNFINISHED, ONLY_THOUGHTS = "unfinished_thought", "only_thoughts"
"""Reasons where a reply holds no answer: its thoughts never end, or nothing follows them."""

THOUGHT_NAMES = (
    "think|thinking|thoughts?|thought_process|reasoning|reflection|analysis|scratchpad|inner_monologue|chain_of_thought"
)
"""What models call their thoughts, as a pattern."""
_ANSWER_NAMES = "answer|final_answer|final_response|final|output|response|solution|reply"
TURN_ENDS = (
    r"<[|｜](?:end|return|call|im_end|eot|eot_id|eom_id|endoftext|end_of_text|end_of_turn|END_OF_TURN_TOKEN|user|eos"
    r"|assistant_end|user_end|end▁of▁sentence)[|｜]>|\[\|endofturn\|\]|</s>|<end_of_turn>|<eos>"
)
"""Tokens that end a turn, as a pattern."""
_TURN_STARTS = (
    r"<\|(?:im_start|begin_of_text|start_header_id|header_start|START_OF_TURN_TOKEN)\|>|<start_of_turn>|\[/?INST\]"
    r"|<<SYS>>|<[|｜](?:system|user|assistant)(?:_start)?[|｜]>|\[\|(?:system|user|assistant)\|\]"
    r"|<\|start\|>[^<]*<\|(?:channel|message)\|>|^\#{3}[ ]Response:[ \t]*$"
)
_TURN_START = re.compile(_TURN_STARTS, re.IGNORECASE | re.MULTILINE)
_END_OF_TEXT = re.compile(rf"(?:{TURN_ENDS})(?=(?:\s|{TURN_ENDS})*\Z)", re.IGNORECASE)
_END_OF_TURN = re.compile(
    rf"(?:{TURN_ENDS})(?=(?:\s|<s>|<bos>|{TURN_ENDS})*(?:\Z|{_TURN_STARTS}))|<[|｜]user[|｜]>(?=[ \t]*\n)",
    re.IGNORECASE | re.MULTILINE,
)


class _Form(NamedTuple):
    """How a family of models writes the marks around a thought; `{}` in `closing` is the name in `opening`."""

    opening: str
    closing: str
    spelled: str
    """The closing mark as text, for a thought that is closed before the model answers."""


_FORMS = (
    # DeepSeek-R1, Qwen3, GLM, EXAONE, Seed-OSS (<seed:think>), Marco-o1, Reflection and many more.
    _Form(rf"<((?:[\w-]+:)?(?:{THOUGHT_NAMES}))(?:\s[^<>\n]*)?>", r"</{}\s*>", "</{}>"),
    _Form(r"\[(THINK|THINKING|REASONING)\]", r"\[/{}\]", "[/{}]"),  # Magistral
    _Form(rf"◁({THOUGHT_NAMES})▷", "◁/{}▷", "◁/{}▷"),  # Kimi-VL
    _Form(rf"<\|START_({THOUGHT_NAMES})\|>", r"<\|END_{}\|>", "<|END_{}|>"),  # Command A Reasoning
    _Form(rf"<\|begin_of_({THOUGHT_NAMES})\|>", r"<\|end_of_{}\|>", "<|end_of_{}|>"),  # OpenThinker, Sky-T1
    _Form(rf"<\|({THOUGHT_NAMES})_start\|>", r"<\|{}_end\|>", "<|{}_end|>"),
    _Form(rf"<\|({THOUGHT_NAMES})\|>", r"<\|(?:/|end_){}\|>", "<|/{}|>"),
    _Form(r"<\|(inner)_prefix\|>", r"<\|{}_suffix\|>", "<|{}_suffix|>"),  # Apertus
    _Form(r"<(unused)94>(?:thought)?", "<{}95>", "<{}95>"),  # MedGemma
    _Form(r"<\|(channel)>(?:thought|analysis)?", r"<{}\|>", "<{}|>"),  # Gemma
)
_ANY_CLOSING = re.compile(
    "|".join(
        form.closing.format(f"(?:{re.search(r'[(](.*)[)]', form.opening).group(1)})")  # type: ignore[union-attr]
        if form is not _FORMS[0]
        else rf"</(?:[\w-]+:)?(?:{THOUGHT_NAMES})\s*>"
        for form in _FORMS
    ),
    re.IGNORECASE,
)
_ANY_OPENING = re.compile(
    "|".join(f"(?P<form_{number}>{form.opening})" for number, form in enumerate(_FORMS)), re.IGNORECASE
)
_MOST_MARKS = 200
"""A reply with more marks than this is noise, in which no answer can be made out."""
_ANSWER = re.compile(rf"\s*(?:<({_ANSWER_NAMES})>|<\|START_RESPONSE\|>|<\|begin_of_solution\|>)", re.IGNORECASE)
_ANSWER_END = r"</{}\s*>|<\|END_RESPONSE\|>|<\|end_of_solution\|>"
# gpt-oss ("harmony"): messages on channels; only `final` is meant for the user.
_CHANNEL = re.compile(
    r"(?:<\|start\|>[^<]*)?<\|channel\|>\s*(\w+)[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>(.*?)"
    r"(?=<\|(?:end|return|call|start|channel)\|>|\Z)",
    re.DOTALL,
)
# The same where a server has dropped the special tokens.
_BARE_CHANNEL = re.compile(r"\s*(?:analysis|commentary)(.*?)(?:assistant\s*)final(.*)\Z", re.DOTALL)
_BARE_UNFINISHED = re.compile(r"\s*analysis(?=[A-Z\"'“])")
_GRANITE = re.compile(
    r"\W*here(?:'s| is) my (?:thought|thinking|reasoning) process\W{0,5}:(.*?)\n\W{0,5}here(?:'s| is) my (?:final )?"
    r"(?:response|answer|translation)\W{0,5}?:\W{0,5}?\s(.*)\Z",
    re.DOTALL | re.IGNORECASE,
)
_GRANITE_OPEN = re.compile(r"\W*here(?:'s| is) my (?:thought|thinking|reasoning) process\W{0,5}:", re.IGNORECASE)


class Parts(NamedTuple):
    """The parts of a model's reply: its answer, and the thoughts around it.

    `text` is the answer, `thought` all thoughts, `fault` the reason where there is no answer:
    `unfinished_thought` or `only_thoughts`.
    """

    text: str
    thought: str = ""
    fault: str | None = None


def separate(reply: str, *, context: str = "", opening: str = "", special: Sequence[str] = ()) -> Parts:
    """Separates the thoughts of a reply from its answer.

    A reply without marks is returned as it is. A mark that occurs in the request too, or that is quoted or in code, is
    a part of the answer.

    `opening` is the mark with which the chat template opened a thought; `special` tokens of the tokenizer are no part
    of an answer.
    """
    if opening:
        reply = opening + reply
    parts = _by_channels(reply) or _by_marks(reply, context)
    if not parts.thought and parts.fault is None and parts.text == reply:
        return parts
    text = own_turn(re.sub(rf"\A(?:\s|{TURN_ENDS})+", "", parts.text), context)
    for token in special:
        text = text.replace(token, "")
    text = text.strip()
    fault = parts.fault or (None if text else ONLY_THOUGHTS)
    return Parts("" if fault else text, parts.thought.strip(), fault)


def has_template(prompt: str, answers: Iterable[str]) -> bool:
    """Returns whether a chat template was applied to answers before: all hold beginnings of turns.

    Those in the prompt too, in quotes or in code are data. A beginning in one of two answers alone is what its model
    wrote, not a template that a tool has applied.
    """
    return all(any(not _mentioned(mark, prompt) for mark in _TURN_START.finditer(answer)) for answer in answers)


def own_turn(answer: str, context: str) -> str:
    """Returns an answer up to where its turn ends and another may begin, since some servers leave these marks in.

    Marks in the request too, in quotes or in code are a part of the answer.
    """
    return _until(_END_OF_TURN, answer, context)


def without_end(answer: str, prompt: str) -> str:
    """Returns an answer without the marks of its turn's end behind it, unless its prompt has them too."""
    return _until(_END_OF_TEXT, answer, prompt)


def _until(end: re.Pattern[str], answer: str, context: str) -> str:
    """Returns a text up to the first match that is no part of it."""
    mark = next((mark for mark in end.finditer(answer) if not _mentioned(mark, context)), None)
    return answer if mark is None else answer[: mark.start()].rstrip()


def open_thought(rendered: str) -> str:
    """Returns the mark at the end of a rendered prompt that opens a thought, or an empty text where there is none."""
    end = rendered.rstrip()
    channel = re.search(r"<\|channel\|>analysis<\|message\|>\Z", end)
    if channel:
        return channel.group()
    marks = _ANY_OPENING.finditer(end, max(0, len(end) - 80))
    return next((mark.group() for mark in marks if mark.end() == len(end)), "")


def closing_of_open_thought(rendered: str) -> str:
    """Returns the text that closes the thinking block in which a rendered prompt ends; empty if it ends in none."""
    mark = open_thought(rendered)
    if mark.startswith("<|channel|>"):
        return "<|end|><|start|>assistant<|channel|>final<|message|>"
    opening = _ANY_OPENING.fullmatch(mark)
    if opening is None:
        return ""
    form, name = _form_and_name(opening)
    return f"\n{form.spelled.format(name)}\n\n"


def _by_channels(reply: str) -> Parts | None:
    """Separates a reply in the form of gpt-oss or Granite, or returns None for a reply of another form."""
    if "<|channel|>" in reply:
        messages = list(_CHANNEL.finditer(reply))
        final = "\n".join(m.group(2) for m in messages if m.group(1) == "final")
        thoughts = [reply[: messages[0].start()] if messages else reply]
        thoughts += [m.group(2) for m in messages if m.group(1) != "final"]
        return Parts(final, _joined(thoughts), None if final.strip() else UNFINISHED)
    for pattern in (_BARE_CHANNEL, _GRANITE):
        match = pattern.match(reply)
        if match:
            return Parts(match.group(2), match.group(1))
    if _BARE_UNFINISHED.match(reply) or _GRANITE_OPEN.match(reply):
        return Parts("", reply, UNFINISHED)
    return None


def _by_marks(reply: str, context: str) -> Parts:
    if len(_ANY_CLOSING.findall(reply)) + len(_ANY_OPENING.findall(reply)) > _MOST_MARKS:
        return Parts("", reply, UNFINISHED)
    text, thoughts = reply, list[str]()
    while True:
        lead = _leading(text, context)
        if lead is not None:
            inner, rest = lead
            thoughts.append(inner)
            if rest is None:
                return Parts("", _joined(thoughts), UNFINISHED)
            text = rest
            continue
        stray = _stray_closing(text, context)
        if stray is None:
            break
        thoughts.append(text[: stray.start()])
        text = text[stray.end() :]
    inside, remaining = _inside(text, context)
    thoughts += inside
    if remaining is None:
        return Parts("", _joined(thoughts), UNFINISHED)
    answer, around = _answer(remaining, context)
    return Parts(answer, _joined([*thoughts, *around]))


def _leading(text: str, context: str) -> tuple[str, str | None] | None:
    """Returns the thought at the start of a text and the rest behind it (None: it never ends), or None without one."""
    start = re.match(rf"(?:\s|{TURN_ENDS}|<\|assistant\|>)*", text).end()  # type: ignore[union-attr]
    opening = _ANY_OPENING.match(text, start)
    if opening is None:
        return None
    closing = _closing(opening)
    if closing is not None:
        return text[opening.end() : closing.start()], text[closing.end() :]
    return None if _known(opening.group(), context) else (text[opening.end() :], None)


def _form_and_name(opening: re.Match[str]) -> tuple[_Form, str]:
    """Returns the form of an opening mark, and the name in it, such as `think`."""
    group = str(opening.lastgroup)
    return _FORMS[int(group.removeprefix("form_"))], opening.group(opening.re.groupindex[group] + 1)


def _closing(opening: re.Match[str]) -> re.Match[str] | None:
    """Finds the mark that ends a thought: its own, or else any other, since models sometimes confuse them."""
    form, name = _form_and_name(opening)
    own = re.compile(form.closing.format(re.escape(name)), re.IGNORECASE)
    return own.search(opening.string, opening.end()) or _ANY_CLOSING.search(opening.string, opening.end())


def _stray_closing(text: str, context: str) -> re.Match[str] | None:
    """Finds the first closing mark without an opening one before it: the chat template opened that thought."""
    for mark in _ANY_CLOSING.finditer(text):
        if _known(mark.group(), context) or _quoted(text, mark):
            continue
        before = text[: mark.start()]
        if all(_quoted(before, opening) for opening in _ANY_OPENING.finditer(before)):
            return mark
    return None


def _inside(text: str, context: str) -> tuple[list[str], str | None]:
    """Returns the thoughts between parts of the answer, and the answer without them (None: a thought never ends)."""
    thoughts: list[str] = []
    answer, at = "", 0
    for mark in _ANY_OPENING.finditer(text):
        if mark.start() < at or _known(mark.group(), context) or _quoted(text, mark):
            continue
        closing = _closing(mark)
        before = text[at : mark.start()].rstrip(" \t")
        if closing is not None:
            answer += text[at : mark.start()]
            thoughts.append(text[mark.end() : closing.start()])
            at = closing.end()
        elif not before or before[-1] in "\n.!?:。！？：।؟":  # within a sentence, a mark is only mentioned
            return [*thoughts, text[mark.end() :]], None
    return thoughts, answer + text[at:]


def _answer(text: str, context: str) -> tuple[str, list[str]]:
    """Returns the text inside the tags of an answer, and the texts around them; without tags, the whole text."""
    opening = _ANSWER.match(text)
    if opening is None or _known(opening.group(), context):
        return text, []
    name = re.escape(opening.group(1) or "answer")
    closing = re.compile(_ANSWER_END.format(name), re.IGNORECASE).search(text, opening.end())
    if closing is None:
        return text[opening.end() :], []
    return text[opening.end() : closing.start()], [text[closing.end() :]]


def _known(mark: str, context: str) -> bool:
    """Returns whether a mark occurs in the request, too."""
    return mark.strip().casefold() in context.casefold()


def _mentioned(mark: re.Match[str], context: str) -> bool:
    """Returns whether a mark of a turn is in the request, in quotes or in code, or closes the tag `<s>` of HTML."""
    text = mark.string
    quoted = _quoted(text, mark) and bool(text[mark.end() :].strip())  # what nothing follows is a mark
    return quoted or _known(mark.group(), context) or (mark.group() == "</s>" and "<s>" in text[1 : mark.start()])


def _quoted(text: str, mark: re.Match[str]) -> bool:
    """Returns whether a mark is in quotes, brackets or code, and so is only mentioned."""
    before, after = text[: mark.start()], text[mark.end() :]
    around = before[-1:] + after[:1]
    if around in {"``", '""', "''", "()", "“”", "‘’", "«»", "「」"} or before.count("```") % 2 == 1:
        return True
    return before.rpartition("\n")[2].replace("```", "").count("`") % 2 == 1 and "`" in after.partition("\n")[0]


def _joined(thoughts: Sequence[str]) -> str:
    return "\n\n".join(thought.strip() for thought in thoughts if thought.strip())
