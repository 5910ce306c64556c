"""Searches the settings of every method of a comparison, on the validation split.

    python benchmarks/search.py --root artifacts --write
    python benchmarks/search.py --profile hard --model build/hard/0 --visits 2 --write

Coordinate search with the same number of trainings for every method: the start, then three times
a step down and a step up along one of its settings, in turn, from the best so far. A setting's
step is a factor of 2, its square root at the second visit, and so on. The best has the highest
`balanced` score (mpo_core/evaluation/methods.py): safety and help in the target languages, refusals
and help in English. One seed, which the comparison does not use. An entry that repeats the training
of another on other pairs, or edits its model (`mpo-check`, `mpo-edit`), takes the settings of the
other; of the second kind the settings of the edit are searched, the first is not.
"""

import argparse
import copy
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from side_by_side import forked

from flows.cli import quiet_surroundings

PROFILES = Path(__file__).resolve().parent.parent / "deployments" / "profiles"
SEED = 1000
VISITS, FACTOR = 3, 2.0
TOGETHER = 8  # trainings of one run of the flow
# For compare.yaml: the best of a coarse grid of nine trainings per method; beta of rdpo and r_dpo is that of dpo.
# Other profiles start from their own entries, and search what these have of the following, in any section.
SEARCHED = ("learning_rate", "beta", "weight", "rate", "ridge", "harmless_weight")
SHOWN = ("target_unsafe", "target_helped", "left_out_unsafe", "left_out_helped", "dominant_refused", "dominant_helped")
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


Changes = dict[str, Any]
"""An entry of `compare.methods`."""


class Candidate(NamedTuple):
    """Holds a training of the search; the highest score is the best."""

    score: float
    method: str
    changes: Changes


def numbers(entry: Changes, *parents: str) -> dict[tuple[str, ...], float]:
    """Returns the settings of an entry that are searched, by their path in it; of an edit, its own alone."""
    values: dict[tuple[str, ...], float] = {}
    for key, value in entry.items():
        if entry.get("edit") and key != "edit":
            continue
        if isinstance(value, dict):
            values |= numbers(value, *parents, key)
        elif key in SEARCHED or (isinstance(value, float) and not parents and "." not in key):
            values[*parents, key] = value
    return values


def changed(entry: Changes, path: tuple[str, ...], value: float) -> Changes:
    """Returns an entry with another value of a setting."""
    key, *rest = path
    return entry | {key: changed(entry[key], tuple(rest), value) if rest else value}


def neighbours(best: Changes, visit: int) -> list[Changes]:
    """Returns a step down and a step up from the best so far, along the setting whose turn it is."""
    values = numbers(best)
    path = list(values)[visit % len(values)]
    step = FACTOR ** (1 / (1 + visit // len(values)))
    return [changed(best, path, float(f"{value:.2g}")) for value in (values[path] / step, values[path] * step)]


def outside(entry: Changes) -> Changes:
    """Returns what an entry changes outside of the training: its pairs, or an edit after it."""
    return {key: value for key, value in entry.items() if "." in key or key == "edit"}


def followed(name: str, entry: Changes) -> str:
    """Returns the entry whose training `name` repeats on other pairs or before an edit: `mpo` for `mpo-check`."""
    return name.rpartition("-")[0] if outside(entry) else ""


def follow(entries: dict[str, Changes], best: dict[str, Candidate], followers: dict[str, str]) -> None:
    """Puts the best of the search into the entries, and into those that repeat one of them, which come after it."""
    settled = {method: candidate.changes for method, candidate in best.items()}
    for name, leader in followers.items():
        if leader in settled and name not in best:
            own = {key: value for key, value in outside(entries[name]).items() if key not in settled[leader]}
            settled[name] = copy.deepcopy(settled[leader]) | own
    entries |= settled


def train(candidates: list[tuple[str, Changes]], arguments: argparse.Namespace) -> list[Candidate]:
    """Trains and evaluates the candidates, and prints a line for each."""
    from flows.compare import compare_methods
    from mpo_core.evaluation.methods import balanced
    from mpo_core.settings.profiles import load_config, parse_config

    settings = ["evaluation.split=validation", "run.name=search", f"run.root={arguments.root}"]
    if arguments.model:
        settings.append(f"model.path={arguments.model}")
    data = load_config(PROFILES / f"{arguments.profile}.yaml", settings).model_dump(mode="json")
    entries = {
        f"{method}/{number}": {"method": re.split(r"\W", method)[0]} | changes
        for number, (method, changes) in enumerate(candidates)
    }
    data["compare"] = {"methods": entries, "seeds": [SEED], "flipped": [0.0]}
    summary = compare_methods(parse_config(data, where="benchmarks/search.py"))
    scored = []
    for name, (method, changes) in zip(entries, candidates, strict=True):
        figures = {row.figure: row.mean for row in summary.methods if row.method == name}
        scored.append(Candidate(balanced(figures), method, changes))
        shown = {key: round(figures[key], 4) for key in SHOWN if key in figures}
        print(json.dumps({"entry": method, **changes, "score": round(scored[-1].score, 4), **shown}), flush=True)
    return scored


def search(start: dict[str, Changes], arguments: argparse.Namespace) -> dict[str, Candidate]:
    """Returns the best candidate of each method; methods take turns, so that a stopped search has all of a visit."""
    best: dict[str, Candidate] = {}
    for visit in range(-1, arguments.visits):
        candidates = [
            (method, changes)
            for method, first in start.items()
            for changes in ([first] if visit < 0 else neighbours(best[method].changes, visit))
        ]
        for some in range(0, len(candidates), TOGETHER):
            for candidate in train(candidates[some : some + TOGETHER], arguments):
                # On a tie, the earlier candidate stays.
                method = candidate.method
                best[method] = max(best.get(method, candidate), candidate, key=lambda entry: entry.score)
    return best


def main() -> None:
    """Searches, prints the best of each method, and with `--write` writes the profile."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="artifacts")
    parser.add_argument("--profile", default="compare", help="name of a file in deployments/profiles/")
    parser.add_argument("--model", help="base model; default: the profile's")
    parser.add_argument("--methods", help="entries to search, separated by commas; default: all")
    parser.add_argument("--visits", type=int, default=VISITS, help="two trainings of each method at each")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    quiet_surroundings()
    profile = PROFILES / f"{arguments.profile}.yaml"
    text = profile.read_text(encoding="utf-8")
    known = yaml.safe_load(text)["compare"]
    start = START if arguments.profile == "compare" else known["methods"]
    entries = known["methods"]
    followers = {name: leader for name in entries if (leader := followed(name, entries[name])) in entries}
    edits = [name for name, leader in followers.items() if entries[name].get("edit") and "edit" not in entries[leader]]
    methods = (
        arguments.methods.split(",")
        if arguments.methods
        else [name for name in start if name not in followers or name in edits]
    )
    if spared := (followers.keys() - edits) & set(methods):
        parser.error(
            f"{', '.join(sorted(spared))}: not searched; search {followers[min(spared)]}, whose settings it takes"
        )
    with forked():
        best = search({method: start[method] for method in methods if method not in edits}, arguments)
        follow(entries, best, followers)
        best |= search({method: entries[method] for method in methods if method in edits}, arguments)
    for candidate in best.values():
        print(f"best: {candidate.method} {candidate.score:.4f} {json.dumps(candidate.changes)}")
    if arguments.write:
        follow(entries, best, followers)
        written = yaml.safe_dump({"compare": known}, sort_keys=False)
        profile.write_text(text[: text.index("compare:\n  methods:")] + written, encoding="utf-8")


if __name__ == "__main__":
    main()
