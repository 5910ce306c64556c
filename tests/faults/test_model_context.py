"""Sequences beyond the positions of a model: refused, or answered in what is left."""

import re

import pytest

from mpo_core.models import context_length, load_model, load_tokenizer
from mpo_core.settings import ModelSettings, SamplingSettings


@pytest.fixture
def absolute(model_copy):
    """A tiny GPT-2 of 64 absolute positions, with the tokenizer of the shipped model."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    for name in ("config.json", "generation_config.json", "model.safetensors"):
        (model_copy / name).unlink()
    torch.manual_seed(0)
    sizes = {"vocab_size": 2961, "n_positions": 64, "n_embd": 16, "n_layer": 1, "n_head": 2}
    GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=1, eos_token_id=4)).save_pretrained(model_copy)
    return model_copy


def long_pairs(write_pairs):
    return write_pairs({number: {"target_chosen": "Habari " * 200} for number in range(4)})


@pytest.mark.parametrize(
    ("settings", "pattern"),
    [
        (
            ["training.cutoff=1024"],  # the default: what counts is how long the texts are
            r"training\.cutoff 1024: 4 of \d+ training texts are longer than the 64 tokens .*Set training\.cutoff=64",
        ),
        (
            ["training.cutoff=200"],
            r"training\.cutoff 200: the cutoff is above the 64 tokens that the model .* can read",
        ),
        (["model.system=Be brief. " + "x" * 99], r"model\.system: .*(takes no system|empty prompt takes)"),
    ],
    ids=["texts", "cutoff", "system"],
)
def test_training_beyond_the_positions(mpo, absolute, write_pairs, tmp_path, settings, pattern):
    out = tmp_path / "out"
    given = [part for setting in settings for part in ("--set", setting)]
    outcome = mpo("train", "--pairs", long_pairs(write_pairs), "--model", absolute, "--out", out, *given)
    assert (outcome.code, outcome.out) == (2, "")
    assert re.fullmatch(f"mpo: {pattern}.*\n", outcome.err), outcome.err
    assert not out.exists()


def test_answers_end_at_the_last_position(absolute):
    from mpo_core.sampling import Request
    from tests.sampling.loaded import sample_from

    settings = ModelSettings(path=str(absolute), device="cpu")
    model, tokenizer = load_model(absolute, settings), load_tokenizer(absolute, settings)
    requests = [Request("short", "Habari"), Request("long", "Habari " * 200)]
    rows, quarantine = sample_from(model, tokenizer, requests, SamplingSettings(max_new_tokens=500), language="sw")
    assert rows["prompt_id"].to_pylist() == ["short"]
    assert rows["tokens"].to_pylist()[0] <= 64
    assert quarantine["reason"].to_pylist() == ["prompt_too_long"]


@pytest.mark.parametrize(
    ("rope", "limit"),
    [
        ({"rope_type": "default"}, 256),
        ({"rope_type": "linear", "factor": 4.0}, 1024),
        ({"rope_type": "dynamic", "factor": 2.0}, 512),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}, 1024),
        # These state the scaled length themselves.
        (
            {
                "rope_type": "llama3",
                "factor": 8.0,
                "original_max_position_embeddings": 32,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
            },
            256,
        ),
    ],
    ids=lambda value: value["rope_type"] if isinstance(value, dict) else None,
)
def test_the_context_with_scaled_positions(rope, limit):
    from transformers import LlamaConfig, MistralConfig

    config = LlamaConfig(max_position_embeddings=256, rope_parameters={"rope_theta": 10000.0, **rope})
    assert context_length(config) == limit
    assert context_length(MistralConfig(max_position_embeddings=256, sliding_window=8)) == 256
