"""Where the time of an optimiser step goes: matrix products, attention, casts and copies, elementwise, optimiser.

    python benchmarks/profile_step.py --device cuda      # 1.5 B, full, 32 pairs a step
    python benchmarks/profile_step.py --part "8 B lean without clipping, ours" --device cuda
    python benchmarks/profile_step.py --device cpu --tiny

Seconds are those of kernels on the device (on a CPU: of operations), over the steps after the first two, by
torch.profiler. What is left of the time on the wall is waiting.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from card import PARTS, setup, trainer_of
from torch.profiler import ProfilerActivity, profile
from training import table

KINDS = {  # the first that a name contains
    "host to device": r"memcpy htod",
    "device to host": r"memcpy dtoh|_local_scalar_dense",
    "optimiser": r"adam|multi_tensor",
    "attention": r"flash|fmha|varlen|scaled_dot_product",
    "matrix products": r"gemm|cutlass|nvjet|cublas|::mm|addmm|bmm|matmul|linear",
    "casts and copies": r"copy|memcpy|cast|_to_copy|cat|index|gather|scatter|embedding|memset|fill",
    "softmax": r"softmax",
    "elementwise and sums": r"elementwise|reduce|norm|silu|mul|add|sub|div|pow|mean|sum|sqrt|neg|cos|sin|exp|log|tanh",
}


def kind_of(name: str) -> str:
    """What a kernel or an operation does, by its name."""
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, name.lower())), "other")


def profiled(name: str, device: str, *, tiny: bool, steps: int) -> str:
    """Trains, and returns the table."""
    part = PARTS[name]
    activities = [ProfilerActivity.CPU] if device == "cpu" else [ProfilerActivity.CUDA, ProfilerActivity.CPU]
    ends: list[float] = []
    profiler = profile(activities=activities)
    with tempfile.TemporaryDirectory() as folder:
        of = setup(part, Path(folder), device=device, tiny=tiny, steps=steps + 2)
        trainer = trainer_of(of, part.settings)

        def report(line: dict[str, Any]) -> None:
            if "loss" in line:
                if device != "cpu":
                    torch.cuda.synchronize()
                ends.append(time.perf_counter())
                if len(ends) == steps + 2:
                    profiler.stop()
                elif len(ends) == 2:
                    profiler.start()
                    ends[-1] = time.perf_counter()

        trainer.train(report=report)
    return _table(profiler, device, wall=ends[-1] - ends[1], steps=steps)


def _table(profiler: Any, device: str, *, wall: float, steps: int) -> str:
    seconds: dict[str, float] = {}
    calls: dict[str, int] = {}
    for event in profiler.key_averages():
        on_device = event.device_type != torch.autograd.DeviceType.CPU
        if on_device == (device == "cpu"):
            continue
        own = event.self_device_time_total if on_device else event.self_cpu_time_total
        kind = kind_of(event.key)
        seconds[kind] = seconds.get(kind, 0.0) + own / 1e6 / steps
        calls[kind] = calls.get(kind, 0) + event.count // steps
    seconds["waiting"] = wall / steps - sum(seconds.values())
    lines = [
        f"{kind} | {value:.4f} | {value * steps / wall:.0%} | {calls.get(kind, '')}"
        for kind, value in sorted(seconds.items(), key=lambda pair: -pair[1])
    ]
    return table("of a step | s | share | calls", lines)


def main() -> None:
    """Profiles and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=[name for name, part in PARTS.items() if part.side == "ours"])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, to try the command itself")
    parser.add_argument("--steps", type=int, default=3)
    arguments = parser.parse_args()
    name = arguments.part or next(iter(PARTS))
    where = "CPU" if arguments.device == "cpu" else torch.cuda.get_device_name()
    print(f"{name}, {where}, torch {torch.__version__}, {arguments.steps} steps\n")
    print(profiled(name, arguments.device, tiny=arguments.tiny, steps=arguments.steps))


if __name__ == "__main__":
    main()
