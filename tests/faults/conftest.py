"""Small inputs of the user's, whole ones to start from."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from mpo_core import registry
from mpo_core.contract.artifacts import ArtifactStore
from tests.flows.conftest import small_settings
from tests.registered import register
from tests.tiny_models import tiny_model


def pair_rows(count=4, language="sw", kind="harmful"):
    """Rows of PAIRS out of the microworld."""
    from mpo_core import microworld
    from mpo_core.contract.tables import prompt_id, source_id

    rows = []
    for item in microworld.items("train", kind, limit=count):
        texts = {code: (item.prompt(code), item.refusal(code), item.help(code)) for code in ("en", language)}
        key = prompt_id("en", texts["en"][0])
        row = {
            "pair_id": f"{key}/{language}",
            "source_id": source_id(*texts["en"]),
            "prompt_id": key,
            "kind": kind,
            "split": "train",
            "source_language": "en",
            "language": language,
            "origin": "imported",
        }
        for side, code in (("source", "en"), ("target", language)):
            row |= {f"{side}_{n}": t for n, t in zip(("prompt", "chosen", "rejected"), texts[code], strict=True)}
        rows.append(row)
    return rows


@pytest.fixture
def write_pairs(tmp_path):
    """Writes pairs, changed by row number: `write_pairs({1: {"target_chosen": ""}})`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from mpo_core.contract.tables import PAIRS

    def write(changes=None, count=4):
        rows = pair_rows(count)
        for number, change in (changes or {}).items():
            rows[number] |= change
        path = tmp_path / "pairs.parquet"
        pq.write_table(pa.Table.from_pylist(rows, schema=PAIRS.schema), path)
        return path

    return write


@pytest.fixture
def profile(tmp_path, prompts_csv):
    """A valid profile whose prompts are a CSV file, and whose root is `root` in the test's folder."""
    source = {"source": "csv", "path": str(prompts_csv), "kind_column": "kind"}
    path = tmp_path / "profile.yaml"
    path.write_text(yaml.safe_dump(small_settings(tmp_path / "root") | {"prompts": {"sources": [source]}}))
    return path


@pytest.fixture
def model_copy(tmp_path):
    """A copy of the shipped model, to damage."""
    from mpo_core.microworld import checkpoint_dir

    return Path(shutil.copytree(checkpoint_dir(), tmp_path / "model"))


@pytest.fixture
def official(tmp_path):
    """Writes the official MPO JSON, one pair per language pair of texts given."""

    def write(items):
        path = tmp_path / "official.json"
        path.write_text(json.dumps(items, ensure_ascii=False), encoding="utf-8")
        return path

    return write


@pytest.fixture
def store(tmp_path):
    """Two versions, v1 promoted and then v2."""
    store = ArtifactStore(str(tmp_path / "root"))
    for name, targets in (("a", ["sw", "zh"]), ("b", ["zh"])):
        model = tiny_model(store, name)
        version = register(store, registry.Entry(run="demo", model=model, base="b", targets=targets))
        registry.promote(store, version.version, who="Ann", why="good")
    return store


def files(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in Path(root).rglob("*") if path.is_file()}
