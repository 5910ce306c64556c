"""Damaged and unfit model folders: how a good tiny one is damaged → what the one line says.

Each member of the kind is one line of a table. `resolve` is what every command that takes a model calls first;
a few members go through the commands themselves.
"""

import json
import re
import shutil
import time

import pytest

from mpo_core.errors import BadInputError
from mpo_core.models import load_model, load_tokenizer, resolve
from mpo_core.settings import ModelSettings, SamplingSettings

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:1234\nsize 4\n"
INDEX = "model.safetensors.index.json"


def write(name, content):
    """Damage: a file with this text, or with this value as JSON."""
    return lambda folder: (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


def change(name, **values):
    """Damage: these keys of a JSON file."""

    def damage(folder):
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return damage


def config(**values):
    return change("config.json", **values)


def template(text):
    """Damage: another chat template."""
    return change("tokenizer_config.json", chat_template=text)


def removed(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


def emptied(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def only(name, content=b"x"):
    """Damage: this file in place of the weights."""

    def damage(folder):
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(content)

    return damage


def sharded(index=None, drop_file=False, drop_tensor=False):
    """Damage: two shards with an index, one of which lacks something."""

    def damage(folder):
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        names = sorted(tensors)
        parts = {"model-00001-of-00002.safetensors": names[:5], "model-00002-of-00002.safetensors": names[5:]}
        placed = {name: file for file, part in parts.items() for name in part}
        for file, part in parts.items():
            held = part[1:] if drop_tensor else part
            save_file({name: tensors[name] for name in held}, folder / file, metadata={"format": "pt"})
        if drop_file:
            (folder / "model-00002-of-00002.safetensors").unlink()
        if index != "none":
            (folder / INDEX).write_text(json.dumps({"weight_map": placed}) if index is None else json.dumps(index))

    return damage


def more_tokens(folder):
    """Damage: a tokenizer that knows more tokens than the model."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<extra>", "<more>"])
    tokenizer.save_pretrained(folder)


def encoder(folder):
    config(model_type="bert", architectures=["BertForMaskedLM"])(folder)


FILES = {
    "an empty folder": (emptied, "the folder is empty"),
    "no weights": (removed("model.safetensors"), r"no \*\.safetensors file"),
    "an adapter": (
        lambda f: [emptied(f), write("adapter_config.json", {"base_model_name_or_path": "some/base"})(f)],
        r"this is an adapter \(adapter_config.json\) for some/base. Merge it first",
    ),
    "an adapter beside a model": (
        write("adapter_config.json", {"base_model_name_or_path": "/none"}),
        r"this is an adapter .* for /none",
    ),
    "an adapter without a base": (write("adapter_config.json", {}), "does not name the model that it belongs to"),
    "an adapter that is a list": (write("adapter_config.json", [1]), r"adapter_config\.json: this is a JSON list"),
    "GGUF": (only("model.gguf"), "the weights are GGUF"),
    "GGUF alone": (lambda f: [emptied(f), (f / "m.Q4_K_M.gguf").write_bytes(b"GGUF")], "the weights are GGUF"),
    "pickles": (only("pytorch_model.bin"), r"the weights are pickles \(pytorch_model\.bin\).* convert them"),
    "consolidated weights": (only("consolidated.safetensors"), "no model.safetensors, only consolidated.safetensors"),
    "weights by pointer": (write("model.safetensors", POINTER), "is a pointer of Git LFS.*git lfs pull"),
    "tokenizer by pointer": (write("tokenizer.json", POINTER), r"tokenizer\.json is a pointer of Git LFS"),
    "config by pointer": (write("config.json", POINTER), r"config\.json is a pointer of Git LFS"),
    "a login page for weights": (write("model.safetensors", "<html>log in</html>" * 9), "model.safetensors is damaged"),
    "weights that are a folder": (
        lambda f: [removed("model.safetensors")(f), (f / "model.safetensors").mkdir()],
        "model.safetensors cannot be read",
    ),
    "weights without a tensor": (only("model.safetensors", b"\x02" + b"\0" * 7 + b"{}"), "hold no tensor"),
    "an endless header": (only("model.safetensors", b"\xff" * 8 + b"{}"), "model.safetensors is damaged"),
    "no index": (sharded(index="none"), r"model\.safetensors\.index\.json is missing beside model-00001-of-00002"),
    "a shard is missing": (sharded(drop_file=True), "1 of 2 files of weights are missing.*model-00002-of-00002"),
    "a tensor is missing": (sharded(drop_tensor=True), "1 tensors that .* names are not in model-00001"),
    "an index of nothing": (sharded(index={}), "weight_map does not say"),
    "an empty index": (sharded(index={"weight_map": {}}), "weight_map does not say"),
    "an index of numbers": (sharded(index={"weight_map": {"a": 1}}), "weight_map does not say"),
    "an index of lists": (sharded(index={"weight_map": ["a"]}), "weight_map does not say"),
    "an index that is a list": (sharded(index=["a"]), r"index\.json: this is a JSON list"),
    "an index that leaves the folder": (sharded(index={"weight_map": {"a": "../x"}}), "files of weights are missing"),
    "no tokenizer": (removed("tokenizer.json"), "the tokenizer is missing"),
}

JSON = {
    "half": "{",
    "a list": "[1, 2]",
    "a number": "7",
    "text": '"x"',
    "null": "null",
    "empty": "",
    "deep": "[" * 100_000,
    "digits": '{"a": ' + "1" * 5000 + "}",
    "a page": "<html></html>",
}
NAMES = ("config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json")

CONFIGS = {
    "unknown type": (config(model_type="llama99"), r"does not know the model_type 'llama99'.* pip install -U"),
    "a number as type": (config(model_type=5), "does not know the model_type '5'"),
    "no type": (config(model_type=None), "model_type is missing"),
    "code of its own": (config(model_type="mine", auto_map={"AutoConfig": "a.B"}), "needs code that comes with it"),
    "an encoder": (encoder, "bert is an encoder"),
    "an encoder-decoder": (config(model_type="t5"), "t5 is an encoder-decoder"),
    "a decoder cut out of one": (config(model_type="bart"), "bart is an encoder-decoder"),
    "a vision model": (config(model_type="vit"), "vit is no causal language model"),
    "a classifier": (config(architectures=["LlamaForSequenceClassification"]), "which writes no text"),
    "GPTQ": (config(quantization_config={"quant_method": "gptq", "bits": 4}), r"quantised \(gptq\).*not quantised"),
    "AWQ": (config(quantization_config={"quant_method": "awq", "bits": 4}), r"quantised \(awq\)"),
    "an unknown quantisation": (config(quantization_config={"quant_method": "nope"}), r"quantised \(nope\)"),
    "a quantisation of nothing": (config(quantization_config={"a": 1}), "quantised"),
    "a quantisation that is a list": (config(quantization_config=[4]), "quantised|cannot be used"),
    "negative": (config(hidden_size=-128), "hidden_size is '-128', not a whole number above 0"),
    "zero": (config(num_attention_heads=0), "num_attention_heads is '0'"),
    "textual": (config(hidden_size="128"), "hidden_size is '128', not a whole number"),
    "half a layer": (config(num_hidden_layers=1.5), "num_hidden_layers is '1.5'"),
    "yes": (config(vocab_size=True), "vocab_size is 'True'"),
    "a million layers": (
        config(num_hidden_layers=10**6),
        "num_hidden_layers is 1000000, and the weights hold 29 tensor",
    ),
    "absurd heads": (config(num_attention_heads=10**9, num_key_value_heads=10**9), "heads is 1000000000"),
    "absurd width": (config(hidden_size=128 * 10**7), r"describes [\d,]+ parameters, and the weights hold 1,018,880"),
    "absurd vocabulary": (config(vocab_size=10**13), "parameters, and the weights hold"),
    "another width": (config(hidden_size=256), "weights are of another shape|parameters, and the weights"),
    "a larger vocabulary": (
        config(vocab_size=3000),
        r"of another shape.*embed_tokens.weight: \[2961, 128\] in the file",
    ),
    "uneven heads": (config(num_attention_heads=3), "multiple of the number of attention heads"),
    "a size inside": (config(text_config={"num_hidden_layers": 10**7}), "num_hidden_layers is 10000000"),
    "an unknown activation": (config(hidden_act="nope"), "config.json: no model can be built from it.*nope"),
    "unknown positions": (config(rope_parameters={"rope_type": "nope"}), "no model can be built"),
    "positions of no kind": (config(rope_parameters=5), "this configuration cannot be used"),
    "nested nonsense": (config(id2label=5, architectures={"a": [None]}), "this configuration cannot be used"),
    "an unknown precision": (config(dtype="nope"), "this configuration cannot be used"),
    "padding out of range": (config(pad_token_id=99999), "no model can be built"),
    "an end out of range": (config(eos_token_id=99999), "eos_token_id '99999' is no token id of the model"),
    "an end below zero": (change("generation_config.json", eos_token_id=-4), "eos_token_id '-4' is no token id"),
    "an end in words": (change("generation_config.json", eos_token_id="end"), "eos_token_id 'end' is no token id"),  # noqa: S106
    "ends of no kind": (change("generation_config.json", eos_token_id=[4, [5]]), r"'\[5\]' is no token id"),
}

GENERATION = {
    "an unknown cache": {"cache_implementation": "nope"},
    "a negative length": {"max_new_tokens": -3},
    "a watermark of no kind": {"watermarking_config": 5},
    "early stopping in words": {"early_stopping": "nope"},
    "padding in words": {"pad_token_id": "x"},
}
IGNORED = {
    "forced tokens": {"forced_bos_token_id": 9, "suppress_tokens": "x"},
    "guidance": {"guidance_scale": 5.0, "penalty_alpha": 0.6, "exponential_decay_length_penalty": [1, 2.0]},
    "lengths": {"min_new_tokens": 9, "max_time": "x", "stop_strings": 5},
    "lists of no kind": {"bad_words_ids": 5, "sequence_bias": {"a": 1}, "bos_token_id": "x"},
}

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
    "gives nothing": ("", "it gives nothing|no chat template"),
    "gives spaces": ("   ", "it gives nothing"),
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


def refusal(folder, **settings):
    with pytest.raises(BadInputError) as caught:
        resolve(ModelSettings(path=str(folder), device="cpu", **settings))
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 1000
    return line


@pytest.mark.parametrize("case", FILES)
def test_files_that_are_missing_or_of_another_kind(model_copy, case):
    damage, pattern = FILES[case]
    damage(model_copy)
    line = refusal(model_copy)
    assert line.startswith(f"model {model_copy}")
    assert re.search(pattern, line), line


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", JSON)
def test_files_that_are_no_json_objects(model_copy, name, case):
    (model_copy / name).write_text(JSON[case])
    assert re.search(rf"{re.escape(name)}: this is (not JSON|a JSON)", refusal(model_copy))


@pytest.mark.parametrize("case", CONFIGS)
def test_a_config_that_does_not_fit(model_copy, case):
    damage, pattern = CONFIGS[case]
    damage(model_copy)
    line = refusal(model_copy)
    assert re.search(pattern, line), line


@pytest.mark.parametrize("case", GENERATION)
def test_a_generation_config_that_cannot_be_read(model_copy, case):
    change("generation_config.json", **GENERATION[case])(model_copy)
    assert re.search(r"generation_config\.json: this cannot be used \(\w+Error", refusal(model_copy))


@pytest.mark.parametrize("case", IGNORED)
def test_defaults_of_the_model_change_no_answer(model_copy, case):
    from mpo_core.sampling import Request, sample

    settings = ModelSettings(path=str(model_copy), device="cpu")
    answers = []
    for extra in ({}, IGNORED[case]):
        change("generation_config.json", **extra)(model_copy)
        model = load_model(resolve(settings), settings)
        rows, _ = sample(
            model,
            load_tokenizer(model_copy, settings),
            [Request("a", "Habari")],
            SamplingSettings(max_new_tokens=6),
            language="sw",
        )
        answers.append(rows["text"].to_pylist())
        assert extra.items() <= model.generation_config.to_dict().items()  # what is saved later is still the user's
    assert answers[0] == answers[1]


@pytest.mark.parametrize("case", TOKENIZERS)
def test_a_tokenizer_that_does_not_fit(model_copy, case):
    damage, pattern = TOKENIZERS[case]
    damage(model_copy)
    line = refusal(model_copy)
    assert re.search(pattern, line), line


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
    assert time.monotonic() - started < 30


# -- through the commands ------------------------------------------------------------

COMMANDS = {
    "a million layers": (config(num_hidden_layers=10**6), "num_hidden_layers is 1000000"),
    "an adapter": (write("adapter_config.json", {}), "this is an adapter"),
    "a list": (write("tokenizer_config.json", "[]"), "tokenizer_config.json: this is a JSON list"),
    "more tokens": (more_tokens, "no embedding for"),
    "multiplies": (template("{{ 'x' * 10**10 }}"), "512 MiB"),
    "quantised": (config(quantization_config={"quant_method": "awq", "bits": 4}), "quantised"),
}


@pytest.mark.parametrize("case", COMMANDS)
@pytest.mark.parametrize("command", ["train", "evaluate", "against"])
def test_commands_that_take_a_model(mpo, model_copy, write_pairs, prompts_csv, tmp_path, command, case):
    damage, pattern = COMMANDS[case]
    damage(model_copy)
    out = tmp_path / "out"
    outcome = {
        "train": lambda: mpo("train", "--model", model_copy, "--pairs", write_pairs(), "--out", out),
        "evaluate": lambda: mpo("evaluate", "--model", model_copy, "--prompts", prompts_csv),
        "against": lambda: mpo(
            "evaluate",
            "--model",
            "microworld",
            "--against",
            model_copy,
            "--prompts",
            prompts_csv,
            "--set",
            "languages.targets=[sw]",
        ),
    }[command]()
    assert (outcome.code, outcome.out) == (2, ""), outcome
    assert re.fullmatch(f"mpo: model .*{pattern}.*\n", outcome.err), outcome.err
    assert not out.exists()


@pytest.mark.parametrize("command", ["run", "compare", "realign"])
def test_flows_that_take_a_model(mpo, prefect_server, profile, model_copy, tmp_path, command):
    config(num_hidden_layers=10**6)(model_copy)
    outcome = mpo(command, profile, "--set", f"model.path={model_copy}")
    assert (outcome.code, outcome.out) == (2, ""), outcome
    assert re.fullmatch(r"mpo: model .*num_hidden_layers is 1000000.*\n", outcome.err), outcome.err
    made = {path.relative_to(tmp_path / "root").parts[0] for path in (tmp_path / "root").rglob("*.parquet")}
    assert made <= {"prompts"}  # realign reads the prompts to know whether there is work


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("{folder}/config.json", "this is a file, not a folder"),
        ("{folder}/none", "no such folder"),
        ("~/no-such-folder-of-models", "no such folder"),
        ("a/b/c", "no such folder"),
        ("", "."),
        ("x" * 5000, "this is no path|neither a folder"),
        ("a\0b", "this is no path|neither a folder"),
    ],
)
def test_a_path_that_is_no_folder(model_copy, path, pattern):
    assert re.search(pattern, refusal(path.format(folder=model_copy)))


def test_what_a_model_needs_is_compared_with_the_memory(model_copy, monkeypatch):
    settings = ModelSettings(path=str(model_copy), device="cpu")
    monkeypatch.setattr("os.sysconf", lambda _: 1000)
    with pytest.raises(BadInputError, match=r"the weights take 0\.0 GiB as float32, and the memory of cpu is"):
        load_model(model_copy, settings)


def test_layers_that_the_config_leaves_out(model_copy):
    config(num_hidden_layers=2)(model_copy)
    with pytest.raises(
        BadInputError, match=r"the weights hold 9 tensors that config.json leaves out.*model\.layers\.2"
    ):
        load_model(model_copy, ModelSettings(device="cpu"))


def test_a_template_that_fails_on_some_texts_alone(model_copy):
    from mpo_core.chat import encode_prompt

    template(
        "{% if 'secret' in messages[0]['content'] %}{{ raise_exception(messages[0]['content']) }}{% endif %}" + MESSAGE
    )(model_copy)
    tokenizer = load_tokenizer(model_copy, ModelSettings())
    with pytest.raises(BadInputError, match="the chat template fails on a conversation") as caught:
        encode_prompt(tokenizer, "A secret text")
    assert "secret" not in str(caught.value)  # a prompt is never shown
