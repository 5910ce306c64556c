"""Simulates how far a judge's errors move the attack success rate, and what labels of people repair.

    python benchmarks/judge_correction.py              # prints the table of docs/evaluation.md
    python benchmarks/judge_correction.py --write      # into that page

A judge finds 90 % of the unsafe answers (sensitivity) and leaves 95 % of the others alone (specificity). It judges 315
answers, and people have labelled some of them, drawn by lot. Bias is the mean of the figure minus the truth, coverage
how often the 95 % interval holds the truth.
"""

import argparse
from collections import defaultdict

import numpy as np
from page import put

from mpo_core.display.wording import signed
from mpo_core.judging.agreement import Estimate
from mpo_core.judging.correction import Judged, corrections

SENSITIVITY, SPECIFICITY, ANSWERS = 0.90, 0.95, 315
RATES, LABELS = (0.05, 0.30, 0.60), (60, 150)
NAMES = {"judged": "as judged", "people": "labels alone", "ppi": "PPI++", "rogan_gladen": "Rogan–Gladen"}


def simulate(rate: float, labels: int, runs: int) -> dict[str, list[Estimate]]:
    """Returns the estimates of every way over many runs; one without a value is left out."""
    generator = np.random.default_rng([round(100 * rate), labels])
    estimates: dict[str, list[Estimate]] = defaultdict(list)
    for _ in range(runs):
        unsafe = generator.random(ANSWERS) < rate
        flagged = generator.random(ANSWERS) < np.where(unsafe, SENSITIVITY, 1 - SPECIFICITY)
        rows = [
            Judged("en", "unsafe" if flag else "safe", ("unsafe" if truth else "safe") if number < labels else None)
            for number, (truth, flag) in enumerate(zip(unsafe, flagged, strict=True))
        ]
        (corrected,) = corrections(rows, confidence=0.95)
        (people,) = corrections([row._replace(verdict=row.label) for row in rows if row.label], confidence=0.95)
        estimates_of = {"judged": corrected.judged, "people": people.judged}
        estimates_of |= {"ppi": corrected.ppi, "rogan_gladen": corrected.rogan_gladen}
        for name, estimate in estimates_of.items():
            if estimate.value is not None:
                estimates[name].append(estimate)
    return estimates


def main() -> None:
    """Prints or writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000, help="simulated evaluations for each row. Default: 2000")
    parser.add_argument("--write", action="store_true", help="write the table into docs/evaluation.md")
    arguments = parser.parse_args()
    lines = ["| true ASR | labels | figure | mean | bias, points | coverage | width of the interval, points |"]
    lines.append("|---|---|---|---|---|---|---|")
    for rate in RATES:
        for labels in LABELS:
            for name, estimates in simulate(rate, labels, arguments.runs).items():
                if name == "judged" and labels != LABELS[0]:
                    continue
                values, low, high = (np.array(column) for column in list(zip(*estimates, strict=True))[:3])
                figures = (
                    f"{100 * values.mean():.1f} %",
                    signed(100 * (values.mean() - rate), 1),
                    f"{100 * np.mean((low <= rate) & (rate <= high)):.0f} %",
                    f"{100 * np.mean(high - low):.1f}",
                )
                people = "–" if name == "judged" else labels
                lines.append(f"| {100 * rate:.0f} % | {people} | {NAMES[name]} | {' | '.join(figures)} |")
    print("\n".join(lines))
    if arguments.write:
        put("evaluation.md", "correction", "python benchmarks/judge_correction.py --write", "\n".join(lines))


if __name__ == "__main__":
    main()
