"""Puts the sampled answers to each prompt in the order of their rewards under the frozen model, the likeliest first."""

from collections import defaultdict

import pyarrow as pa

from mpo_core.contract.tables import GAPS, RESPONSES
from mpo_core.pairs.gates import Row


def answer_pairs(responses: pa.Table) -> list[tuple[str, Row, Row]]:
    """Returns the answers with text two by two, as `GAPS` measures them: the key of their rewards, and both rows.

    An odd one out is paired with itself.
    """
    by_prompt: dict[str, list[Row]] = defaultdict(list)
    for row in responses.to_pylist():
        if row["text"].strip():
            by_prompt[row["prompt_id"]].append(row)
    twos = (
        (rows[at], rows[min(at + 1, len(rows) - 1)]) for rows in by_prompt.values() for at in range(0, len(rows), 2)
    )
    return [(f"{a['prompt_id']}/{a['sample']}/{b['sample']}", a, b) for a, b in twos]


def ranked(responses: pa.Table, rewards: pa.Table) -> pa.Table:
    """Renumbers the samples of each prompt by their rewards, the highest first; those without a reward come last."""
    reward_of: dict[tuple[str, int], float] = {}
    for row in GAPS.check(rewards).to_pylist():
        prompt_id, first, second = row["text_id"].rsplit("/", 2)
        reward_of[prompt_id, int(first)] = row["chosen_reward"]
        reward_of[prompt_id, int(second)] = row["rejected_reward"]
    by_prompt: dict[str, list[Row]] = defaultdict(list)
    for row in responses.to_pylist():
        by_prompt[row["prompt_id"]].append(row)

    def place(row: Row) -> tuple[float, int]:
        return -reward_of.get((row["prompt_id"], row["sample"]), float("-inf")), row["sample"]

    return RESPONSES.build(
        row | {"sample": number} for rows in by_prompt.values() for number, row in enumerate(sorted(rows, key=place))
    )
