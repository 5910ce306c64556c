"""Compares all methods over seeds, also with swapped answers, for the tables of docs/comparison.md.

    python benchmarks/methods.py --root artifacts --write

Runs the `compare` profile on the test split. Whatever the root's cache has is not computed again,
so a run that was stopped continues where it was.
"""

import argparse
import re
from pathlib import Path

from page import DOCS, put

from flows.cli import quiet_surroundings

ROOT = Path(__file__).resolve().parent.parent
# The page's colours, for a picture that stands alone on white or on black.
COLOURS = {"ink": "#6b7280", "muted": "#9ca3af", "line": "#c4c9d1", "before": "#b45309", "after": "#2563eb"}


def main() -> None:
    """Runs the comparison, prints its tables, and with `--write` writes them into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="artifacts")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--flipped", default="0,0.2,0.4")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    quiet_surroundings()
    from flows.compare import compare_methods
    from mpo_core.reporting import methods_markdown, picture
    from mpo_core.settings.profiles import load_config

    overrides = [f"run.root={arguments.root}", f"compare.seeds={list(range(arguments.seeds))}"]
    overrides.append(f"compare.flipped=[{arguments.flipped}]")
    summary = compare_methods(load_config(ROOT / "deployments" / "profiles" / "compare.yaml", overrides))
    tables = methods_markdown(summary)
    print(tables)
    if arguments.write:
        put("comparison.md", "comparison", "python benchmarks/methods.py --write", tables.rstrip())
        drawn = str(picture(summary)).replace(
            "<svg ", '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" ', 1
        )
        drawn = re.sub(r"var\(--(\w+)\)", lambda match: COLOURS.get(match[1], "none"), drawn)
        (DOCS / "comparison.svg").write_text(drawn + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
