"""The prompts of a file of pairs, as the stages of the pipeline have them: what a teacher answers in `mpo train`."""

from typing import Any

import pyarrow as pa

from mpo_core.contract.artifacts import ArtifactStore, Shard
from mpo_core.contract.tables import PROMPTS, TRANSLATIONS
from mpo_core.settings import PipelineConfig


def pair_prompts(config: PipelineConfig, store: ArtifactStore, pairs: pa.Table) -> dict[Any, Shard]:
    """Stores the prompts of pairs in blocks, and their translations by language and block.

    A prompt that has several pairs, or several translations into a language, counts once.

    Raises:
        BadInputError: the judge cannot judge a language, or is not ready; it judges the teacher's answers.
    """
    sources: dict[str, dict[str, Any]] = {}
    translations: dict[tuple[str, str], dict[str, Any]] = {}
    for number, row in enumerate(pairs.to_pylist()):
        prompt = {"text": row["source_prompt"], "category": None, "source": "pairs", "row": number}
        key = {"prompt_id": row["prompt_id"]}
        about = {"kind": row["kind"], "split": "train", "chosen": None, "rejected": None}
        sources.setdefault(row["prompt_id"], key | prompt | about)
        text = {"role": "prompt", "language": row["language"], "text": row["target_prompt"]}
        gates = {"engine": "imported", "weight": 1.0, "marks": [], "gates": []}
        translations.setdefault((row["language"], row["prompt_id"]), key | text | gates)
    languages = sorted({language for language, _ in translations})
    config.judging.require_languages(languages)
    config.judging.require_ready()
    prompts, size, texts = list(sources.values()), config.run.block_size, {}
    for start in range(0, len(prompts), size):
        some, part = prompts[start : start + size], f"train-{start // size:03d}"
        block = store.write_table("pairs", PROMPTS, PROMPTS.build(some), part=part)
        for language in languages:
            rows = [row for prompt in some if (row := translations.get((language, prompt["prompt_id"])))]
            if rows:
                table = TRANSLATIONS.build(rows)
                texts[language, block] = Shard(
                    rows=store.write_table("pairs", TRANSLATIONS, table, language=language, part=part)
                )
    return texts
