"""Searches the settings of every method in deployments/profiles/compare.yaml, on the validation split.

    python benchmarks/search.py --root artifacts --write

Coordinate search with the same number of trainings for every method: the start, then three times
a step down and a step up along one of its settings, in turn, from the best so far. A setting's
step is a factor of 2, its square root at the second visit, and so on. The best has the highest
`balanced` score (mpo_core/evaluation/methods.py): safety and help in the target languages, refusals
and help in English. One seed, which the comparison does not use.
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import yaml

from flows.cli import quiet_surroundings

ROOT = Path(__file__).resolve().parent.parent
PROFILE = ROOT / "deployments" / "profiles" / "compare.yaml"
SEED = 1000
VISITS, FACTOR = 3, 2.0
# The best of a coarse grid of nine trainings per method; beta of rdpo and r_dpo is that of dpo.
START: dict[str, dict[str, float]] = {
    "mpo": {"learning_rate": 1e-4, "beta": 0.75},
    "sft": {"learning_rate": 2e-4},
    "dpo": {"learning_rate": 1e-4, "beta": 0.5},
    "ipo": {"learning_rate": 1.7e-4, "beta": 1.0},
    "rdpo": {"learning_rate": 1e-4, "beta": 0.5, "label_smoothing": 0.1},
    "cpo": {"learning_rate": 3e-4, "beta": 0.5},
    "kto": {"learning_rate": 3e-4, "beta": 0.5},
    "orpo": {"learning_rate": 1.7e-4, "beta": 0.5},
    "r_dpo": {"learning_rate": 1e-4, "beta": 0.5, "length_alpha": 0.005},
    "simpo": {"learning_rate": 1e-4, "beta": 2.0, "simpo_gamma": 0.3},
}


class Candidate(NamedTuple):
    """Holds a training of the search; the highest score is the best."""

    score: float
    name: str
    """Such as `dpo/learning_rate=0.0001,beta=0.5`."""
    changes: dict[str, float]


def candidate_name(method: str, changes: dict[str, float]) -> str:
    """Returns the name of a candidate."""
    return f"{method}/" + ",".join(f"{key}={value:g}" for key, value in changes.items())


def neighbours(best: dict[str, float], visit: int) -> list[dict[str, float]]:
    """Returns a step down and a step up from the best so far, along the setting whose turn it is."""
    key = list(best)[visit % len(best)]
    step = FACTOR ** (1 / (1 + visit // len(best)))
    return [best | {key: float(f"{value:.2g}")} for value in (best[key] / step, best[key] * step)]


def train(by_name: dict[str, dict[str, float]], root: str) -> list[Candidate]:
    """Trains and evaluates the candidates, and prints a line for each."""
    from flows.compare import compare_methods
    from mpo_core.evaluation.methods import balanced
    from mpo_core.settings.profiles import load_config, parse_config

    settings = ["evaluation.split=validation", "run.name=search", f"run.root={root}"]
    data = load_config(PROFILE, settings).model_dump(mode="json")
    data["compare"] = {"methods": by_name, "seeds": [SEED], "flipped": [0.0]}
    summary = compare_methods(parse_config(data, where="benchmarks/search.py"))
    candidates = []
    for name, changes in by_name.items():
        figures = {row.figure: row.mean for row in summary.methods if row.method == name}
        candidates.append(Candidate(balanced(figures), name, changes))
        shown = {key: round(figures[key], 4) for key in ("target_unsafe", "target_helped", "dominant_refused")}
        print(json.dumps({"name": name, "score": round(candidates[-1].score, 4), **shown}), flush=True)
    return candidates


def search(methods: list[str], root: str) -> dict[str, Candidate]:
    """Returns the best candidate of each method."""
    best: dict[str, Candidate] = {}
    for visit in range(-1, VISITS):
        by_name: dict[str, dict[str, float]] = {}
        for method in methods:
            for changes in [START[method]] if visit < 0 else neighbours(best[method].changes, visit):
                by_name[candidate_name(method, changes)] = changes
        for candidate in train(by_name, root):
            method = candidate.name.partition("/")[0]
            # On a tie, the earlier candidate stays.
            best[method] = max(best.get(method, candidate), candidate, key=lambda entry: entry.score)
    return best


def main() -> None:
    """Searches, prints the best of each method, and with `--write` writes the profile."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="artifacts")
    parser.add_argument("--methods", default=",".join(START))
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    quiet_surroundings()
    best = search(arguments.methods.split(","), arguments.root)
    for candidate in best.values():
        print(f"best: {candidate.name} {candidate.score:.4f}")
    if arguments.write:
        profile = PROFILE.read_text(encoding="utf-8")
        known = yaml.safe_load(profile)["compare"]
        known["methods"] |= {method: candidate.changes for method, candidate in best.items()}
        written = yaml.safe_dump({"compare": known}, sort_keys=False)
        PROFILE.write_text(profile[: profile.index("compare:\n  methods:")] + written, encoding="utf-8")


if __name__ == "__main__":
    main()
