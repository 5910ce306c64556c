"""Edits of tiny model folders: what changes in them, what does not, and what is refused."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mpo_core import microworld
from mpo_core.contract.artifacts import file_digests
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.progress import ignore_progress
from mpo_core.editing import edit
from mpo_core.editing.bits import change_model
from mpo_core.editing.edit import EditedPrompts, edit_folder
from mpo_core.models import load_tokenizer
from mpo_core.models.chat import encode_prompt
from mpo_core.settings import EditSettings, ModelSettings
from tests.architectures import tiny

# Random weights know nothing of harm: more neurons are edited, and more strongly.
BOLD = EditSettings(max_change=9.0, min_z_score=1.0, min_effect=0.8, rank=4, ridge=0.01)


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(microworld.checkpoint_dir(), ModelSettings())


@pytest.fixture(scope="module")
def prompts():
    dominant, translated = [], []
    for kind in ("harmful", "harmless"):
        for number, item in enumerate(microworld.items("train", kind, limit=6)):
            row = {"prompt_id": f"{kind}-{number}", "kind": kind, "text": item.prompt("en")}
            dominant.append(row)
            translated += [
                {"prompt_id": row["prompt_id"], "role": "prompt", "language": code, "text": item.prompt(code)}
                for code in ("sw", "bn")
            ]
            translated.append({**translated[-1], "role": "chosen", "text": "an answer, which takes no part"})
    return EditedPrompts(dominant, translated)


def saved(folder, tokenizer, name="Llama", dtype=torch.float32, shards=None, **more):
    model = tiny(name, len(tokenizer), **more).to(dtype)
    model.save_pretrained(folder, **({} if shards is None else {"max_shard_size": shards}))
    tokenizer.save_pretrained(folder)
    return model.float()


def edited(folder, model, tokenizer, prompts, out, settings=BOLD):
    return edit_folder(
        folder, model, tokenizer, prompts, settings, out, system=None, progress=ignore_progress
    ).rows.to_pylist()


def weights_of(folder):
    return {name: value for path in sorted(folder.glob("*.safetensors")) for name, value in load_file(path).items()}


@pytest.mark.parametrize(
    ("dtype", "shards"), [(torch.float32, None), (torch.bfloat16, "40KB")], ids=["float32", "bfloat16 in shards"]
)
def test_only_the_selected_rows_change_and_undoing_gives_the_bytes_from_before(
    tmp_path, tokenizer, prompts, dtype, shards
):
    model = saved(tmp_path / "model", tokenizer, dtype=dtype, shards=shards)
    (tmp_path / "model" / "README.md").write_text("a card")
    rows = edited(tmp_path / "model", model, tokenizer, prompts, tmp_path / "new")
    before, after = weights_of(tmp_path / "model"), weights_of(tmp_path / "new")
    assert before.keys() == after.keys()
    changed = {
        name: (before[name] != after[name]).any(-1) for name in before if not torch.equal(before[name], after[name])
    }
    assert {name: int(of_rows.sum()) for name, of_rows in changed.items()} == {
        row["matrix"]: row["edited"] for row in rows if row["edited"]
    }
    assert 0 < sum(row["edited"] for row in rows) < sum(row["neurons"] for row in rows) == 4 * 48
    (edit,) = (tmp_path / "new" / "edits").iterdir()
    change_model(tmp_path / "new", edit, tmp_path / "old", undo=True)
    original = file_digests(tmp_path / "model")
    del original["README.md"]
    assert file_digests(tmp_path / "old") == original
    change_model(tmp_path / "old", edit, tmp_path / "again")
    assert file_digests(tmp_path / "again") == file_digests(tmp_path / "new")


def test_the_edited_matrix_is_that_of_numpy(tmp_path, tokenizer, prompts):
    """Every step anew: one prompt at a time, its input of the second layer, and the full solution by an inverse."""
    model = saved(tmp_path / "model", tokenizer)
    settings = BOLD.model_copy(update={"rank": 32, "harmless_weight": 10.0, "layers": [2]})
    (row, _) = edited(tmp_path / "model", model, tokenizer, prompts, tmp_path / "new", settings)
    mlp, states = model.model.layers[1].mlp, {}
    mlp.register_forward_pre_hook(lambda _, args: states.__setitem__("last", args[0][0, -1]))

    def state(text):
        with torch.no_grad():
            model(torch.tensor([encode_prompt(tokenizer, text)]))
        return states["last"].double().numpy()

    kind = {row["prompt_id"]: row["kind"] for row in prompts.dominant}
    own = {row["prompt_id"]: state(row["text"]) for row in prompts.dominant}
    mirrored = [(row["prompt_id"], state(row["text"])) for row in prompts.translated if row["role"] == "prompt"]
    low = np.stack([x for name, x in mirrored if kind[name] == "harmful"])
    english = np.stack([own[name] for name, _ in mirrored if kind[name] == "harmful"])
    harmful = np.concatenate([np.stack([x for name, x in own.items() if kind[name] == "harmful"]), low])
    harmless = np.stack([x for name, x in [*own.items(), *mirrored] if kind[name] == "harmless"])
    w = mlp.gate_proj.weight.detach().double().numpy().T
    a, b = harmful @ w, harmless @ w
    rise, pooled = a.mean(0) - b.mean(0), np.sqrt((17 * a.var(0, ddof=1) + 17 * b.var(0, ddof=1)) / 34)
    chosen = ((rise - rise.mean()) / rise.std(ddof=1) > 1.0) | (rise / pooled > 0.8)
    gram = low.T @ low / 12
    q = gram + 10.0 * harmless.T @ harmless / 18 + 0.01 * np.trace(gram) / 32 * np.eye(32)
    change = np.linalg.inv(q) @ low.T @ (english - low) @ w[:, chosen] / 12
    expected = w.copy()
    expected[:, chosen] += change
    got = weights_of(tmp_path / "new")[row["matrix"]].double().numpy().T
    np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-5)
    assert row["edited"] == chosen.sum() > 0
    assert row["change"] == pytest.approx(np.linalg.norm(change) / np.linalg.norm(w), rel=1e-3)


def test_a_wild_edit_is_refused_and_writes_nothing(tmp_path, tokenizer, prompts):
    model = saved(tmp_path / "model", tokenizer)
    settings = BOLD.model_copy(update={"max_change": 1e-3})
    with pytest.raises(BadInputError, match=r"edit\.max_change, model\.layers\.0\.mlp\.gate_proj\.weight") as error:
        edited(tmp_path / "model", model, tokenizer, prompts, tmp_path / "new", settings)
    assert "at most 0.001 is allowed" in error.value.what
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("Phi3", {}, "no gated MLPs"),
        ("Nemotron", {}, "no gated MLPs"),
        ("Llama", {"layers": [1, 3]}, "there is no layer 3; the model has 2"),
        ("Llama", {"min_z_score": 99.0, "min_effect": 99.0}, "no neuron reacts more"),
    ],
)
def test_what_cannot_be_edited_is_refused(tmp_path, tokenizer, prompts, name, settings, message):
    model = saved(tmp_path / "model", tokenizer, name)
    with pytest.raises(BadInputError, match=message):
        edited(tmp_path / "model", model, tokenizer, prompts, tmp_path / "new", EditSettings(**settings))
    assert not (tmp_path / "new").exists()


def test_states_that_are_not_finite_are_refused(tmp_path, tokenizer, prompts):
    model = saved(tmp_path / "model", tokenizer)
    with torch.no_grad():
        model.model.embed_tokens.weight[tokenizer(prompts.translated[0]["text"])["input_ids"][-1]] = torch.nan
    with pytest.raises(BadInputError, match=r"hidden states are NaN or infinite") as error:
        edited(tmp_path / "model", model, tokenizer, prompts, tmp_path / "new")
    assert error.value.where == "edit, model.layers.0.mlp"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_too_few_prompts_are_refused(tmp_path, tokenizer, prompts):
    model = saved(tmp_path / "model", tokenizer)
    with pytest.raises(BadInputError, match="at least 2 harmful prompts in target languages, and there are 0"):
        edited(tmp_path / "model", model, tokenizer, prompts._replace(translated=[]), tmp_path / "new")


def test_an_edit_of_another_model_or_applied_twice_is_refused(tmp_path, tokenizer, prompts):
    model = saved(tmp_path / "model", tokenizer)
    edited(tmp_path / "model", model, tokenizer, prompts, tmp_path / "new")
    (edit,) = (tmp_path / "new" / "edits").iterdir()
    saved(tmp_path / "other", tokenizer, intermediate_size=40)
    for folder, undo in (("new", False), ("model", True), ("other", False)):
        with pytest.raises(BadInputError, match="this edit"):
            change_model(tmp_path / folder, edit, tmp_path / "out", undo=undo)
    with pytest.raises(BadInputError, match="this is no file of an edit"):
        change_model(tmp_path / "model", tmp_path / "model" / "model.safetensors", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_prompt_that_cannot_be_encoded_is_rejected_with_its_translations(tmp_path, tokenizer, prompts, monkeypatch):
    model = saved(tmp_path / "model", tokenizer)
    broken = {prompts.dominant[0]["text"], *(row["text"] for row in prompts.translated[-3:-1])}
    whole = edit.encode_prompt

    def encode(tokenizer, text, **more):
        if text in broken:
            raise BadInputError("the chat template fails on this prompt", where="chat template", fix="Change it.")
        return whole(tokenizer, text, **more)

    monkeypatch.setattr(edit, "encode_prompt", encode)
    done = edit_folder(
        tmp_path / "model", model, tokenizer, prompts, BOLD, tmp_path / "new", system=None, progress=ignore_progress
    )
    assert [(row["row_id"], row["language"], row["reason"]) for row in done.rejected.to_pylist()] == [
        ("harmful-0", None, "not_encodable"),
        ("harmless-5/sw", "sw", "not_encodable"),
        ("harmless-5/bn", "bn", "not_encodable"),
    ]
    monkeypatch.undo()
    fewer = EditedPrompts(
        prompts.dominant[1:],
        [
            row
            for row in prompts.translated
            if row["prompt_id"] != "harmful-0" and (row["role"] != "prompt" or row["text"] not in broken)
        ],
    )
    expected = edited(tmp_path / "model", model, tokenizer, fewer, tmp_path / "fewer")
    assert done.rows.to_pylist() == expected
