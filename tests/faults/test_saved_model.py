"""What is saved is what was trained: tied embeddings under adapters, and a check by loading."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from mpo_core.contract.errors import BadInputError
from mpo_core.settings import LoraSettings
from tests.faults.test_training_noise import noisy, train_here, with_changes  # noqa: F401 - `noisy` is a fixture
from tests.training.conftest import MODEL, folder, make_job, pairs_table  # noqa: F401 - `folder` is a fixture

TABLES = {"llama": "embed_tokens", "gpt2": "wte", "opt": "embed_tokens"}


@pytest.fixture
def tied(noisy):  # noqa: F811
    """A model whose output head shares the weights of its input embeddings."""

    def make(name="llama"):
        path = noisy(name)
        config = json.loads((path / "config.json").read_text()) | {"tie_word_embeddings": True}
        (path / "config.json").write_text(json.dumps(config))
        weights = load_file(path / "model.safetensors")
        save_file(
            {k: v for k, v in weights.items() if k != "lm_head.weight"}, path / "model.safetensors", {"format": "pt"}
        )
        return path

    return make


def job_of(tmp_path, path, **changes):
    return make_job(tmp_path / "job", path, with_changes(learning_rate=0.05, **changes), pairs_table(3))


LONG = pytest.mark.long
TIED = [(name, weights) for name in TABLES for weights in ("float32", "bfloat16")]


@pytest.mark.parametrize(
    ("name", "weights"), [pytest.param(*case, marks=[] if case == ("llama", "float32") else LONG) for case in TIED]
)
def test_adapters_on_tied_embeddings_are_saved_as_they_were_trained(tied, tmp_path, name, weights):
    lora = {"rank": 4, "alpha": 64.0, "target_modules": [TABLES[name], "q_proj" if name != "gpt2" else "c_attn"]}
    job = job_of(tmp_path, tied(name), lora=lora, weights=weights)
    train_here(job)
    model = transformers.AutoModelForCausalLM.from_pretrained(job.out / "model")
    table, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert model.config.tie_word_embeddings is False
    assert not torch.equal(table, head)
    initial = transformers.AutoModelForCausalLM.from_pretrained(job.model_folder, dtype=weights)
    assert torch.equal(head, initial.get_output_embeddings().weight)  # no adapter was on it


def test_full_fine_tuning_stays_tied(tied, tmp_path):
    job = job_of(tmp_path, tied())
    train_here(job)
    model = transformers.AutoModelForCausalLM.from_pretrained(job.out / "model")
    assert model.config.tie_word_embeddings is True
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight


@pytest.mark.parametrize("modules", [["lm_head"], pytest.param(["embed_tokens", "lm_head"], marks=LONG)], ids=str)
def test_adapters_on_the_head_are_refused(tied, tmp_path, modules):
    job = job_of(tmp_path, tied(), lora={"target_modules": modules})
    with pytest.raises(BadInputError, match="an adapter on the output head") as caught:
        train_here(job)
    assert caught.value.where == "training.lora.target_modules"


@pytest.mark.parametrize(
    ("modules", "what"),
    [
        (["nothing"], "no module of the model is called 'nothing'"),
        (["q_proj", "v_porj"], "no module of the model is called 'v_porj'"),  # PEFT would train q_proj alone
        (["proj"], "no module of the model is called 'proj'"),
        (["norm"], "adapters cannot be put on these modules: Target module LlamaRMSNorm"),
        (["q_proj", "mlp"], "adapters cannot be put on these modules: Target module LlamaMLP"),
        ([], "the list of modules to adapt is empty"),
    ],
    ids=str,
)
def test_names_that_fit_no_layer_are_refused(folder, modules, what):  # noqa: F811
    from mpo_core.models import load_model
    from mpo_core.training.adapters import add_adapters

    with pytest.raises(BadInputError) as caught:
        add_adapters(load_model(folder, MODEL), LoraSettings(target_modules=modules))
    assert caught.value.what.startswith(what)
    assert caught.value.where == "training.lora.target_modules"
    linear = "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"
    assert caught.value.fix == f"Use all-linear, or some of {linear}."


def test_dropout_on_adapters_of_experts_is_refused(noisy, tmp_path):  # noqa: F811
    with pytest.raises(BadInputError, match="lora_dropout") as caught:
        train_here(job_of(tmp_path, noisy("mixtral"), lora={"rank": 2, "dropout": 0.5}))
    assert caught.value.fix == "Set training.lora.dropout to 0."


def test_no_other_model_than_the_trained_is_ever_left(tied, tmp_path, monkeypatch):
    # The fault of the issue, brought back: the update of the embeddings is merged into the head as well.
    monkeypatch.setattr("mpo_core.training.adapters.untie_embeddings", lambda _model: None)
    job = job_of(tmp_path, tied(), lora={"rank": 4, "alpha": 64.0, "target_modules": ["embed_tokens"]})
    with pytest.raises(BadInputError, match="the saved model is not the one that was trained"):
        train_here(job)
    assert not list(job.out.iterdir())


@pytest.mark.parametrize("damage", ["bytes", pytest.param("nan", marks=LONG)])
def test_whatever_spoils_the_folder_is_a_failure(folder, tmp_path, monkeypatch, damage):  # noqa: F811
    save = transformers.PreTrainedModel.save_pretrained

    def spoil(self, path, *args, **kwargs):
        save(self, path, *args, **kwargs)
        if ".tmp" in str(path):  # not a checkpoint
            weights = load_file(path / "model.safetensors")
            weights["model.norm.weight"] *= float("nan") if damage == "nan" else 1.5
            save_file(weights, path / "model.safetensors", {"format": "pt"})

    job = job_of(tmp_path, folder)
    monkeypatch.setattr(transformers.PreTrainedModel, "save_pretrained", spoil)
    with pytest.raises(BadInputError, match="norm.weight" if damage == "nan" else "not the one that was trained"):
        train_here(job)
    assert not list(job.out.iterdir())


@pytest.mark.long
def test_a_model_in_shards_and_an_odd_generation_config_are_saved(noisy, tmp_path, monkeypatch):  # noqa: F811
    save = transformers.PreTrainedModel.save_pretrained
    monkeypatch.setattr(
        transformers.PreTrainedModel,
        "save_pretrained",
        lambda self, path, **options: save(self, path, **options | {"max_shard_size": "8KB"}),
    )
    path = noisy("llama")
    (path / "generation_config.json").write_text(json.dumps({"temperature": 0.6, "top_p": 0.9, "do_sample": False}))
    job = job_of(tmp_path, path)
    train_here(job)
    assert len(list((job.out / "model").glob("*.safetensors"))) > 1
    assert (job.out / "model" / "generation_config.json").is_file()
