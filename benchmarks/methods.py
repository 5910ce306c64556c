"""Compares all methods over base models and seeds, also on bad training pairs, for the tables of docs/comparison.md.

    python benchmarks/methods.py --write comparison
    python benchmarks/methods.py --methods mpo,epsilon_mpo --conditions swapped20,swapped40 --write swaps-and-epsilon
    python benchmarks/methods.py --profile hard --models build/hard/0,build/hard/1,build/hard/2 --table

On the test split. The figures go into ROOT/methods-PROFILE.jsonl after every few trainings; a run that was stopped
continues where it was. `--table` trains nothing, and shows what is there; a row says how many trainings are behind it.
Trainings of other settings than the profile's present ones do not count. `--write` also writes each condition
of the harder world into a block of its own, and the figures of each training into docs/comparison-hard.jsonl, which
every later run reads, too.
"""

import argparse
import contextlib
import itertools
import json
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from page import DOCS, block_of, put
from side_by_side import forked

from flows.cli import quiet_surroundings

ROOT = Path(__file__).resolve().parent.parent
CONDITIONS = {
    "clean": [],
    "swapped20": ["compare.flipped=[0.2]"],
    "swapped40": ["compare.flipped=[0.4]"],
    "mistranslated20": ["translation.engines.0.noise={share: 0.2, kinds: [wrong_sense]}"],
}
"""Settings to change, by condition; the last one is for the harder microworld alone."""
TITLES = {
    "clean": "clean",
    "swapped20": "20 % swapped",
    "swapped40": "40 % swapped",
    "mistranslated20": "20 % mistranslated",
}
PAGES = {
    "swe": ("mpo", "mpo-edit", "sft", "sft-edit", "edit", "mpo-check", "mpo-edit-check"),
    "mlc": ("mpo", "mpo-consistency"),
    "msd": (
        *("mpo", "mpo-distillation", "sft", "sft-distillation", "orpo", "orpo-distillation", "distillation"),
        *("mpo-check", "mpo-distillation-check", "orpo-distillation-check"),
    ),
    "weighting": ("mpo", "mpo-barfi", "mpo-barfi-rows", "mpo-group_dro"),
    "epsilon_mpo": ("mpo", "mpo-check", "epsilon_mpo", "epsilon_mpo-check"),
    "balanced_dpo": ("dpo", "balanced_dpo"),
}
"""Rows of the harder world that a page of docs/methods repeats, by page; a row that is not there is left out."""
TOGETHER = 4  # trainings of one run of the flow, which takes 4 seconds besides
MARKS = {"clean": "o", "swapped20": "^", "swapped40": "s", "mistranslated20": "D"}
# The page's colours, for a picture that stands alone on white or on black.
COLOURS = {"ink": "#6b7280", "muted": "#9ca3af", "line": "#c4c9d1", "before": "#b45309", "after": "#2563eb"}


class Cell(NamedTuple):
    """One training."""

    condition: str
    model: str
    seed: int
    method: str


class Results:
    """The figures of the trainings, by the settings that they had."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._root, self._profile = arguments.root, ROOT / "deployments" / "profiles" / f"{arguments.profile}.yaml"
        self._path = Path(arguments.root) / f"methods-{arguments.profile}.jsonl"
        self._published = DOCS / f"comparison-{arguments.profile}.jsonl"
        self._figures = {
            entry["key"]: entry
            for path in (self._published, self._path)
            if path.exists()
            for entry in map(json.loads, path.read_text(encoding="utf-8").splitlines())
        }
        self._digests: dict[str, str] = {}

    def config(self, cell: Cell, methods: Sequence[str] = ()) -> Any:
        """Returns the settings of one training, or of several methods in its place."""
        from flows.commands.shared import with_methods
        from mpo_core.settings.profiles import load_config, parse_config

        own = [f"run.root={self._root}", "run.name=methods", f"compare.models={json.dumps([cell.model])}"]
        own.append(f"compare.seeds=[{cell.seed}]")
        config = load_config(self._profile, [*own, *CONDITIONS[cell.condition]])
        return parse_config(with_methods(config, list(methods) or [cell.method]), where=cell.method)

    def entry(self, cell: Cell) -> dict[str, Any] | None:
        """Returns the figures of a training and of its base model; None if there are none yet."""
        return self._figures.get(self._key(cell))

    def train(self, cells: list[Cell]) -> None:
        """Trains several methods in one condition, from one base model and seed, and appends their figures."""
        from flows.compare import compare_methods
        from mpo_core.evaluation.methods import BASE

        figures: dict[str, dict[str, float]] = {}
        for row in compare_methods(self.config(cells[0], [cell.method for cell in cells])).runs:
            figures.setdefault(row.method, {})[row.figure] = row.value
        for cell in cells:
            own = {"figures": figures[cell.method], BASE: figures[BASE]}
            entry = {"key": self._key(cell), **cell._asdict(), **own}
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
            self._figures[entry["key"]] = entry

    def publish(self, cells: list[Cell]) -> None:
        """Writes the figures of these trainings into docs/, beside those that are there."""
        lines = self._published.read_text(encoding="utf-8").splitlines() if self._published.exists() else []
        published = {Cell(*(entry[name] for name in Cell._fields)): entry for entry in map(json.loads, lines)}
        published |= {cell: entry for cell in cells if (entry := self.entry(cell))}  # instead of one of older settings
        text = "".join(f"{json.dumps(round_fractions(entry))}\n" for entry in published.values())
        self._published.write_text(text, encoding="utf-8")

    def summary(self, cells: list[Cell], condition: str) -> Any:
        """Returns the means over the trainings of one condition that are there; None if there are none."""
        from mpo_core.contract.tables import METHOD_RUNS
        from mpo_core.evaluation.methods import BASE, over_runs
        from mpo_core.reporting import MethodsSummary

        done = [(cell, entry) for cell in cells if cell.condition == condition and (entry := self.entry(cell))]
        if not done:
            return None
        base = {(cell.model, cell.seed): entry[BASE] for cell, entry in done}
        rows = [
            {"model": model, "method": method, "flipped": 0.0, "seed": seed, "figure": figure, "value": value}
            for (model, seed, method), figures in [
                *(((model, seed, BASE), figures) for (model, seed), figures in base.items()),
                *(((cell.model, cell.seed, cell.method), entry["figures"]) for cell, entry in done),
            ]
            for figure, value in figures.items()
        ]
        config, now = self.config(done[0][0]), datetime.now(UTC)
        return MethodsSummary(
            run="methods",
            started=now,
            finished=now,
            base_model=config.model.path,
            base_digest="",
            dominant=config.languages.dominant,
            targets=config.languages.targets,
            split=config.evaluation.split,
            seeds=sorted({cell.seed for cell, _ in done}),
            models=sorted({cell.model for cell, _ in done}),
            methods=over_runs(pa.Table.from_pylist(rows, METHOD_RUNS.schema), 0.95).to_pylist(),
            runs=[],
            config=config.model_dump(mode="json"),
            packages={},
        )

    def _key(self, cell: Cell) -> str:
        from tasks.model import find_model

        if cell.model not in self._digests:
            model = self.config(cell).model.model_copy(update={"path": cell.model})
            self._digests[cell.model] = find_model(model).sha256
        return f"{self.config(cell).key()}-{self._digests[cell.model]}"


def round_fractions(value: Any) -> Any:
    """Returns a JSON value with all fractions rounded to six decimal places."""
    if isinstance(value, dict):
        return {key: round_fractions(item) for key, item in value.items()}
    return round(value, 6) if isinstance(value, float) else value


def plan(arguments: argparse.Namespace) -> Iterator[Cell]:
    """Returns the trainings, the most informative first: conditions in turn, each base model with its first seeds."""
    from mpo_core.settings.profiles import load_config

    config = load_config(ROOT / "deployments" / "profiles" / f"{arguments.profile}.yaml")
    models = arguments.models.split(",") if arguments.models else [config.model.path]
    for condition in arguments.conditions.split(","):
        for seed in range(arguments.seeds):
            for model in models:
                for method in arguments.methods.split(",") if arguments.methods else config.compare.methods:
                    yield Cell(condition, model, seed, method)


def draw(summaries: dict[str, Any]) -> str:
    """Draws a row for each method, with a mark for each condition, which differ in shape."""
    from mpo_core.display.svg import AFTER, BEFORE, INK, MUTED, PAPER, figure, to_svg
    from mpo_core.reporting.methods import PANELS, frame

    names = list(dict.fromkeys(name for summary in summaries.values() for name in summary.names))
    panels = next(iter(summaries.values())).measured(PANELS)
    chart, axes = figure(70 + 27 * len(names), columns=len(panels), width=200 + 130 * len(panels))
    for ax, panel in zip(axes, panels, strict=True):
        for number, (condition, summary) in enumerate(summaries.items()):
            for place, name in enumerate(names):
                row = summary.row(name, 0.0, panel.figure)
                if row is None or (name == "base" and number):
                    continue
                colour = BEFORE if name == "base" else MUTED if number else AFTER
                bar = None if number or row.low is None else [[row.mean - row.low], [row.high - row.mean]]
                style = {"color": colour, "markersize": 5 if number else 6.5, "zorder": 3 - number / 10}
                style["markerfacecolor"] = PAPER if name == "base" or number else colour
                ax.errorbar(row.mean, place, xerr=bar, fmt=MARKS[condition], elinewidth=0.8, clip_on=False, **style)
        frame(ax, panel, names if ax is axes[0] else [""] * len(names))
    handles = [
        axes[0].plot([], [], MARKS[name], color=MUTED if number else AFTER, markerfacecolor=PAPER if number else AFTER)[
            0
        ]
        for number, name in enumerate(summaries)
    ]
    chart.legend(
        handles,
        [TITLES[name] for name in summaries],
        loc="outside lower center",
        ncols=4,
        frameon=False,
        labelcolor=INK,
    )
    drawn = str(
        to_svg(chart, name="methods", description="Figures of each method, by condition; the tables have them.")
    )
    drawn = drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" ', 1)
    return re.sub(r"var\(--(\w+)\)", lambda match: COLOURS.get(match[1], "none"), drawn) + "\n"


def tables(summaries: dict[str, Any], *, short: bool) -> str:
    """Returns a table for each condition; the first has all columns unless `short`."""
    from mpo_core.reporting.methods import COLUMNS, FLIPPED_COLUMNS, lines

    def markdown(summary: Any, columns: Any) -> str:
        head = ["method", *(column.name for column in summary.measured(columns))]
        rows = [
            [line.name, *(f"{mean} ({interval})" if interval else mean for mean, interval in line.cells)]
            for line in lines(summary, 0.0, columns)
        ]
        return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]) + "\n"

    return "\n".join(
        f"{TITLES[name]}:\n\n{markdown(summary, FLIPPED_COLUMNS if number or short else COLUMNS)}"
        for number, (name, summary) in enumerate(summaries.items())
    ).rstrip()


def with_earlier_rows(table: str, earlier: str, order: Sequence[str]) -> str:
    """Returns a table with the rows that it lacks and an earlier one has, in the order of the methods."""

    def rows(of: str) -> dict[str, str]:
        lines = [line for line in of.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
        return {line.split(" | ")[0].removeprefix("| "): line for line in lines}

    both = rows(earlier) | rows(table)
    if rows(earlier).get("method") != rows(table)["method"]:
        raise SystemExit("the earlier table has other columns: empty its block first")
    head = table[: table.index("\n", table.index("| ---"))]
    names = sorted(both.keys() - {"method"}, key=order.index)
    return "\n".join([head, *(both[name] for name in names)])


def put_conditions(summaries: dict[str, Any], command: str, block: str) -> None:
    """Writes each condition's table into docs/comparison.md, and the rows of each method into its page.

    Rows of methods that this run does not have stay as they are.
    """
    from mpo_core.evaluation.methods import BASE
    from mpo_core.settings.profiles import load_config

    order = [BASE, *load_config(ROOT / "deployments" / "profiles" / "hard.yaml").compare.methods]
    for name, summary in summaries.items():
        table = tables({name: summary}, short=name != "clean")
        place = ("comparison.md", f"{block}-{name}")
        put(*place, command, with_earlier_rows(table, block_of(*place), order))
        for page, methods in PAGES.items():
            rows = [row for row in summary.methods if row.method in {"base", *methods}]
            if {row.method for row in rows} & {*methods[1:]}:
                table = tables({name: summary.model_copy(update={"methods": rows})}, short=True)
                place = (f"methods/{page}.md", f"rows-{name}")
                put(*place, command, with_earlier_rows(table, block_of(*place), order))


def main() -> None:
    """Trains what is missing, prints the tables, and with `--write` writes them into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="artifacts")
    parser.add_argument("--profile", default="compare", help="name of a file in deployments/profiles/")
    parser.add_argument("--models", help="base models, separated by commas; default: the profile's")
    parser.add_argument("--methods", help="entries of the profile's compare.methods; default: all")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--conditions", default="clean,swapped20,swapped40", help=", ".join(CONDITIONS))
    parser.add_argument("--table", action="store_true", help="train nothing")
    parser.add_argument(
        "--write", metavar="BLOCK", help="block of docs/comparison.md to write, and its picture if it has one"
    )
    arguments = parser.parse_args()
    quiet_surroundings()
    results, cells = Results(arguments), list(plan(arguments))
    missing = [cell for cell in cells if not arguments.table and results.entry(cell) is None]
    with forked() if missing else contextlib.nullcontext():
        for _, of_start in itertools.groupby(missing, key=lambda cell: cell[:3]):
            while some := list(itertools.islice(of_start, TOGETHER)):
                results.train(some)
                print(f"{' '.join(map(str, some[0][:3]))}: {', '.join(cell.method for cell in some)}", flush=True)
    conditions = dict.fromkeys(cell.condition for cell in cells)
    summaries = {name: summary for name in conditions if (summary := results.summary(cells, name))}
    if not summaries:
        raise SystemExit("no training of these settings is there yet")
    print(tables(summaries, short=False))
    if arguments.write:
        shown = [argument for argument in sys.argv[1:] if argument not in {"--table", "--root", arguments.root}]
        command = f"python benchmarks/methods.py {' '.join(shown)}"
        if arguments.write == "comparison-hard":
            put_conditions(summaries, command, arguments.write)
            results.publish(cells)
        else:
            put("comparison.md", arguments.write, command, tables(summaries, short=False))
        drawn = (DOCS / "comparison.md").read_text(encoding="utf-8").count(f"({arguments.write}.svg)")
        if drawn and "clean" in summaries:
            (DOCS / f"{arguments.write}.svg").write_text(draw(summaries), encoding="utf-8")


if __name__ == "__main__":
    main()
