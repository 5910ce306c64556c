"""Tokenizers and chat templates that cannot be used: how a good one is damaged → what the one line says."""

import json
import re
import time

import pytest
import tokenizers
from tokenizers import decoders, pre_tokenizers, trainers
from tokenizers.models import BPE

from mpo_core.contract.errors import BadInputError
from mpo_core.models import load_tokenizer, resolve
from mpo_core.settings import ModelSettings
from tests.faults.model_damage import (
    change,
    more_tokens,
    refusal,
    template,
    write,
)

TOKENIZERS = {
    "of a newer library": (
        lambda f: write("tokenizer.json", json.loads((f / "tokenizer.json").read_text()) | {"model": {"type": "New"}})(
            f
        ),
        r"tokenizer\.json: the tokenizer cannot be read by tokenizers .*pip install -U",
    ),
    "half": (write("tokenizer.json", "{"), r"tokenizer\.json: the tokenizer cannot be read"),
    "a list": (write("tokenizer.json", "[]"), "the tokenizer cannot be read"),
    "no text": (lambda f: (f / "tokenizer.json").write_bytes(b"\xff\xfe\0"), "the tokenizer cannot be read"),
    "an end of a wrong type": (change("tokenizer_config.json", eos_token=5), "the tokenizer cannot be read"),
    "an end of nothing": (change("tokenizer_config.json", eos_token={"a": [1]}), "the tokenizer cannot be read|no end"),
    "no end": (change("tokenizer_config.json", eos_token=None), "has no end token"),
    "a class that is a list": (change("tokenizer_config.json", tokenizer_class=["x"]), "the tokenizer cannot be read"),
    "more tokens than embeddings": (
        more_tokens,
        "gives 2 token ids that the model has no embedding for: ids up to 2962",
    ),
    "an end that is new": (change("tokenizer_config.json", eos_token="<new>"), "no embedding for: ids up to 2961"),  # noqa: S106
}

MESSAGE = "{{ messages[0]['content'] }}"
TEMPLATES = {
    "none": (None, "the tokenizer has no chat template"),
    "a number": (5, "chat template|the tokenizer cannot be read"),
    "a list of nothing": ([1], "chat template|the tokenizer cannot be read"),
    "several without a default": ([{"name": "a", "template": "x"}], "none is called default"),
    "no Jinja": ("{% for m in messages %}", "cannot be rendered: TemplateSyntaxError: Unexpected end"),
    "an unknown tag": ("{% nope %}", "TemplateSyntaxError"),
    "raises": (MESSAGE + "{{ raise_exception('not like this') }}", "TemplateError: not like this"),
    "divides by zero": ("{{ 1 / 0 }}", "ZeroDivisionError"),
    "misses a name": ("{{ nothing.at.all }}", "UndefinedError"),
    "gives nothing": ("", "it renders an empty text|no chat template"),
    "gives spaces": ("   ", "it renders an empty text"),
    "drops the text": ("<|user|>hello", "drops or changes the user's text"),
    "cuts the text": ("{{ messages[0]['content'][:200] }}", "drops or changes the user's text"),
    "repeats the text": (MESSAGE + MESSAGE, None),
    "trims the text": ("{{ messages[0]['content'] | trim }}", None),
    "changes the text": ("{{ messages[0]['content'] | upper }}", "drops or changes the user's text"),
    "escapes the text": ("{{ messages[0]['content'] | forceescape }}", "drops or changes the user's text"),
    "multiplies a letter": ("{{ 'x' * 10**10 }}" + MESSAGE, "needs more than 512 MiB"),
    "multiplies the text": ("{{ messages[0]['content'] * 10000 }}", r"it makes \d+ characters of a short"),
    "pads the text": ("{{ messages[0]['content'] | center(10**10) }}", "needs more than 512 MiB"),
    "doubles the text": (
        "{% set n = namespace(s='x' * 9) %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}" + MESSAGE,
        "needs more than 512 MiB",
    ),
    "calls itself": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
    "is deep": ("{{" + "(" * 5000 + "1" + ")" * 5000 + "}}", "RecursionError|MemoryError|crashed"),
    "is long": ("{# " + "x" * 2**20 + " #}" + MESSAGE, "1048610 characters, more than"),
    "opens a file": ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "SecurityError"),
}
LOOPS = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "computes a large number": "{{ (10 ** (10 ** 9)) % 7 }}",
}


@pytest.mark.parametrize("case", TOKENIZERS)
def test_a_tokenizer_that_does_not_fit(model_copy, case):
    damage, pattern = TOKENIZERS[case]
    damage(model_copy)
    line = refusal(model_copy)
    assert re.search(pattern, line), line


def test_a_special_token_that_no_text_gives_needs_no_embedding(model_copy):
    from transformers import AutoTokenizer

    from mpo_core.models.chat import encode_prompt, encode_response

    tokenizer = AutoTokenizer.from_pretrained(model_copy)
    known = len(tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})  # as in Gemma 3 with 1B parameters
    tokenizer.save_pretrained(model_copy)
    assert resolve(ModelSettings(path=str(model_copy))) == model_copy
    loaded = load_tokenizer(model_copy, ModelSettings())
    assert len(loaded) == known + 1
    ids = encode_prompt(loaded, "An <image> of <image>") + encode_response(loaded, "<image>")
    assert max(ids) < known
    (model_copy / "chat_template.jinja").write_text("<image>" + MESSAGE)
    assert "1 token id that the model has no embedding for" in refusal(model_copy)


@pytest.mark.parametrize("case", TEMPLATES)
def test_a_chat_template_that_cannot_be_used(model_copy, case):
    text, pattern = TEMPLATES[case]
    template(text)(model_copy)
    if pattern is None:
        assert resolve(ModelSettings(path=str(model_copy))) == model_copy
        return
    line = refusal(model_copy)
    assert re.search(pattern, line), line


@pytest.mark.parametrize("case", LOOPS)
def test_a_chat_template_that_does_not_end(model_copy, case, monkeypatch):
    monkeypatch.setattr("mpo_core.models.templates.SECONDS", 1)
    template(LOOPS[case])(model_copy)
    started = time.monotonic()
    assert "it did not finish within 1 seconds of computing" in refusal(model_copy)
    assert time.monotonic() - started < 120


def test_a_template_that_fails_on_some_texts_alone(model_copy):
    from mpo_core.models.chat import encode_prompt

    template(
        "{% if 'secret' in messages[0]['content'] %}{{ raise_exception(messages[0]['content']) }}{% endif %}" + MESSAGE
    )(model_copy)
    tokenizer = load_tokenizer(model_copy, ModelSettings())
    with pytest.raises(BadInputError, match="the chat template fails on a conversation") as caught:
        encode_prompt(tokenizer, "A secret text")
    assert "secret" not in str(caught.value)  # a prompt is never shown


TEXT = "In 2023, 12345 people didn't, and it's fine."


def described(folder, kind, model="llama", *, ended=True, file_begins_with_space=False, **options):
    """Writes a tokenizer that splits numbers into threes, whatever its class does; returns what its file describes."""
    own = tokenizers.Tokenizer(BPE())
    own.pre_tokenizer, own.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    letters, marks = pre_tokenizers.ByteLevel.alphabet(), ["<|endoftext|>"]
    trainer = trainers.BpeTrainer(initial_alphabet=letters, special_tokens=marks, show_progress=False)
    own.train_from_iterator([TEXT, "Hello, it's 2023! DON'T add 12345"] * 2, trainer)
    threes = pre_tokenizers.Split(tokenizers.Regex(r"\p{N}{1,3}"), "isolated")
    own.pre_tokenizer = pre_tokenizers.Sequence([threes, pre_tokenizers.ByteLevel(file_begins_with_space)])
    own.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": kind, "chat_template": MESSAGE, **options}
    settings |= {"eos_token": "<|endoftext|>"} if ended else {}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps({"model_type": model}))
    return own


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(
    ("model", "kind"), [("llama", "GPT2Tokenizer"), ("qwen2", "PreTrainedTokenizerFast"), ("llama", "LlamaTokenizer")]
)
def test_a_tokenizer_reads_as_its_file_describes_whatever_its_class_would_do(tmp_path, model, kind):
    expected = described(tmp_path, kind, model, add_prefix_space=False).encode(TEXT).ids
    loaded = load_tokenizer(tmp_path, ModelSettings())
    assert ids(loaded, TEXT) == expected
    loaded.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path, ModelSettings())
    assert ids(again, TEXT) == expected
    assert (again.eos_token, again.chat_template) == ("<|endoftext|>", MESSAGE)


@pytest.mark.parametrize("model", ["llama", "qwen2"])
@pytest.mark.parametrize("in_file", [False, True])
@pytest.mark.parametrize("option", [None, False, True])
def test_a_text_begins_with_a_space_where_the_option_says_so(tmp_path, model, in_file, option):
    options = {} if option is None else {"add_prefix_space": option}
    file = described(tmp_path, "GPT2Tokenizer", model, file_begins_with_space=in_file, **options)
    if option is False:
        file.pre_tokenizer[1] = pre_tokenizers.ByteLevel(add_prefix_space=False)
    loaded = load_tokenizer(tmp_path, ModelSettings())
    for text in (TEXT, f" {TEXT}"):
        assert ids(loaded, text) == file.encode(f" {TEXT}" if option else text).ids
    loaded.save_pretrained(tmp_path)
    assert ids(load_tokenizer(tmp_path, ModelSettings()), TEXT) == ids(loaded, TEXT)


@pytest.mark.parametrize("kind", ["GPT2Tokenizer", "PreTrainedTokenizerFast"])
def test_padding_and_truncation_in_the_file_change_no_text(tmp_path, kind):
    own = described(tmp_path, kind)
    expected = own.encode(TEXT).ids
    own.enable_padding(length=500)
    own.enable_truncation(max_length=9)
    own.save(str(tmp_path / "tokenizer.json"))
    assert ids(load_tokenizer(tmp_path, ModelSettings()), TEXT) == expected


def test_a_token_that_another_file_adds_is_read_and_refuses_no_tokenizer(tmp_path):
    described(tmp_path, "GPT2Tokenizer", added_tokens_decoder={"900": {"content": "<b>", "special": False}})
    loaded = load_tokenizer(tmp_path, ModelSettings())
    assert loaded.convert_tokens_to_ids("<b>") in ids(loaded, "A <b>bread</b>")
    assert loaded.decode(ids(loaded, TEXT)) == TEXT


def test_a_class_gives_its_end_token_where_the_files_name_none(tmp_path):
    own = described(tmp_path, "GPT2Tokenizer", ended=False)
    loaded = load_tokenizer(tmp_path, ModelSettings())
    assert loaded.eos_token == "<|endoftext|>"  # noqa: S105 - no password
    assert ids(loaded, TEXT) == own.encode(TEXT).ids
