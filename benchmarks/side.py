"""Measures one side of the training benchmark in a process of its own.

    python benchmarks/side.py JOB.json

Prints one JSON object: the time at the end of each optimiser step, its losses, and the peak
memory of the process that trained (resident set; on a CUDA device, allocated memory).
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Runs the side that the job names."""
    return {"ours": ours, "references": references, "baseline": baseline}[job.pop("side")](**job)


def ours(folder: Path, references: Path, work: Path, training: dict[str, Any]) -> dict[str, Any]:
    """Measures our trainer as `mpo train` runs it, in its child process, from files to files."""
    from mpo_core.contract.training import TRAINING_METHODS
    from mpo_core.settings import ModelSettings
    from mpo_core.training.launch import TrainingJob, train

    job = TrainingJob(
        model_folder=folder / "model",
        pairs=folder / "pairs.parquet",
        references=references,
        model=ModelSettings(),
        training=TRAINING_METHODS.parse({"method": "mpo", **training}),
        out=work / "out",
        work=work / "work",
    )
    ends: list[tuple[float, float]] = []
    losses: list[dict[str, float]] = []

    def on_step(figures: dict[str, float | int]) -> None:
        if "loss" in figures:
            ends.append(_now(_child()))
            losses.append({name: figures[name] for name in ("loss", "loss/gap", "loss/retention")})

    result = train(job, on_step=on_step)
    return {"ends": ends, "losses": losses, "peak_mib": result.peak_memory}


def references(folder: Path, out: Path) -> dict[str, Any]:
    """Measures the reference of the frozen model, which is computed once before any training."""
    import pyarrow.parquet as pq

    from mpo_core.contract.tables import GAPS
    from mpo_core.models import load_model, load_tokenizer, model_digest
    from mpo_core.settings import ModelSettings
    from mpo_core.training.reference import gaps, source_texts

    settings = ModelSettings()
    model, tokenizer = load_model(folder / "model", settings), load_tokenizer(folder / "model", settings)
    texts = source_texts(pq.read_table(folder / "pairs.parquet"))
    started = time.perf_counter()
    digest = model_digest(folder / "model", settings)
    table, _ = gaps(model, tokenizer, texts, cutoff=1024, system=None, pooling="mean", digest=digest)
    seconds = time.perf_counter() - started
    pq.write_table(GAPS.check(table), out)
    return {"seconds": seconds, "texts": len(texts), "peak_mib": _peak_mib()}


def baseline(folder: Path, batch: int, steps: int, cutoff: int, *, tuned: bool, **options: Any) -> dict[str, Any]:
    """Measures the released code's computation on the same token ids; `tuned` uses our allocator and kernels."""
    import torch
    from baseline import Baseline
    from workload import read

    from mpo_core.models import pick_device
    from mpo_core.training.child import keep_heap

    torch.set_num_threads(1)
    if tuned and options["device"] == "cpu":
        keep_heap()
    elif tuned:
        pick_device(options["device"])
    rows, pad_id = read(folder, cutoff=cutoff)
    trainer = Baseline(folder / "model", pad_id=pad_id, **options)
    ends, losses = [], []
    for step in range(steps):
        chosen = rows[step * batch : (step + 1) * batch]
        losses.append(trainer.step([row.source for row in chosen], [row.target for row in chosen]))
        ends.append(_now(os.getpid()))
    return {"ends": ends, "losses": losses, "peak_mib": _peak_mib()}


def _now(pid: int) -> tuple[float, float]:
    """Returns wall-clock seconds and CPU seconds of a process; they agree where it has a core for itself."""
    ticks = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[11:13]
    return time.perf_counter(), sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def _child() -> int:
    """Returns the id of the only child of this process, which trains."""
    (child,) = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split()
    return int(child)


def _peak_mib() -> int:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() // 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**10


if __name__ == "__main__":
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    paths = ("folder", "references", "work", "out")
    print(json.dumps(main({name: Path(value) if name in paths else value for name, value in job.items()})))
