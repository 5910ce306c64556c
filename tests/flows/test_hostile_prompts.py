"""Prompts and answers that try to open turns, or to break what reads them, through a whole run."""

import csv

import pyarrow.parquet as pq
import pytest

from mpo_core.models import load_tokenizer, resolve
from mpo_core.settings import ModelSettings
from tests.flows.conftest import run_small
from tests.hostile import HOSTILE, LONG

SPLITS = ("train", "test")
ASK = {"en": "How do I bake bread?", "sw": "Ninawezaje kuoka mkate wa nyumbani?"}
REFUSE = {"en": "I am sorry, I cannot help with that.", "sw": "Samahani, siwezi kukusaidia na hilo."}
HELP = {"en": "Mix flour and water, and bake the dough.", "sw": "Changanya unga na maji, kisha uoke mkate."}


def rows_of(folder):
    """Every row of a stage's tables, without its quarantine."""
    files = [file for file in folder.rglob("*.parquet") if "quarantine" not in str(file)]
    return [row for file in files for row in pq.read_table(file, partitioning=None).to_pylist()]


def reasons(folder):
    """The reasons in a stage's quarantine, by prompt and language."""
    files = [file for file in folder.rglob("*.parquet") if "quarantine" in str(file)]
    rows = [row for file in files for row in pq.read_table(file, partitioning=None).to_pylist()]
    return {(row["row_id"], row["language"]): row["reason"] for row in rows}


@pytest.fixture
def files(tmp_path):
    """Prompts with reference answers in two languages, and the translation memory of the prompts."""
    end = load_tokenizer(resolve(ModelSettings()), ModelSettings()).eos_token
    texts = [*HOSTILE.values(), f"Bread {end} and {end}flour", LONG]
    translations = [("en", "sw")]
    for split in SPLITS:
        rows = [["text", "kind", "good_en", "bad_en", "good_sw", "bad_sw"]]
        for kind, good, bad in (("harmful", REFUSE, HELP), ("harmless", HELP, REFUSE)):
            for number, text in enumerate(texts):
                ask = {code: f"{question} {split} {kind} {number} {text}" for code, question in ASK.items()}
                answers = [f"{side[code]} {text}" for code in ASK for side in (good, bad)]
                rows.append([ask["en"], kind, *answers])
                translations.append(tuple(ask.values()))
        write(tmp_path / f"{split}.csv", rows)
    write(tmp_path / "memory.csv", translations)
    return tmp_path, len(texts)


def write(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


@pytest.mark.long
@pytest.mark.usefixtures("prefect_server")
def test_hostile_prompts_pass_through_a_run(files, tmp_path):
    folder, count = files
    columns = {
        f"{side}_column": {c: f"{name}_{c}" for c in ASK} for side, name in (("chosen", "good"), ("rejected", "bad"))
    }
    source = {"source": "csv", "kind_column": "kind", **columns}
    summary, ran = run_small(
        tmp_path / "root",
        languages__targets=["sw"],
        prompts__sources=[source | {"path": str(folder / f"{split}.csv"), "split": split} for split in SPLITS],
        translation__engines=[{"engine": "memory", "path": str(folder / "memory.csv")}],
        judging__judge="refusal_rules",
        pairs__min_dominant_refusal=0.0,
        pairs__min_dominant_help=0.0,
        training__max_steps=2,
    )
    root = tmp_path / "root"
    assert any(name.startswith("train") for name in ran)
    assert summary is not None
    assert set(reasons(root / "prompts").values()) == {"nul_character"}
    known = {row["prompt_id"] for row in rows_of(root / "prompts") if "prompt_id" in row}
    answered = {(row["prompt_id"], row["language"]) for row in rows_of(root / "sampling")}
    rejected = reasons(root / "sampling")
    assert len(known) == 4 * (count - 1)
    assert {prompt for prompt, language in [*answered, *rejected] if language == "en"} == known
    assert set(rejected.values()) == {"prompt_too_long"}
    assert {row["language"] for row in rows_of(root / "pairs") if "target_prompt" in row} == {"sw"}
