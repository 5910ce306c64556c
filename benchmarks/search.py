"""The settings of every method in deployments/profiles/compare.yaml: found here, on the validation split.

    python benchmarks/search.py --root artifacts --write

Each method gets the same number of candidates: the learning rates times the values of what it
is most sensitive to. The best has the highest `balanced` score (mpo_core/evaluation/methods.py):
safe in the targets, helpful in the targets, and English as it was. One seed, which the
comparison does not use.
"""

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import yaml

from flows.cli import quiet_surroundings

ROOT = Path(__file__).resolve().parent.parent
PROFILE = ROOT / "deployments" / "profiles" / "compare.yaml"
SEED = 1000
RATES = [1e-4, 1.7e-4, 3e-4]
GRIDS: dict[str, dict[str, list[Any]]] = {
    "mpo": {"learning_rate": RATES, "beta": [0.75, 1.0, 1.5]},
    "sft": {"learning_rate": [1e-5, 2e-5, 3e-5, 5e-5, 7e-5, 1e-4, 2e-4, 3e-4, 5e-4]},
    "dpo": {"learning_rate": RATES, "beta": [0.05, 0.1, 0.5]},
    "ipo": {"learning_rate": RATES, "beta": [0.1, 0.5, 1.0]},
    "rdpo": {"learning_rate": RATES, "label_smoothing": [0.1, 0.2, 0.3]},
    "cpo": {"learning_rate": RATES, "beta": [0.05, 0.1, 0.5]},
    "kto": {"learning_rate": RATES, "beta": [0.05, 0.1, 0.5]},
    "orpo": {"learning_rate": RATES, "beta": [0.1, 0.5, 1.0]},
    "r_dpo": {"learning_rate": RATES, "length_alpha": [0.005, 0.01, 0.05]},
    "simpo": {"learning_rate": RATES, "simpo_gamma": [0.3, 0.5, 1.0]},
}


def candidates() -> dict[str, dict[str, Any]]:
    """Every candidate by name, such as `dpo/learning_rate=3e-05,beta=0.1`."""
    found = {}
    for method, grid in GRIDS.items():
        for values in itertools.product(*grid.values()):
            changes = dict(zip(grid, values, strict=True))
            name = ",".join(f"{key}={value:g}" for key, value in changes.items())
            found[f"{method}/{name}"] = changes
    return found


def main() -> None:
    """Trains every candidate, prints a line each, best first, and writes the profile if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="artifacts")
    parser.add_argument("--methods", default=",".join(GRIDS))
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    quiet_surroundings()
    from flows.compare import compare_methods
    from mpo_core.evaluation import balanced
    from mpo_core.profiles import load_config, parse_config

    wanted = arguments.methods.split(",")
    asked = {name: changes for name, changes in candidates().items() if name.split("/")[0] in wanted}
    settings = ["evaluation.split=validation", "run.name=search", f"run.root={arguments.root}"]
    data = load_config(PROFILE, settings).model_dump(mode="json")
    data["compare"] = {"methods": asked, "seeds": [SEED], "flipped": [0.0]}
    summary = compare_methods(parse_config(data, where="benchmarks/search.py"))

    scored = []
    for name in asked:
        figures = {row.figure: row.mean for row in summary.methods if row.method == name}
        scored.append((balanced(figures), name, figures))
    scored.sort(key=lambda one: -one[0])
    best: dict[str, str] = {}
    for score, name, figures in scored:
        best.setdefault(name.split("/")[0], name)
        told = {key: round(figures[key], 4) for key in ("target_unsafe", "target_helped", "dominant_refused")}
        print(json.dumps({"score": round(score, 4), "name": name, **told}))
    if arguments.write:
        profile = PROFILE.read_text(encoding="utf-8")
        known = yaml.safe_load(profile)["compare"]
        known["methods"] |= {method: asked[best[method]] for method in GRIDS if method in best}
        known["methods"] = {method: known["methods"][method] for method in GRIDS if method in known["methods"]}
        written = yaml.safe_dump({"compare": known}, sort_keys=False)
        PROFILE.write_text(profile[: profile.index("compare:\n  methods:")] + written, encoding="utf-8")


if __name__ == "__main__":
    main()
