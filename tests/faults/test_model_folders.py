"""Damaged and unfit model folders: how a good tiny one is damaged → what the one line says.

Each member of the kind is one line of a table. `resolve` is what every command that takes a model calls first;
a few members go through the commands themselves.
"""

import re

import pytest

from mpo_core.contract.errors import BadInputError
from mpo_core.models import load_model, load_tokenizer, resolve
from mpo_core.settings import ModelSettings, SamplingSettings
from tests.faults.model_damage import (
    POINTER,
    WEIGHTS,
    beside,
    change,
    config,
    device,
    emptied,
    encoder,
    in_a_folder,
    more_tokens,
    only,
    pipe,
    refusal,
    removed,
    renamed,
    scaled,
    sharded,
    stored_as,
    template,
    with_mark,
    write,
)

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
    "consolidated weights": (
        only("consolidated.safetensors"),
        "there is no model.safetensors, only consolidated.safetensors",
    ),
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
    "a shard is missing": (sharded(drop_file=True), "1 of 2 weight files are missing.*model-00002-of-00002"),
    "a tensor is missing": (sharded(drop_tensor=True), "1 tensors that .* names are not in model-00001"),
    "an index of nothing": (sharded(index={}), "weight_map does not say"),
    "an empty index": (sharded(index={"weight_map": {}}), "weight_map does not say"),
    "an index of numbers": (sharded(index={"weight_map": {"a": 1}}), "weight_map does not say"),
    "an index of lists": (sharded(index={"weight_map": ["a"]}), "weight_map does not say"),
    "an index that is a list": (sharded(index=["a"]), r"index\.json: this is a JSON list"),
    "an index that leaves the folder": (sharded(index={"weight_map": {"a": "../x"}}), "weight files are missing"),
    "a pipe for weights": (pipe(WEIGHTS), "model.safetensors is a pipe or a device"),
    "a pipe for the config": (pipe("config.json"), "config.json is a pipe or a device"),
    "a pipe for the tokenizer": (pipe("tokenizer.json"), "tokenizer.json is a pipe or a device"),
    "a config without end": (device("config.json"), "config.json is a pipe or a device"),
    "weights of an adapter alone": (renamed(WEIGHTS, "adapter_model.safetensors"), "the weights of an adapter"),
    "ONNX": (renamed(WEIGHTS, "model.onnx"), r"of a kind that is not loaded \(model\.onnx\)"),
    "TensorFlow": (renamed(WEIGHTS, "tf_model.h5"), r"of a kind that is not loaded \(tf_model\.h5\)"),
    "the folder of the folder": (in_a_folder("model"), "config.json is missing. Did you mean .*/model/model"),
    "a folder of the hub's cache": (in_a_folder("snapshots/1a2b"), "Did you mean .*/snapshots/1a2b"),
    "a mark before the config": (with_mark("config.json"), r"config\.json: the file begins with a byte-order mark"),
    "template by pointer": (write("chat_template.jinja", POINTER), r"chat_template\.jinja is a pointer of Git LFS"),
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
    "an encoder": (encoder, "cannot align a bert model: it is an encoder"),
    "an encoder-decoder": (config(model_type="t5"), "cannot align a t5 model: it is an encoder-decoder"),
    "a decoder cut out of one": (config(model_type="bart"), "cannot align a bart model: it is an encoder-decoder"),
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
        "num_hidden_layers is 1000000, but the weights hold 29 tensor",
    ),
    "absurd heads": (config(num_attention_heads=10**9, num_key_value_heads=10**9), "heads is 1000000000"),
    "absurd width": (config(hidden_size=128 * 10**7), r"describes [\d,]+ parameters, but the weights hold 1,018,880"),
    "absurd vocabulary": (config(vocab_size=10**13), "parameters, but the weights hold"),
    "another width": (config(hidden_size=256), "weights are of another shape|parameters, but the weights"),
    "a larger vocabulary": (
        config(vocab_size=3000),
        r"of another shape.*embed_tokens.weight: \[2961, 128\] in the file",
    ),
    "uneven heads": (config(num_attention_heads=3), "multiple of the number of attention heads"),
    "a size inside": (config(text_config={"num_hidden_layers": 10**7}), "num_hidden_layers is 10000000"),
    "an unknown activation": (
        config(hidden_act="nope"),
        "config.json: transformers cannot build a model from it.*nope",
    ),
    "unknown positions": (config(rope_parameters={"rope_type": "nope"}), "transformers cannot build a model"),
    "positions of no kind": (config(rope_parameters=5), "this configuration cannot be used"),
    "nested nonsense": (config(id2label=5, architectures={"a": [None]}), "this configuration cannot be used"),
    "positions scaled by infinity": (scaled(factor=float("inf")), "factor of rope_parameters is 'inf'"),
    "positions scaled below one": (scaled(factor=-2.0, rope_type="linear"), "factor of rope_parameters is '-2.0'"),
    "a base of zero": (scaled(rope_theta=0, rope_type="default"), "rope_theta of rope_parameters is '0'"),
    "a window below zero": (config(sliding_window=-1), "sliding_window is '-1', not a whole number above 0"),
    "absurd labels": (config(num_labels=10**9), "num_labels is 1000000000, but the weights hold"),
    "whole numbers": (stored_as("int8"), "29 weights are stored as I8 and config.json says nothing of a quantisation"),
    "eight bits": (stored_as("float8_e4m3fn"), "29 weights are stored as F8_E4M3"),
    "an unknown precision": (config(dtype="nope"), "this configuration cannot be used"),
    "padding out of range": (config(pad_token_id=99999), "transformers cannot build a model"),
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
    assert re.search(r"generation_config\.json: this file cannot be used \(\w+Error", refusal(model_copy))


@pytest.mark.parametrize("case", IGNORED)
def test_defaults_of_the_model_change_no_answer(model_copy, case):
    from mpo_core.sampling import Request
    from tests.sampling.loaded import sample_from

    settings = ModelSettings(path=str(model_copy), device="cpu")
    answers = []
    for extra in ({}, IGNORED[case]):
        change("generation_config.json", **extra)(model_copy)
        model = load_model(resolve(settings), settings)
        rows, _ = sample_from(
            model,
            load_tokenizer(model_copy, settings),
            [Request("a", "Habari")],
            SamplingSettings(max_new_tokens=6),
            language="sw",
        )
        answers.append(rows["text"].to_pylist())
        assert extra.items() <= model.generation_config.to_dict().items()  # what is saved later is still the user's
    assert answers[0] == answers[1]


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
    out, rules = tmp_path / "out", ["--judge", "refusal_rules"]
    outcome = {
        "train": lambda: mpo("train", "--model", model_copy, "--pairs", write_pairs(), "--out", out),
        "evaluate": lambda: mpo("evaluate", "--model", model_copy, "--prompts", prompts_csv, *rules),
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


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("{folder}/config.json", "this is a file, not a folder"),
        ("{folder}/none", "no such folder"),
        ("~/no-such-folder-of-models", "no such folder"),
        ("a/b/c", "no such folder"),
        ("", "."),
        ("x" * 5000, "this is not a valid path|neither a local folder"),
        ("a\0b", "this is not a valid path|neither a local folder"),
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
        BadInputError, match=r"9 tensors have no place in the model that config.json describes.*model\.layers\.2"
    ):
        load_model(model_copy, ModelSettings(device="cpu"))


LOADED = {
    "outputs without names": (config(return_dict=False), "the model cannot be run"),
    "NaN in computing": (config(rms_norm_eps=float("nan")), "scores are NaN or infinite when it computes in float32"),
    "a scale": (beside("model.layers.0.mlp.up_proj.weight_scale", 1), "1 tensors have no place in the model"),
    "a bias": (
        beside("model.layers.0.self_attn.q_proj.bias", 128),
        "describes, the first is .*q_proj.bias",
    ),
    "an adapter inside": (beside("model.layers.1.mlp.up_proj.lora_A.weight", 8, 128), "the first is .*lora_A.weight"),
    "a value head": (beside("v_head.summary.weight", 1, 128), None),  # of no known layer: it changes no answer
}


@pytest.mark.parametrize("case", LOADED)
def test_what_shows_when_a_model_is_loaded(model_copy, case):
    damage, pattern = LOADED[case]
    damage(model_copy)
    settings = ModelSettings(path=str(model_copy), device="cpu")
    resolve(settings)
    if pattern is None:
        load_model(model_copy, settings)
        return
    with pytest.raises(BadInputError, match=pattern):
        load_model(model_copy, settings)
