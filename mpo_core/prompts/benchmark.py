"""Reads the prompts of a benchmark in one language."""

import hashlib
from typing import Any

import pyarrow as pa

from mpo_core.contract.benchmark import Benchmark
from mpo_core.contract.tables import PROMPTS, QUARANTINE, prompt_id
from mpo_core.prompts.load import fingerprint, load_prompts
from mpo_core.settings import PromptSettings


def benchmark_fingerprint(benchmark: Benchmark, language: str) -> list[str]:
    """Returns the part of a cache key beyond a benchmark's settings: digests of the prompts and files that it reads.

    Raises:
        BadInputError: a file is missing or cannot be read.
    """
    texts = hashlib.sha256(repr(benchmark.prompts(language)).encode()).hexdigest()
    return [texts, *(digest for settings in _settings(benchmark, language) for digest in fingerprint(settings))]


def benchmark_prompts(benchmark: Benchmark, language: str) -> tuple[pa.Table, pa.Table]:
    """Reads the prompts of a benchmark in one language.

    A prompt's id depends on the benchmark and on its place there: it is the same in every language where the
    benchmark's languages say the same. Both tables are empty where the benchmark lacks the language.

    Raises:
        BadInputError: a source is missing, malformed or empty, or lacks a column.
    """
    rows: list[dict[str, Any]] = []
    blank = []
    for number, prompt in enumerate(benchmark.prompts(language)):
        if prompt.text.strip():
            rows.append({**prompt._asdict(), "source": benchmark.benchmark, "row": number, "split": "test"})
        else:
            row_id = f"{benchmark.benchmark}/{prompt.id}"
            blank.append({"row_id": row_id, "language": language, "reason": "empty_text", "detail": "no text"})
    rejected = [QUARANTINE.build(blank)]
    for number, settings in enumerate(_settings(benchmark, language)):
        loaded = load_prompts(settings, dominant=language, seed=0)
        rows += [{**row, "id": f"{number}/{row['row']}"} for row in loaded.prompts.to_pylist()]
        rejected.append(loaded.quarantine)
    place = "" if benchmark.parallel else f" {language}"
    for row in rows:
        row["prompt_id"] = prompt_id(f"benchmark {benchmark.benchmark}{place}", row.pop("id"))
    if benchmark.limit is not None:
        shuffled = sorted(rows, key=lambda row: hashlib.sha256(row["prompt_id"].encode()).digest())
        sampled_ids = {row["prompt_id"] for row in shuffled[: benchmark.limit]}
        rows = [row for row in rows if row["prompt_id"] in sampled_ids]
    return PROMPTS.build(rows), pa.concat_tables(rejected)


def _settings(benchmark: Benchmark, language: str) -> list[PromptSettings]:
    """Returns settings for each of the benchmark's sources alone, since a prompt's id depends on its row there."""
    return [PromptSettings.model_validate({"sources": [source]}) for source in benchmark.sources(language)]
