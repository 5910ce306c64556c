"""Training against the released code's computation: pairs a second, memory, what each trick gives.

    python benchmarks/training.py           # ours over the baseline at two vocabularies, three times each
    python benchmarks/training.py --quick   # once each
    python benchmarks/training.py bars tricks lengths memory --write   # all of docs/speed.md; more than an hour
    python benchmarks/training.py card --device cuda --out card.json   # large models on one GPU; ten minutes at most

Each measured side is a process of its own with one thread, and the sides take turns. Seconds are
those that the process had its core (on a CUDA device: on the wall), from the end of the first
optimiser step on. Memory is the most that the process held, Python and libraries included (on a
CUDA device: what torch allocated). With `--json` the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import card
from page import put
from workload import LARGE, SMALL, Row, matmul_rate, read, useful_flops, write

HERE = Path(__file__).resolve().parent
BATCH, CUTOFF = 4, 1024
STEPS = {"cpu": 4, "cuda": 13}  # of which the first is left out
VOCABULARIES = (16_000, 128_256)
ALL_VOCABULARIES = (16_000, 64_000, 128_256, 256_000)
BATCHES = (1, 8, 32)
SCALES = (0.25, 0.5, 1.0, 2.0)

SIDES: dict[str, dict[str, Any]] = {
    "ours": {},
    "fastest": {"checkpointing": False, "tuned": True},
    "configured": {"checkpointing": True, "tuned": False},
}
ABLATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "the released code's computation": ("fastest", {"tuned": False}),
    "+ memory kept by the process": ("fastest", {}),
    "+ reference from a table": ("fastest", {"table": True}),
    "+ logits of target answers alone": ("fastest", {"lean": True}),
    "ours": ("ours", {}),
    "ours, padded batches instead of packing": ("ours", {"layout": "padded"}),
    "ours, rows of one source not in one step": ("ours", {"order": "shuffled"}),
    "ours, no probabilities kept": ("ours", {"logit_memory": 0}),
    "ours, up to 4096 tokens a forward": ("ours", {"tokens_per_forward": 4096}),
    "ours, activations computed again": ("ours", {"gradient_checkpointing": True}),
}


class Measured(NamedTuple):
    """One side, once."""

    rate: float
    """Pairs a second."""
    memory: int
    """MiB."""
    seconds: float
    """Of all steps but the first."""
    gap_loss: float
    """L1 of the first step."""


class Workload:
    """A model and pairs on disk, and what was measured on them.

    Args:
        folder: gets them.
        vocabulary: tokens.
        batch: pairs of an optimiser step.
        scale: factor of the lengths.
        device: `cpu` or `cuda`.
    """

    def __init__(self, folder: Path, vocabulary: int, *, batch: int = BATCH, scale: float = 1.0, device: str) -> None:
        self.folder, self.batch, self.device = folder, batch, device
        shape = LARGE if device == "cuda" else SMALL
        write(folder, vocabulary=vocabulary, rows=STEPS[device] * batch, scale=scale, shape=shape)
        self.reference = self._run({"side": "references", "out": folder / "references.parquet"})

    def rows(self) -> list[Row]:
        """The measured pairs: all but those of the first step."""
        return read(self.folder, cutoff=CUTOFF)[0][self.batch :]

    def measure(self, side: str, *, steps: int | None = None, **changes: Any) -> Measured:
        """Runs one side in a process of its own."""
        steps = steps or STEPS[self.device]
        if side == "ours":
            job = {"references": self.folder / "references.parquet", "training": self._settings(steps, changes)}
        else:
            job = {"batch": self.batch, "steps": steps, "cutoff": CUTOFF, "device": self.device}
            job |= {"learning_rate": 6e-7, "beta": 1.0} | SIDES[side] | changes
            side = "baseline"
        with tempfile.TemporaryDirectory(dir=self.folder) as work:  # checkpoints weigh four times the model
            result = self._run({"side": side} | job | ({"work": work} if side == "ours" else {}))
        clock = 0 if self.device == "cuda" else 1
        seconds = result["ends"][-1][clock] - result["ends"][0][clock] if steps > 1 else float("nan")
        return Measured(
            (steps - 1) * self.batch / seconds, result["peak_mib"], seconds, result["losses"][0]["loss/gap"]
        )

    def _settings(self, steps: int, changes: dict[str, Any]) -> dict[str, Any]:
        settings = {"batch_size": self.batch, "gradient_accumulation": 1, "max_steps": steps, "cutoff": CUTOFF}
        settings |= {"order": "file", "learning_rate": 6e-7, "schedule": "constant", "warmup": 0.0, "beta": 1.0}
        settings |= {"device": self.device, "save_every": steps + 1}
        settings |= {"precision": "bfloat16"} if self.device == "cuda" else {"threads": 1}
        return settings | changes

    def _run(self, job: dict[str, Any]) -> Any:
        path = self.folder / "job.json"
        path.write_text(json.dumps(job | {"folder": self.folder}, default=str), encoding="utf-8")
        paths = [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
        command = [sys.executable, str(HERE / "side.py"), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            sys.exit(f"{job['side']} on {self.folder.name} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        return json.loads(done.stdout.splitlines()[-1])


def bars(work: Workload, repeats: int) -> tuple[dict[str, Any], list[str]]:
    """Ours over both baselines, sides in turn: what `--json` tells, and the table's lines."""
    from transformers import AutoConfig

    measurements: dict[str, list[Measured]] = {side: [] for side in SIDES}
    fractions = []
    useful = useful_flops(AutoConfig.from_pretrained(work.folder / "model"), work.rows(), work.batch)
    for _ in range(repeats):
        for side, runs in measurements.items():
            runs.append(work.measure(side))
        fractions.append(useful / measurements["ours"][-1].seconds / matmul_rate(work.device))
    first = {side: runs[0].gap_loss for side, runs in measurements.items()}
    # Ours measures the reference in float32, the baseline in bfloat16 where it trains so.
    if abs(first["ours"] - first["fastest"]) > (1e-4 if work.device == "cpu" else 0.15) * abs(first["fastest"]):
        sys.exit(f"the sides do not compute the same loss: {first}")
    result: dict[str, Any] = {"matmul_fraction": round(statistics.median(fractions), 3)}
    lines = []
    for side, runs in measurements.items():
        ratios = {
            name: [getattr(a, field) / getattr(b, field) for a, b in zip(measurements["ours"], runs, strict=True)]
            for name, field in (("samples", "rate"), ("memory", "memory"))
        }
        if side != "ours":
            result[side] = {name: round(statistics.median(values), 4) for name, values in ratios.items()}
        cells = [spread([run.rate for run in runs], "{:.3g}"), spread([run.memory for run in runs], "{:,.0f}")]
        cells += ["" if side == "ours" else spread(values, "{:.3g}") for values in ratios.values()]
        cells.append(spread(fractions, "{:.0%}") if side == "ours" else "")
        lines.append(" | ".join([side, *cells]))
    return result, lines


def spread(values: list[float], form: str) -> str:
    """The median, and lowest to highest if there are several."""
    result = form.format(statistics.median(values))
    return result if len(values) == 1 else f"{result} ({form.format(min(values))} to {form.format(max(values))})"


def table(head: str, lines: list[str]) -> str:
    """Markdown, from cells parted by ` | `."""
    return "\n".join(f"| {line} |" for line in [head, " | ".join("---" for _ in head.split(" | ")), *lines])


class Plan(NamedTuple):
    """What a run measures with."""

    root: Path
    """Gets models and pairs."""
    device: str
    repeats: int
    vocabularies: list[int]
    """Of the bars and the tricks."""
    scale: float
    """Of the bars' lengths."""

    def result(self, work: Workload, side: str, **changes: Any) -> str:
        """Pairs a second and MiB of one side, as two cells."""
        runs = [work.measure(side, **changes) for _ in range(self.repeats)]
        return f"{spread([run.rate for run in runs], '{:.3g}')} | {max(run.memory for run in runs):,}"


def bars_of_all(plan: Plan) -> tuple[str, dict[str, Any]]:
    """Ours against both baselines by vocabulary, and what `--json` tells."""
    result: dict[str, Any] = {}
    blocks = []
    head = "side | pairs/s | peak MiB | ours over it, pairs/s | ours over it, memory | of the matmul rate"
    for vocabulary in plan.vocabularies:
        work = Workload(plan.root / str(vocabulary), vocabulary, scale=plan.scale, device=plan.device)
        measurements, lines = bars(work, plan.repeats)
        result[str(vocabulary)] = measurements
        whole = measurements["fastest"]["samples"] / measurements["matmul_fraction"]
        seconds = work.reference["seconds"] / work.reference["texts"]
        blocks.append(
            f"## Vocabulary {vocabulary:,}\n\n{table(head, lines)}\n\n"
            f"At the whole matmul rate ours would have {whole:.1f} times the pairs/s of `fastest`. The reference, "
            f"measured once before: {seconds:.2f} s a source pair, {work.reference['peak_mib']:,} MiB."
        )
    result["matmul_fraction"] = min(size.pop("matmul_fraction") for size in result.values())
    return "\n\n".join(blocks), result


def tricks(plan: Plan) -> str:
    """What each trick gives."""
    works = [Workload(plan.root / f"tricks{size}", size, device=plan.device) for size in plan.vocabularies]
    lines = [
        " | ".join([name, *(plan.result(work, side, **changes) for work in works)])
        for name, (side, changes) in ABLATIONS.items()
    ]
    heads = [f"{size:,}: pairs/s | MiB" for size in plan.vocabularies]
    return "## What each trick gives\n\n" + table(" | ".join(["computation", *heads]), lines)


def lengths(plan: Plan) -> str:
    """Ours against the fastest baseline by length of the pairs."""
    lines = []
    for scale in SCALES:
        work = Workload(plan.root / f"length{scale}", VOCABULARIES[0], scale=scale, device=plan.device)
        tokens = statistics.mean(sum(map(len, row.target)) for row in work.rows())
        pairs = [(work.measure("ours"), work.measure("fastest")) for _ in range(plan.repeats)]
        cells = [f"{tokens:.0f}", spread([ours.rate for ours, _ in pairs], "{:.3g}")]
        cells += [f"{max(ours.memory for ours, _ in pairs):,}", spread([a.rate / b.rate for a, b in pairs], "{:.3g}")]
        cells.append(spread([a.memory / b.memory for a, b in pairs], "{:.3g}"))
        lines.append(" | ".join(cells))
    head = "tokens of a target pair, mean | ours: pairs/s | MiB | pairs/s over fastest | memory over fastest"
    return f"## By length, vocabulary {VOCABULARIES[0]:,}\n\n" + table(head, lines)


def memory(plan: Plan) -> str:
    """Peak memory of ours by vocabulary and batch."""
    lines = []
    for vocabulary in ALL_VOCABULARIES:
        cells = []
        for batch in BATCHES:
            work = Workload(plan.root / f"memory{vocabulary}-{batch}", vocabulary, batch=batch, device=plan.device)
            cells.append(f"{work.measure('ours', steps=2).memory:,}")
        lines.append(" | ".join([f"{vocabulary:,}", *cells]))
    head = " | ".join(["vocabulary", *(f"batch {batch}" for batch in BATCHES)])
    return "## Peak memory of ours, MiB\n\n" + table(head, lines)


def main() -> None:
    """Measures, prints, and writes the page if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", help="of bars, tricks, lengths, memory, card. Default: bars; on cuda card")
    parser.add_argument("--vocabulary", type=int, nargs="+", default=list(VOCABULARIES), help="of bars and tricks")
    parser.add_argument("--scale", type=float, default=1.0, help="factor of the bars' lengths")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="as --repeats 1")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--tiny", action="store_true", help="of card: tiny models, to try the command itself")
    parser.add_argument("--out", type=Path, help="of card: a file for the figures, as JSON")
    parser.add_argument("--json", action="store_true", help="print the bars as one object, the last line")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/speed.md")
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    device = arguments.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    repeats = 1 if arguments.quick else arguments.repeats
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        plan = Plan(Path(scratch), device, repeats, arguments.vocabulary, arguments.scale)
        for name in arguments.tables or ["card" if device == "cuda" else "bars"]:
            if name == "card":
                limit = 3600.0 if arguments.tiny else card.SECONDS  # tiny models measure nothing, so let each end
                for line in card.measured(device, tiny=arguments.tiny, out=arguments.out, seconds=limit):
                    print(line, flush=True)
                continue
            if name == "bars":
                block, result = bars_of_all(plan)
            else:
                block = {"tricks": tricks, "lengths": lengths, "memory": memory}[name](plan)
            print(block + "\n", flush=True)
            if arguments.write:
                put("speed.md", name, f"python benchmarks/training.py {name} --write", block)
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
