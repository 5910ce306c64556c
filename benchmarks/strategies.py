"""Trains MPO on pairs of the three strategies over seeds, for the table of docs/comparison.md.

    python benchmarks/strategies.py --root artifacts --write

All three get the same prompts and the same drawn answers, four to each prompt at temperature 1: `translated` uses
those in English alone. Whatever the root's cache has is not computed again, so a run that was stopped continues where
it was. Test split; each seed draws other prompts, answers and order.
"""

import argparse

from page import put
from side_by_side import compared, header, line

from flows.cli import quiet_surroundings

STRATEGIES = ("translated", "sampled", "mixed")
DRAWS = ["sampling.n=4", "sampling.temperature=1"]


def main() -> None:
    """Runs the strategies, prints their table, and with `--write` writes it into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="artifacts")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    quiet_surroundings()
    table = header("strategy")
    for strategy in STRATEGIES:
        changes = [f"pairs.strategy={strategy}", *DRAWS]
        summary = compared(f"strategy-{strategy}", arguments.root, arguments.seeds, changes)
        table += [] if len(table) > 2 else [line("base model", summary, method="base")]
        table.append(line(f"`{strategy}`", summary))
        print("\n".join(table), flush=True)
    if arguments.write:
        put("comparison.md", "strategies", "python benchmarks/strategies.py --write", "\n".join(table))


if __name__ == "__main__":
    main()
