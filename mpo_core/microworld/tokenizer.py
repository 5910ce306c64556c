"""Trains the tokenizer: byte-level BPE over a splitter that suits all seven scripts.

The usual GPT-2 pattern cuts Bengali at its combining marks and keeps whole Chinese or Japanese clauses as one chunk; a
small model then cannot copy the object of a request. Splitting at spaces and punctuation, per Han character and on
kana runs fixes both.
"""

from collections.abc import Iterable
from typing import Any, Final

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

PAD, BOS, USER, ASSISTANT, END = "<|pad|>", "<|begin|>", "<|user|>", "<|assistant|>", "<|end|>"
SPECIAL_TOKENS: Final = (PAD, BOS, USER, ASSISTANT, END)

SPLIT: Final = (
    r"\p{Han}|[\p{Hiragana}]+|[\p{Katakana}ー]+"  # per Han character, runs of each kana
    r"| ?[^\s\p{P}\p{Han}\p{Hiragana}\p{Katakana}ー]+"  # a word, with the space before it
    r"| ?\p{P}|\s+"
)

CHAT_TEMPLATE: Final = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '<|user|>' + message['content'] + eos_token }}"
    "{% elif message['role'] == 'assistant' %}{{ '<|assistant|>' + message['content'] + eos_token }}"
    "{% else %}{{ raise_exception('the microworld model knows user and assistant turns only') }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """Trains a byte-level BPE tokenizer of at most `size` tokens; special tokens get the ids 0 to 4."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def tokenizer_config(max_length: int) -> dict[str, Any]:
    """Returns the content of `tokenizer_config.json`, with the chat template, for `AutoTokenizer`."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": END,
        "pad_token": PAD,
        "additional_special_tokens": [USER, ASSISTANT],
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": max_length,
        "padding_side": "left",
        "chat_template": CHAT_TEMPLATE,
    }
