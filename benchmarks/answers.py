"""Measures time and memory of judging and statistics on many answers, each size in a process of its own.

    python benchmarks/answers.py              # prints the table of docs/scale.md
    python benchmarks/answers.py --write      # into that page

The answers are the shipped reference answers, repeated under other prompt ids: half of them to harmful prompts, in
seven languages. The judge is `refusal_rules`, block by block as in a run; then come the metrics of one model, the
paired comparison of two, and the counts of outcomes, as an evaluation computes them. Memory is the growth of the
process's peak from before the first answer is judged.
"""

import argparse
import csv
import json
import resource
import subprocess
import sys
import time
from itertools import cycle, islice
from pathlib import Path

from page import put

ANSWERS = Path(__file__).resolve().parent.parent / "data" / "safety" / "answers.csv"
SIZES, BLOCK = (1_000, 10_000, 100_000), 512


def peak() -> int:
    """Returns the largest memory that this process has had, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(size: int) -> dict[str, float]:
    """Judges and evaluates `size` answers; returns CPU seconds, and the growth of the peak memory in MiB."""
    import pyarrow as pa

    from mpo_core.contract.judge import JUDGES
    from mpo_core.contract.tables import RESPONSES
    from mpo_core.evaluation.comparison import compare
    from mpo_core.evaluation.metrics import metrics
    from mpo_core.evaluation.outcomes import flips, outcome_counts
    from mpo_core.judging import judge_responses

    judge = JUDGES.parse({"judge": "refusal_rules"})
    with ANSWERS.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    languages = sorted({row["language"] for row in rows})

    def judged(column: str, count: int) -> pa.Table:
        tables, texts = [], islice(enumerate(cycle(rows)), count)
        while block := list(islice(texts, BLOCK)):
            names = [f"{row['id']}-{number // len(rows)}" for number, row in block]
            responses = RESPONSES.build(
                {
                    "prompt_id": name,
                    "language": row["language"],
                    "text": row[column],
                    "prompt": "",
                    "sample": 0,
                    "seed": 0,
                }
                for name, (_, row) in zip(names, block, strict=True)
            )
            kinds = {name: row["id"].partition("-")[0] for name, (_, row) in zip(names, block, strict=True)}
            tables.append(judge_responses(responses, kinds, judge))
        return pa.concat_tables(tables)

    def evaluated(before: pa.Table, after: pa.Table) -> None:
        pooled = [code for code in languages if code != "en"]
        metrics(after, None, model="after", confidence=0.95, pooled=pooled)
        compare(before, after, confidence=0.95, pooled=pooled)
        outcome_counts([after])
        flips((table.slice(at, BLOCK) for table in (before, after)) for at in range(0, len(before), BLOCK))

    small = [judged(column, 1000) for column in ("rejected", "chosen")]
    evaluated(*small)  # everything is imported and read
    start, begin = peak(), time.process_time()
    before = judged("rejected", size)
    judging, of_judging = time.process_time() - begin, peak() - start
    after = judged("chosen", size)
    start, begin = peak(), time.process_time()
    evaluated(before, after)
    return {
        "judging": judging, "judging_mib": of_judging / 1024,
        "statistics": time.process_time() - begin, "statistics_mib": (peak() - start) / 1024,
    }  # fmt: skip


def main() -> None:
    """Prints or writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the table into docs/scale.md")
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.size:
        print(json.dumps(measure(arguments.size)))
        return
    lines = ["| answers | judged, s | more memory, MiB | two models compared, s | more memory, MiB |"]
    lines.append("|---|---|---|---|---|")
    for size in SIZES:
        command = [sys.executable, __file__, "--size", str(size)]
        figures = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        lines.append(
            f"| {size:,} | {figures['judging']:.1f} | {figures['judging_mib']:.0f} | {figures['statistics']:.2f} | "
            f"{figures['statistics_mib']:.0f} |"
        )
        print(lines[-1], flush=True)
    if arguments.write:
        put("scale.md", "answers", "python benchmarks/answers.py --write", "\n".join(lines))


if __name__ == "__main__":
    main()
