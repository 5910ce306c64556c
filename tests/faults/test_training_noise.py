"""A model's own noise is off while it trains, and a model that is not its reference is refused before step 1."""

import json
import signal
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers

from mpo_core.contract.errors import BadInputError
from tests.training.conftest import folder, make_job, pairs_table, settings  # noqa: F401 - `folder` is a fixture

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
LLAMA = SIZES | {"num_key_value_heads": 1, "attention_dropout": 0.5}
MODELS = {
    "gpt2": ("GPT2Config", {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 512}),  # 0.1 by default
    "opt": (
        "OPTConfig",
        SIZES | {"ffn_dim": 32, "word_embed_proj_dim": 16, "dropout": 0.3, "attention_dropout": 0.3, "layerdrop": 0.5},
    ),
    "llama": ("LlamaConfig", LLAMA),
    "falcon": ("FalconConfig", SIZES | {"hidden_dropout": 0.3, "attention_dropout": 0.3, "alibi": False}),
    "bloom": ("BloomConfig", {"hidden_size": 16, "n_layer": 2, "n_head": 2, "hidden_dropout": 0.3}),
    "gpt_neo": (
        "GPTNeoConfig",
        {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]]}
        | {"resid_dropout": 0.3, "embed_dropout": 0.3, "attention_dropout": 0.3},
    ),
    "mixtral": ("MixtralConfig", LLAMA | {"router_jitter_noise": 0.5, "num_local_experts": 4}),
    "phi": ("PhiConfig", SIZES | {"resid_pdrop": 0.3, "embd_pdrop": 0.3, "attention_dropout": 0.3}),
}
QUICK = ["gpt2"]
LONG = pytest.mark.long


@pytest.fixture
def noisy(folder, tmp_path):  # noqa: F811
    """Makes a folder with a model of some architecture and the tiny tokenizer."""

    def make(name):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        kind, options = MODELS[name]
        config = getattr(transformers, kind)(vocab_size=len(tokenizer), **options)
        config.bos_token_id = config.eos_token_id = config.pad_token_id = tokenizer.eos_token_id
        torch.manual_seed(1)
        path = tmp_path / name
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(path)
        tokenizer.save_pretrained(path)
        return path

    return make


def train_here(job):
    """Trains in this process; returns the log of its steps."""
    from mpo_core.training.child import run

    job.work.mkdir(exist_ok=True)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        result = run(job, SimpleNamespace(send=lambda *_: None))
    finally:
        signal.signal(signal.SIGTERM, handler)
    history = json.loads(result.trainer_state.read_text())["log_history"]
    return [entry for entry in history if "loss" in entry]


def with_changes(**changes):
    return settings(**({"max_steps": 2} | changes))


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in MODELS]
)
def test_the_first_step_starts_at_the_reference(noisy, tmp_path, name, checkpointing):
    training = with_changes(gradient_checkpointing=checkpointing, order="file")
    job = make_job(tmp_path / "job", noisy(name), training, pairs_table(3, kinds=("harmful",)))
    assert train_here(job)[0]["loss/retention"] < 1e-9


@pytest.mark.parametrize("method", ["dpo", *(pytest.param(name, marks=LONG) for name in ("kto", "sft", "orpo"))])
def test_other_methods_start_there_too(noisy, tmp_path, method):
    job = make_job(tmp_path / "job", noisy("gpt2"), with_changes(method=method, order="file"), pairs_table(3))
    steps = train_here(job)
    if method == "dpo":
        assert steps[0]["loss"] == pytest.approx(0.6931472, abs=1e-5)


def test_dropout_of_adapters_stays_the_users(folder):  # noqa: F811
    from mpo_core.models import load_model
    from mpo_core.settings import LoraSettings, ModelSettings
    from mpo_core.training.adapters import add_adapters
    from mpo_core.training.noise import train_without_noise

    model = add_adapters(load_model(folder, ModelSettings(device="cpu")), LoraSettings(rank=2, dropout=0.5))
    train_without_noise(model)
    on = [name for name, module in model.get_base_model().named_modules() if module.training]
    assert len([name for name in on if name.endswith("lora_dropout.default")]) == 14
    assert all("lora_dropout" in name or name.endswith("_proj") for name in on)


@pytest.mark.parametrize(
    ("column", "precision"),
    [
        ("gap", "float32"),
        ("chosen_pooled", "bfloat16"),
        pytest.param("gap", "bfloat16", marks=LONG),
        pytest.param("chosen_pooled", "float32", marks=LONG),
    ],
)
def test_a_model_that_is_not_its_reference_is_refused(folder, tmp_path, column, precision):  # noqa: F811
    job = make_job(tmp_path, folder, with_changes(precision=precision), pairs_table(3))
    schema, rows = pq.read_schema(job.references), pq.read_table(job.references).to_pylist()
    for row in rows:
        if row[column] is not None:
            row[column] = row[column] + 0.5 if column == "gap" else [2.0 * value for value in row[column]]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), job.references)
    what = "reward gaps" if column == "gap" else "hidden states"
    with pytest.raises(BadInputError, match=f"the model differs from its reference: {what} differ") as caught:
        train_here(job)
    assert caught.value.where == "training, step 0"
    assert not (job.out / "model").exists()
    assert not list(job.work.rglob("checkpoint-*"))


def test_noise_that_no_switch_reaches_is_refused(folder, monkeypatch):  # noqa: F811
    # As a model's own code may have it: noise whatever the mode.
    from transformers.models.llama.modeling_llama import LlamaMLP

    from mpo_core.models import load_model
    from mpo_core.settings import ModelSettings
    from mpo_core.training.forward import attach

    forward = LlamaMLP.forward
    monkeypatch.setattr(LlamaMLP, "forward", lambda self, x: torch.dropout(forward(self, x), 0.5, train=True))
    with pytest.raises(BadInputError, match="it uses random numbers in its own code"):
        attach(load_model(folder, ModelSettings(device="cpu")), packed=False)


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": "bfloat16", "precision": "bfloat16", "lora": {"rank": 2, "dropout": 0.5}},
        {"weights": "nf4", "lora": {"rank": 2}},
        *(
            pytest.param(changes, marks=LONG)
            for changes in (
                {"precision": "bfloat16"},
                {"anchor_gap": "own"},
                {"retention": {"pooling": "last"}},
                {"retention": {"pooling": "padded_mean"}},
                {"retention": {"weight": 0.0}},
                {"layout": "padded"},
                {"method": "dpo", "precision": "bfloat16"},
            )
        ),
    ],
    ids=str,
)
def test_whatever_is_its_reference_trains(folder, tmp_path, changes):  # noqa: F811
    training = with_changes(**changes)
    job = make_job(tmp_path, folder, training, pairs_table(3))
    assert len(train_here(job)) == 2
