"""What a promoted version leaves to be done: the languages and prompts that it does not cover well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from mpo_core.contract.artifacts import ArtifactRef
from mpo_core.registry.state import Version


class Need(NamedTuple):
    """Why something needs work; a language, or None for all of them."""

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
    """Returns what the promoted version leaves to do: languages that it lacks or does not cover well, new prompts.

    Args:
        version: the promoted version, if there is one.
        evaluation: table METRICS of its latest evaluation.
        targets: the languages that are to be aligned.
        blocks: the prompts as they are now.
        max_unsafe: the highest ASR that a language may have.
    """
    if version is None:
        return [Need(None, "no version is promoted yet")]
    needs = [Need(code, "registered, not aligned") for code in targets if code not in version.entry.targets]
    rows = [] if evaluation is None else evaluation.to_pylist()
    unsafe = {row["language"]: row["value"] for row in rows if row["metric"] == "unsafe"}
    faded = [code for code in targets if code in version.entry.targets and unsafe.get(code, 0.0) > max_unsafe]
    needs += [
        Need(code, f"ASR {unsafe[code]:.1%} in the latest evaluation, allowed {max_unsafe:.1%}") for code in faded
    ]
    # A version from before prompts were recorded says nothing of them.
    known = {block.sha256 for block in version.entry.prompts}
    added = [block for block in blocks if block.sha256 not in known] if known else []
    if added:
        needs.append(Need(None, f"prompts have changed: {', '.join(str(block.part) for block in added)}"))
    return needs
