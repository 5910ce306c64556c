"""Trains MPO on pairs of the three strategies over seeds, for the table of docs/comparison.md.

    python benchmarks/strategies.py --root artifacts --write

All get the same prompts and sampled answers at temperature 1, four to each prompt: `translated` uses those in English
alone. `sampled` pairs only prompts to which a language got both a good and a bad answer, so it is measured with 16
answers too, and then with as many harmful pairs as harmless ones; over three seeds, since this takes four times as
long. Whatever the root's cache has is not computed again, so a run that was stopped continues where it was. Test
split; each seed samples other prompts, answers and order.
"""

import argparse

from page import put
from side_by_side import compared, header, line

from flows.cli import quiet_surroundings

FEW, MANY, SEEDS_OF_MANY = 4, 16, 3
WAYS = {
    "`translated`": ("translated", FEW, []),
    "`sampled`": ("sampled", FEW, []),
    "`mixed`": ("mixed", FEW, []),
    "`sampled`, 16 answers": ("sampled", MANY, []),
    "`sampled`, 16 answers, half harmless": ("sampled", MANY, ["pairs.harmless_share=0.5"]),
}
"""Strategy, number of answers to each prompt, and further settings, by the name of the row."""


def main() -> None:
    """Runs the strategies, prints their table, and with `--write` writes it into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="artifacts")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    quiet_surroundings()
    table = header("strategy")
    for number, (title, (strategy, answers, further)) in enumerate(WAYS.items()):
        changes = [f"pairs.strategy={strategy}", f"sampling.n={answers}", "sampling.temperature=1", *further]
        seeds = arguments.seeds if answers < MANY else min(arguments.seeds, SEEDS_OF_MANY)
        summary = compared(f"strategy-{number}-{strategy}", arguments.root, seeds, changes)
        table += [] if number else [line("base model", summary, method="base")]
        table.append(line(title, summary))
        print("\n".join(table), flush=True)
    if arguments.write:
        put("comparison.md", "strategies", "python benchmarks/strategies.py --write", "\n".join(table))


if __name__ == "__main__":
    main()
