"""What a seventh language costs after a finished run of six (English and five targets), on the embedded default.

    python benchmarks/language.py            # prints the table; a few minutes
    python benchmarks/language.py --write    # into docs/scale.md

One task at a time, so that seconds add up. The bound is 1.3 times a seventh of the cold data
stages, and the training and the evaluation, as a cold run of all seven languages has them.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from page import put

from flows.cli import quiet_surroundings

ROOT = Path(__file__).resolve().parent.parent
LATE = "sw"
EVALUATION = ("before", "after", "previous")


def config(root: Path, targets: list[str]) -> Any:
    """The demo on a root of its own."""
    from mpo_core.settings.profiles import load_config

    overrides = [f"run.root={root}", "run.workers=1", f"languages.targets=[{', '.join(targets)}]"]
    return load_config(ROOT / "deployments" / "profiles" / "demo.yaml", overrides)


def seconds(summary: Any) -> dict[str, float]:
    """Of what a run computed: data stages, training, evaluation."""
    seconds = {"data": 0.0, "training": 0.0, "evaluation": 0.0}
    for stage in summary.stages:
        if stage.state == "computed":
            evaluates = stage.stage == "evaluation" or stage.label.endswith(EVALUATION)
            part = "training" if stage.stage == "training" else "evaluation" if evaluates else "data"
            seconds[part] += stage.seconds
    return seconds


def main() -> None:
    """A cold run of seven; a run of six, the seventh registered, and the realignment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the table into docs/scale.md")
    arguments = parser.parse_args()
    quiet_surroundings()
    from flows.full_pipeline import full_pipeline
    from flows.languages import facts_of
    from flows.realign import realign
    from mpo_core import registry
    from mpo_core.contract.artifacts import ArtifactStore

    six = ["zh", "ja", "ko", "ar", "bn"]
    with tempfile.TemporaryDirectory() as scratch:
        cold, warm = Path(scratch) / "cold", Path(scratch) / "warm"
        whole = full_pipeline(config(cold, [*six, LATE]))
        full_pipeline(config(warm, six))
        registry.add_language(ArtifactStore(str(warm)), facts_of(LATE, {}), who="benchmark")
        begun = time.perf_counter()
        added = realign(config(warm, six)).summary
        wall = time.perf_counter() - begun
    all_seven, seventh = seconds(whole), seconds(added)
    bound = all_seven["data"] / 7 + all_seven["training"] + all_seven["evaluation"]
    rows = [
        ("cold, seven languages", all_seven, whole.seconds),
        ("the seventh added to six", seventh, wall),
    ]
    lines = [
        "| run | data, s | training, s | evaluation, s | in all, wall clock, s |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, parts, total in rows:
        lines.append(f"| {name} | {' | '.join(f'{value:.1f}' for value in parts.values())} | {total:.1f} |")
    summary = (
        f"The wall clock of the addition is {wall / bound:.2f} times a seventh of the cold data stages, plus training "
        f"and evaluation ({bound:.1f} s); 1.3 is allowed. It was {'promoted' if added.gate.promoted else 'refused'}."
    )
    block = "\n".join(lines) + f"\n\n{summary}"
    print(block)
    if arguments.write:
        put("scale.md", "language", "python benchmarks/language.py --write", block)


if __name__ == "__main__":
    main()
