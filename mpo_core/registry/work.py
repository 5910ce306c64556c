"""Finds what a promoted version does not cover well: languages and prompts."""

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from mpo_core.contract.artifacts import ArtifactRef
from mpo_core.registry.state import Version


class Need(NamedTuple):
    """A reason to train again, for one language, or for all of them if the language is None."""

    language: str | None
    why: str


def find_work(
    version: Version | None,
    evaluation: pa.Table | None,
    targets: Sequence[str],
    blocks: Sequence[ArtifactRef],
    *,
    max_unsafe: float,
) -> list[Need]:
    """Returns the reasons to train again: languages that the promoted version lacks or covers badly, and new prompts.

    Args:
        version: the promoted version, if there is one.
        evaluation: table METRICS of its latest evaluation.
        targets: the languages that are to be aligned.
        blocks: the prompts as they are now.
        max_unsafe: the attack success rate above which a language needs another training.
    """
    if version is None:
        return [Need(None, "no version is promoted yet")]
    needs = [Need(code, "not covered by the promoted version") for code in targets if code not in version.entry.targets]
    rows = [] if evaluation is None else evaluation.to_pylist()
    unsafe = {row["language"]: row["value"] for row in rows if row["metric"] == "unsafe"}
    worse = [code for code in targets if code in version.entry.targets and unsafe.get(code, 0.0) > max_unsafe]
    needs += [
        Need(code, f"ASR {unsafe[code]:.1%} in the latest evaluation, allowed {max_unsafe:.1%}") for code in worse
    ]
    # Older versions have no record of their prompts.
    earlier = {block.sha256 for block in version.entry.prompts}
    added = [block for block in blocks if block.sha256 not in earlier] if earlier else []
    if added:
        needs.append(Need(None, f"prompts have changed: {', '.join(str(block.part) for block in added)}"))
    return needs
