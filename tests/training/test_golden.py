"""The official trainer's own numbers, step by step (see shared/data/golden/README.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mpo_core.models import load_model, load_tokenizer, model_digest
from mpo_core.settings import ModelSettings, TrainingSettings
from mpo_core.tables import PAIRS
from mpo_core.training import PairText, TrainingJob, gaps, source_texts, train

GOLDEN = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "golden"
pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden run at {GOLDEN}")
MODEL = ModelSettings(device="cpu")


def golden_pairs() -> pa.Table:
    rows: Any = json.loads((GOLDEN / "rows.json").read_text(encoding="utf-8"))
    return PAIRS.build(
        {
            "pair_id": f"row-{i}",
            "source_id": f"source-{i // 6}",  # six targets of one question follow each other
            "prompt_id": f"source-{i // 6}",
            "kind": "harmful",
            "split": "train",
            "source_language": "en",
            "language": ("zh", "ja", "ko", "ar", "bn", "sw")[i % 6],
            "source_prompt": row["source_conversations"][0]["value"],
            "source_chosen": row["source_chosen"]["value"],
            "source_rejected": row["source_rejected"]["value"],
            "target_prompt": row["target_conversations"][0]["value"],
            "target_chosen": row["target_chosen"]["value"],
            "target_rejected": row["target_rejected"]["value"],
            "origin": "imported",
        }
        for i, row in enumerate(rows)
    )


def test_sources_are_six_rows_each() -> None:
    rows = golden_pairs().to_pylist()
    for row in rows:
        first = next(other for other in rows if other["source_id"] == row["source_id"])
        assert all(row[key] == first[key] for key in ("source_prompt", "source_chosen", "source_rejected"))


def run(tmp_path: Path, **changes: Any) -> list[dict[str, Any]]:
    pairs = golden_pairs()
    pq.write_table(pairs, tmp_path / "pairs.parquet")
    model, tokenizer = load_model(GOLDEN / "model", MODEL), load_tokenizer(GOLDEN / "model", MODEL)
    references, aside = gaps(
        model,
        tokenizer,
        source_texts(pairs),
        cutoff=1024,
        system=None,
        pooling="mean",
        digest=model_digest(GOLDEN / "model", MODEL),
    )
    assert aside.num_rows == 0
    pq.write_table(references, tmp_path / "references.parquet")
    settings = TrainingSettings.model_validate(
        {
            "learning_rate": 5e-4,
            "schedule": "constant",
            "warmup": 0.0,
            "batch_size": 4,
            "gradient_accumulation": 1,
            "max_steps": 12,
            "order": "file",
            "anchor_gap": "dominant",
            "retention": {"pooling": "padded_mean"},
            "device": "cpu",
            "threads": 1,
        }
        | changes
    )
    job = TrainingJob(
        model_folder=GOLDEN / "model",
        pairs=tmp_path / "pairs.parquet",
        references=tmp_path / "references.parquet",
        model=MODEL,
        training=settings,
        out=tmp_path / "out",
        work=tmp_path / "work",
    )
    result = train(job)
    assert result.steps == 12
    history: list[dict[str, Any]] = json.loads(result.trainer_state.read_text())["log_history"]
    return [entry for entry in history if "loss" in entry]


def test_twelve_steps_of_the_official_trainer(tmp_path: Path) -> None:
    ours = run(tmp_path)
    theirs = json.loads((GOLDEN / "steps.json").read_text())["steps"]
    assert len(ours) == len(theirs) == 12
    assert ours[0]["loss/retention"] == 0.0
    for mine, official in zip(ours, theirs, strict=True):
        assert mine["loss"] == pytest.approx(official["loss"], abs=1e-5)
        assert mine["loss/gap"] == pytest.approx(official["L1"], abs=1e-5)
        assert mine["loss/retention"] == pytest.approx(official["L2"], abs=1e-5)
        assert mine["reward_gap/target"] == pytest.approx(official["mean_target_gap_policy"], abs=2e-5)
        assert mine["reward_gap/dominant"] == pytest.approx(official["mean_source_gap_reference"], abs=1e-6)
        assert mine["grad_norm"] == pytest.approx(official["grad_norm_before_clipping"], abs=1e-3)
        assert mine["learning_rate"] == official["learning_rate"]


def test_first_batch_of_the_reference() -> None:
    from mpo_core.training.encoding import EncodedText, encode_text
    from mpo_core.training.forward import scoring
    from mpo_core.training.layout import Item, pad
    from mpo_core.training.objective import mean_log_probability, reward_gap

    official = json.loads((GOLDEN / "first_batch.json").read_text())
    model, tokenizer = load_model(GOLDEN / "model", MODEL), load_tokenizer(GOLDEN / "model", MODEL)
    rows = golden_pairs().slice(0, 4).to_pylist()
    for side in ("source", "target"):
        items = []
        for row, sequences in zip(rows, official["sequences"], strict=True):
            text = PairText("x", "en", *(row[f"{side}_{part}"] for part in ("prompt", "chosen", "rejected")))
            ids = encode_text(tokenizer, text, cutoff=1024, system=None)
            assert isinstance(ids, EncodedText)
            assert ids.prompt + ids.chosen == sequences[f"{side}_chosen"]["input_ids"]
            assert ids.prompt + ids.rejected == sequences[f"{side}_rejected"]["input_ids"]
            items.append(Item(ids, scored=True, pooled=side == "source"))
        layout = pad(items, "padded_mean", tokenizer.pad_token_id)
        assert list(layout.inputs["input_ids"].shape) == official["batch"][f"{side}_shape"]
        with torch.no_grad(), scoring(model, packed=False):
            out = model(layout=layout)
        rewards = mean_log_probability(out.log_p, torch.tensor(layout.answers))
        expected = official["initial"]["policy"]
        assert reward_gap(rewards).tolist() == pytest.approx(expected[f"{side}_gap"], abs=1e-6)
        assert rewards[::2].tolist() == pytest.approx(expected[f"{side}_chosen_mean_logp"], abs=2e-6)
        if side == "source":
            for half, name in ((0, "chosen"), (1, "rejected")):
                states = torch.tensor(expected[f"source_{name}_pooled"])
                torch.testing.assert_close(out.pooled[half::2], states, atol=1e-6, rtol=0)
