"""Words that begin preambles and notes of chat models, in many languages."""

# ruff: noqa: E501 - lists of words
import re

ABOUT_TRANSLATION = re.compile(
    r"\btranslat\w*|\btraduc\w*|\btraduz\w*|\btradu[cç]\w*|übersetz\w*|\btafsiri\w*|\bvertal\w*|\bterjemah\w*|\bçevir\w*"
    r"|\btłumacz\w*|\bperevod\w*|перев[оё]д\w*|bản dịch|\bdịch\b|翻译|翻譯|译文|譯文|翻訳|訳文|和訳|번역|ترجم|অনুবাদ|अनुवाद"
    r"|แปล|מתורגם|תרגום|ترجمه|மொழிபெயர்ப்பு|అనువాద",
    re.IGNORECASE,
)
"""A word about translating, in many languages."""
OPENER = re.compile(
    r"\s*(?:(?:sure(?: thing)?|certainly|of course|absolutely|okay|ok|alright|no problem|gladly|happy to help|got it"
    r"|hakika|bila shaka|sawa|claro|por supuesto|bien sûr|natürlich|gerne|certo|certamente|tentu(?: saja)?|baik"
    r"|dĩ nhiên|chắc chắn(?: rồi)?|конечно)\b|(?:当然(?:可以)?|好的|没问题|もちろん(?:です)?|はい|承知しました|물론(?:입니다|이죠)?"
    r"|네|بالتأكيد|بالطبع|অবশ্যই|নিশ্চয়ই|ज़रूर|แน่นอน)(?=\s*(?:[!！,，、.。:：]|\Z)))\s*[!！,，、.。:：]?\s*",
    re.IGNORECASE,
)
"""An assistant's first word before it does what it was asked."""
HERE = re.compile(
    r"\s*\W*(?:here(?:'s|’s| is| are| you go| it is)\b|below is\b|this is\b|the (?:following|text|sentence|final)\b"
    r"|hii (?:ndiyo|hapa)\b|hapa (?:ni|kuna)\b|voici\b|aquí (?:está|tienes)\b|hier\b|ecco\b|berikut\b|ini\b|đây là\b"
    r"|以下(?:是)?|下面是|こちら|以下が|다음은|여기|إليك|فيما يلي|এখানে|এই হল|যहाँ|นี่คือ|вот\b)",
    re.IGNORECASE,
)
"""How a preamble presents what follows."""
SOURCE_LABELS = {"english", "original", "source", "text", "original text", "source text", "input", "english text"}
"""Labels before a repetition of the source."""
LANGUAGE_NAMES = {
    "kiswahili", "swahili", "中文", "简体中文", "chinese (simplified)", "simplified chinese", "汉语", "日本語", "한국어", "العربية",
    "বাংলা", "bangla", "italiano", "tiếng việt", "ไทย", "ภาษาไทย", "basa jawa", "jawa", "deutsch", "français", "español",
    "german", "french", "spanish", "portuguese", "hindi", "russian", "русский", "हिन्दी", "indonesian", "bahasa indonesia",
}  # fmt: skip
"""Languages' own names, beside the English ones that `languages.LANGUAGES` has."""
ANSWER_LABELS = {
    "translation", "translated text", "answer", "final answer", "output", "result", "response", "reply", "target", "target text",
    "assistant", "ai", "model", "a", "jibu", "matokeo",
}  # fmt: skip
"""Labels before an answer."""
SECTION = re.compile(
    r"(?:\A|\n)[ \t#*_]*(?:the )?(?:final )?(?:translation|translated text|answer|output)[ \t*_]*(?:[:：]|(?=\n))[ \t*_]*",
    re.IGNORECASE,
)
"""A heading or label that begins the answer behind other sections."""
_NOTES = (
    r"(?:translator'?s?|translation|important|cultural|linguistic|pronunciation|usage|additional|please)?\s*notes?(?: that)?\b"
    r"|n\.?b\.?\b|explanation|pronunciation|transliteration|romani[sz]ation|romaji|pinyin|literal(?:ly| translation)"
    r"|back[- ]?translation|alternative(?:ly| translation)?|breakdown|context|comment|disclaimer|vocabulary|glossary"
    r"|kumbuka|kidokezo|maelezo|dokezo|nota|notas|anmerkung|hinweis|remarque|catatan|cathetan|lưu ý|ghi chú|примечание"
    r"|注(?:意|释|釋|記|解)?|备注|備註|備考|说明|說明|解释|補足|参고|참고|주의|설명|ملاحظة|تنبيه|شرح|দ্রষ্টব্য|বিঃদ্রঃ|টীকা|নোট"
    r"|टिप्पणी|नोट|หมายเหตุ"
)
_FAREWELL = (
    r"let me know\b|i hope\b|hope (?:this|that) helps|feel free\b|if you (?:need|have|want|would)\b|would you like\b"
    r"|do you (?:need|want)\b|is there anything\b|please let me know\b|i(?:'ve| have) (?:kept|translated|used|preserved)\b"
    r"|this translation\b|the (?:above )?translation\b|in this translation\b"
)
NOTE = re.compile(
    rf"\n[\W_]{{0,12}}(?:(?:{_NOTES})[*_]{{0,2}}\s*[:：\-–—]|(?:{_FAREWELL})|please note\b|note that\b)", re.IGNORECASE
)
"""A line that begins a note, or a farewell, behind the translation."""
BRACKETED_NOTE = re.compile(
    rf"\s*[(\[（【]\s*[*_]{{0,2}}(?:{_NOTES})[*_]{{0,2}}\s*[:：][^\n]*[)\]）】]\s*\Z", re.IGNORECASE
)
"""A note in brackets behind the translation, on its line."""
ENGLISH_NOTE = re.compile(
    r"(?<=[.!?。！？।؟\"”])\s+[*_]{0,2}(?:(?:translator'?s )?note\s*:|please note\b|explanation\s*:|let me know\b)[^\n]*\Z",
    re.IGNORECASE,
)
"""A note in English behind a translation into another language, on its line."""
