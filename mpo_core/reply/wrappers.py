"""Takes a translation out of a chat model's reply: out of tags, notes, fences, quotes and JSON around it."""

import ast
import json
import re
import unicodedata
from typing import Any, NamedTuple

from mpo_core.languages.defects import INVISIBLE, count_lines
from mpo_core.languages.known import LANGUAGES
from mpo_core.reply import words
from mpo_core.reply.thoughts import THOUGHT_NAMES, TURN_ENDS, separate

UNSEPARATED, TOO_LONG = "unseparated_reply", "reply_too_long"
"""Reasons for no translation: no part of the reply is clearly the translation, or the reply is far too long."""
_TAG_NAMES = "translation|translated_text|translated|target|answer|final_answer|output|response|result|text|solution"
_TAG = re.compile(rf"<({_TAG_NAMES})(?:\s[^<>\n]*)?>(.*?)</\1\s*>", re.DOTALL | re.IGNORECASE)
_LOOSE_TAG = re.compile(rf"</?(?:{_TAG_NAMES})\s*>", re.IGNORECASE)
_ANY_TAG = re.compile(r"</?[a-zA-Z][\w:-]*(?:\s[^<>\n]*)?/?>")
_FENCED = re.compile(
    r"(?:^|\n)[ \t]*(?P<marks>`{3,}|~{3,})(?P<kind>[^\n]*)\n(?P<inside>.*?)\n?[ \t]*(?P=marks)[ \t]*(?=\n|\Z)",
    re.DOTALL,
)
_CONTROL = (
    r"<[|｜][^|｜<>\n]{1,60}[|｜]>|</?s>|\[/?(?:INST|SYS)\]|<</?SYS>>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>"
    r"|<(?:SPECIAL_|unused|extra_id_)\d+>"
)
"""Tokens by which chat templates mark turns and roles."""
_HEADER = re.compile(rf"(?:\s|{_CONTROL}|(?:assistant|model)(?=\s*(?:<|\n)))*", re.IGNORECASE)
_BOXED = re.compile(r"\$*\s*\\boxed\s*\{(?:\s*\\text\w*\s*\{(?P<text>.*)\}|(?P<bare>.*))\s*\}\s*\$*", re.DOTALL)
_FENCE = re.compile(r"`{3,}|~{3,}")
_KEYS: tuple[str, ...] = (
    *("translation", "translated_text", "translatedtext", "translated", "target_text", "target", "text", "output"),
    *("answer", "result", "response", "content", "final_answer"),
)
_QUOTES = {
    '"': '"', "'": "'", "“": "”", "‘": "’", "„": "“”", "«": "»", "‹": "›", "「": "」", "『": "』", "”": "”",
    "《": "》", "〈": "〉", "`": "`", "*": "*", "_": "_", "〝": "〟", "＂": "＂", "[": "]", "(": ")", "【": "】",
}  # fmt: skip
_MARKUP = "*_`"
_COLON = re.compile(r"[:：]\**")
_BRACKETS = "()[]（）［］【】"
_LAST_BRACKET = re.compile(rf"\s*[(（\[【](?P<inside>[^{re.escape(_BRACKETS)}\n]*)[)）\]】](?P<end>\W*)\Z")
_BETWEEN = r"[\W_]{0,3}?\s*(?:→|[-=]>|[—–=:|/-]|\n)\s*"
"""What models put between the source and its translation."""
_LEAST_LETTERS, _LEAST_WORDS = 12, 3
"""A source with fewer letters or words may rightly be a part of its translation, such as a name."""
_MOST_PREAMBLE = 160
"""Maximum length of a preamble in characters; a longer line is a part of the translation."""
_DEPTH = 6
"""Layers of wrapping that are taken off."""
_LONGEST = 10_000
"""Maximum length of a reply in characters, beyond ten times the source's; a longer reply holds no translation."""
_STOPS = re.compile(r"[.!?…。！？।؟۔]+(?=\s|\Z|[^\x00-\x7f])|[。！？]")


class Unwrapped(NamedTuple):
    """A translation taken from a reply, or the reason why there is none."""

    text: str
    fault: str | None = None


def unwrap_translation(reply: str, source: str, target: str = "") -> Unwrapped:
    """Takes a translation out of a chat model's reply.

    What the source has itself (quotes, a fence, JSON, a note, a tag) belongs to the translation and stays. A reply
    in which more lines, tags, control tokens or the source itself are left is no translation.

    Args:
        reply: the whole reply.
        source: the text to translate.
        target: code of the target language, where it is known.
    """
    parts = separate(reply, context=source)
    if parts.fault is not None:
        return Unwrapped("", parts.fault)
    text = parts.text.strip()
    if len(text) > _LONGEST + 10 * len(source):
        return Unwrapped("", TOO_LONG)
    for _ in range(_DEPTH):
        before = text
        text = _without_control_tokens(text, source).strip().strip(INVISIBLE).strip()
        text = _without_tags(text, source).strip()
        text = _without_fence(text, source).strip()
        text = _without_json(text, source, target).strip()
        text = _without_source(text, source).strip()
        text = _without_frame(text, source, target).strip()
        text = _without_quotes(text, source).strip()
        if text == before:
            break
    return Unwrapped("", UNSEPARATED) if _is_more(text, parts.text, source) else Unwrapped(text)


def _is_more(text: str, reply: str, source: str) -> bool:
    """Returns whether an unwrapped text is no translation: more than one is left, or nothing of a reply with text."""
    if _structured(text) and not _structured(source):
        return True
    if _FENCE.search(text) and not _FENCE.search(source):
        return True
    foreign = [*re.findall(_CONTROL, text, re.IGNORECASE), *_ANY_TAG.findall(text)]
    if any(mark.casefold() not in source.casefold() for mark in foreign):
        return True
    if _is_sentence(source) and text != source and source.strip().casefold() in text.casefold():
        return True
    return count_lines(text) > max(1, count_lines(source)) or (not text and bool(reply.strip()))


def _is_sentence(source: str) -> bool:
    return sum(map(str.isalpha, source)) >= _LEAST_LETTERS and len(source.split()) >= _LEAST_WORDS


def _without_control_tokens(text: str, source: str) -> str:
    """Returns the model's own turn: without the header before it, and without what follows its end."""
    if re.search(_CONTROL, source, re.IGNORECASE):
        return text
    header = _HEADER.match(text)
    text = text[header.end() :] if header is not None and set("<[") & set(header.group()) else text
    turn = next((turn for turn in re.split(TURN_ENDS, text) if turn.strip()), text)
    return re.sub(rf"(?:\s|{_CONTROL})+\Z", "", turn, flags=re.IGNORECASE)


def _without_source(text: str, source: str) -> str:
    """Returns the text without a repetition of the source before it, as in `Bread → Mkate`."""
    plain = source.strip().strip("\"“”'")
    if not _is_sentence(plain):
        return text
    repeated = re.match(rf"[\W_]{{0,3}}{re.escape(plain)}{_BETWEEN}(?=\S)", text, re.IGNORECASE)
    return text if repeated is None else text[repeated.end() :]


def _without_tags(text: str, source: str) -> str:
    """Returns the inside of a tag that names the translation: ours around the text, or the model's own."""
    tags = [match for match in _TAG.finditer(text) if f"<{match.group(1).casefold()}" not in source.casefold()]
    repeats = [match for match in tags if match.group(2).strip() == source.strip()]
    if repeats and (len(tags) > len(repeats) or text.strip() != repeats[0].group()):
        return _without_tags(text.replace(repeats[0].group(), "", 1), source)
    if tags:
        return tags[-1].group(2)
    loose = _LOOSE_TAG.search(text)
    return text if loose is None or loose.group().casefold() in source.casefold() else _LOOSE_TAG.sub("", text)


def _without_fence(text: str, source: str) -> str:
    """Returns the inside of the one fence around the translation; a fence that is named a thought is dropped."""
    if _FENCE.search(source):
        return text
    text = _FENCED.sub(lambda fence: "\n" if _is_thought(fence["kind"]) else fence.group(), text).strip()
    fences = list(_FENCED.finditer(text))
    if len(fences) == 1:
        before, after = text[: fences[0].start()], text[fences[0].end() :]
        is_framed = _is_preamble(before.strip()) and (not after.strip() or words.NOTE.match("\n" + after.strip()))
        return fences[0]["inside"] if is_framed else text
    inline = re.fullmatch(r"(`{3,})(.*?)\1", text, re.DOTALL)
    return inline.group(2) if inline else text


def _is_thought(kind: str) -> bool:
    return re.fullmatch(THOUGHT_NAMES, kind.strip(), re.IGNORECASE) is not None


def _is_preamble(text: str) -> bool:
    """Returns whether a text is empty, or one line that presents what follows."""
    if not text:
        return True
    known = text[-1] in ":：" or any(
        pattern.search(text) for pattern in (words.OPENER, words.HERE, words.ABOUT_TRANSLATION)
    )
    return known and "\n" not in text and len(text) <= _MOST_PREAMBLE


def _structured(text: str) -> bool:
    return re.match(r"\s*(?:\{\s*[\"'“]|\[\s*[\"'{“])", text) is not None


def _without_json(text: str, source: str, target: str) -> str:
    """Returns the translation inside a JSON object, list or string; other texts as they are."""
    if not _structured(text) or _structured(source):
        return text
    value = _named(_parsed(text), source, target)
    return text if value is None else value


def _parsed(text: str) -> Any:
    """Returns the data of JSON, or of what Python prints, or None; a note may follow."""

    def before_note(text: str) -> Any:
        value, end = json.JSONDecoder().raw_decode(text)
        return value if words.NOTE.match("\n" + text[end:].strip()) else None

    for read in (json.loads, before_note, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
    return None


def _named(value: Any, source: str, target: str, depth: int = 0) -> str | None:
    """Returns the text in parsed JSON that is the translation, or None where that is unclear."""
    if isinstance(value, str) or depth > _DEPTH:
        return value if isinstance(value, str) else None
    if isinstance(value, list):
        return _named(value[0], source, target, depth + 1) if len(value) == 1 else None
    if not isinstance(value, dict):
        return None
    lower = {str(key).casefold().replace(" ", "_").replace("-", "_"): inner for key, inner in value.items()}
    name = LANGUAGES[target].name.casefold() if target in LANGUAGES else ""
    for key in (target, name, *_KEYS):
        if key in lower and not (key in {"text", "content"} and lower[key] == source):
            return _named(lower[key], source, target, depth + 1)
    others = [inner for inner in lower.values() if inner != source]
    return _named(others[0], source, target, depth + 1) if len(others) == 1 else None


def _without_frame(text: str, source: str, target: str) -> str:
    """Removes the preamble before a translation and the notes after it."""
    if _structured(text):
        return text
    lines = [line for line in text.splitlines() if not _repeats(line, source)] or text.splitlines()
    return _without_notes(_without_preamble("\n".join(lines).strip(), source), source, target)


def _repeats(line: str, source: str) -> bool:
    """Returns whether a line repeats the source behind a label such as `English:`."""
    plain = line.strip().strip("*_\"“”'` ")
    label, _, rest = plain.partition(":")
    known = label.strip(" *").casefold() in words.SOURCE_LABELS
    repeated = rest.strip(" *\"“”'").casefold() == source.strip().casefold().strip("\"“”'")
    return count_lines(source) == 1 and bool(rest) and known and repeated


def _behind_label(text: str, source: str) -> str | None:
    """Returns what follows a label or heading that the source does not have, or None without one."""
    is_longer = count_lines(text) > max(1, count_lines(source))
    section = list(words.SECTION.finditer(text)) if is_longer else []
    if len(section) == 1 and text[section[0].end() :].strip():
        return text[section[0].end() :]
    colon = _COLON.search(text, 0, _MOST_PREAMBLE)
    if colon is None or "\n" in text[: colon.start()] or not text[colon.end() :].strip():
        return None
    head, rest = text[: colon.start()], text[colon.end() :].lstrip(" \t*_")
    presents = words.ABOUT_TRANSLATION.search(head) or _opener(text, source) or _is_label(head)
    on_its_line = rest.startswith("\n") and is_longer and (presents or words.HERE.match(head))
    has_more_colons = len(_COLON.findall(text)) > len(_COLON.findall(source))
    return rest if on_its_line or (presents and has_more_colons) else None


def _opener(text: str, source: str) -> re.Match[str] | None:
    """Returns the assistant's first word, such as `Sure!`, unless the source begins with one."""
    return None if words.OPENER.match(source) else words.OPENER.match(text)


def _without_preamble(text: str, source: str) -> str:
    """Returns the text behind a label, a line or a sentence that presents it, and that the source does not have."""
    labelled = _behind_label(text, source)
    if labelled is not None:
        return labelled
    if words.ABOUT_TRANSLATION.search(source[:_MOST_PREAMBLE]):
        return text
    opener = _opener(text, source)
    first, _, rest = text.partition("\n")
    if rest.strip() and len(first) <= _MOST_PREAMBLE and (opener or words.ABOUT_TRANSLATION.search(first)):
        return rest
    # "Sure! …" on the translation's own line: a sentence more than the source has.
    if opener and opener.group().rstrip()[-1:] in {"!", "！", ".", "。"} and _stops(text) > _stops(source):
        return text[opener.end() :]
    return text


def _stops(text: str) -> int:
    return len(_STOPS.findall(text))


def _is_label(head: str) -> bool:
    """Returns whether a label consists of a language's name or a word for the answer, as in `Swahili:` or `Output:`."""
    plain = head.strip(' *_#-"“”[]()').casefold()
    plain = re.sub(r"^(?:in|into|en|auf|kwa)\s+|\s+(?:text|version)$", "", plain)
    if plain in words.ANSWER_LABELS or plain in words.LANGUAGE_NAMES:
        return True
    return plain in {entry.name.casefold() for entry in LANGUAGES.values()}


def _without_notes(text: str, source: str, target: str) -> str:
    if words.NOTE.search("\n" + source):
        return text
    note = words.NOTE.search(text, 1)
    if note is not None and text[: note.start()].strip():
        return text[: note.start()]
    inline = None if source.rstrip()[-1:] in set(")]）】") else words.BRACKETED_NOTE.search(text)
    if inline is None and target != "en":
        inline = words.ENGLISH_NOTE.search(text)
    if inline is not None and text[: inline.start()].strip():
        return text[: inline.start()]
    bracket = None if set(_BRACKETS) & set(source) else _LAST_BRACKET.search(text)
    if bracket is not None and bracket.start() and _is_remark(bracket["inside"], target):
        return text[: bracket.start()] + bracket["end"]
    return text


def _is_remark(inside: str, target: str) -> bool:
    """Returns whether the text in brackets is about the translation, or says how it is pronounced."""
    if words.ABOUT_TRANSLATION.search(inside):
        return True
    script = LANGUAGES[target].script if target in LANGUAGES else "Latn"
    letters = "".join(filter(str.isalpha, inside))
    return script != "Latn" and len(inside.split()) > 1 and all("LATIN" in unicodedata.name(c, "") for c in letters)


def _without_quotes(text: str, source: str) -> str:
    """Returns the text without one pair of quotes, brackets or emphasis marks around the whole of it."""
    plain = source.strip()
    boxed = _BOXED.fullmatch(text)
    if boxed is not None and "\\boxed" not in source:
        return boxed["text"] or boxed["bare"] or ""
    if text[-1:] in {".", "。"} and not _is_quoted(plain):  # a full stop behind the closing quote
        bare = _without_quotes(text[:-1], source)
        if bare != text[:-1]:
            return bare if _stops(bare[-1:]) else bare + text[-1]
    width = 2 if text[:2] in {"**", "__"} else 1
    opening, closing, inner = text[:width], text[-width:], text[width:-width]
    ends = _QUOTES.get(opening[:1])
    if ends is None or closing[:1] not in ends or len(text) <= 2 * width or not inner.strip():
        return text
    if opening[0] in _MARKUP:
        return inner if opening[0] not in plain and inner.count(opening) == 0 else text
    if _is_quoted(plain):
        return text
    apart = opening in inner or closing in inner
    # Apostrophes within words are no quotes.
    if opening in {"'", "‘"}:
        apart = bool(re.search(rf"(?<!\w)[{opening}{closing}]|[{opening}{closing}](?!\w)", inner))
    return text if apart else inner


def _is_quoted(source: str) -> bool:
    """Returns whether the source begins with a quotation mark or a bracket."""
    return source[:1] in _QUOTES and source[:1] not in _MARKUP
