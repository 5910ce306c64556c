"""Training on one card: ours, the computation released with the paper, and DPO of TRL, on the same pairs.

    python benchmarks/training.py card --device cuda            # ten minutes at most
    python benchmarks/training.py card --device cpu --tiny      # the same, with tiny models: finds a typo without a GPU

Each part is a process of its own with a time limit; its figures count the steps that it finished until then, without
the first. Weights are random and made on the device. Lengths are those of the pairs released with the paper, ids are
random. Memory is the most that torch allocated. The share of the matmul rate counts useful operations alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from workload import LARGE, Row, Shape, config_of, matmul_rate, read, useful_flops, write

HERE = Path(__file__).resolve().parent
SECONDS = 540.0  # of all parts together: imports on a machine just started take a minute of the ten
EIGHT = Shape(4096, 14_336, 32, 32, 8)
TINY = Shape(64, 128, 2, 4, 2)
RATE = 6e-7


class Part(NamedTuple):
    """One line of the table."""

    side: str
    """`ours`, `released` or `trl`."""
    shape: Shape
    step_rows: int
    share: float
    """Of the time."""
    settings: dict[str, Any]
    """Of ours."""


_FULL = {"precision": "bfloat16"}
PARTS = {
    "1.5 B full, ours": Part("ours", LARGE, 32, 0.18, _FULL),
    "1.5 B full, ours, 4096 tokens a pass": Part("ours", LARGE, 32, 0.12, _FULL | {"tokens_per_forward": 4096}),
    "1.5 B full, ours, compiled layers": Part("ours", LARGE, 32, 0.2, _FULL | {"compile_layers": True}),
    "1.5 B full, the released computation, batch 4": Part("released", LARGE, 4, 0.12, {}),
    "1.5 B full, TRL DPO, 8 × 4, target pairs only": Part("trl", LARGE, 32, 0.2, {}),
    "8 B LoRA on bfloat16, ours": Part("ours", EIGHT, 8, 0.2, _FULL | {"weights": "bfloat16", "lora": {}}),
    "8 B lean without clipping, ours": Part("ours", EIGHT, 8, 0.3, _FULL | {"memory": "lean", "max_grad_norm": None}),
}


class Setup(NamedTuple):
    """What a part trains."""

    folder: Path
    """Has `model/` with the tokenizer, and the pairs."""
    shape: Shape
    vocabulary: int
    device: str
    step_rows: int
    steps: int
    tiny: bool

    def config(self) -> Any:
        """The model's config."""
        return config_of(self.shape, self.vocabulary)

    def model(self, dtype: str = "float32") -> Any:
        """A model with random weights, on the device."""
        import torch
        from transformers import LlamaForCausalLM

        torch.set_default_dtype(getattr(torch, dtype))
        try:
            with torch.device(self.device):
                return LlamaForCausalLM(self.config()).eval()
        finally:
            torch.set_default_dtype(torch.float32)


def setup(part: Part, folder: Path, *, device: str, tiny: bool, steps: int) -> Setup:
    """Writes tokenizer and pairs, and says what to train."""
    vocabulary = 1000 if tiny else 128_256
    write(folder, vocabulary=vocabulary, rows=part.step_rows * steps, scale=0.1 if tiny else 1.0, shape=TINY)
    return Setup(folder, TINY if tiny else part.shape, vocabulary, device, part.step_rows, steps, tiny)


def trainer_of(of: Setup, changes: dict[str, Any]) -> Any:
    """Our trainer on these pairs, whose reference is measured here."""
    import pyarrow.parquet as pq

    from mpo_core.contract.training import TRAINING_METHODS
    from mpo_core.models import load_tokenizer, pick_device
    from mpo_core.settings import ModelSettings
    from mpo_core.training.adapters import add_adapters
    from mpo_core.training.collator import join
    from mpo_core.training.reference import gaps, source_texts
    from mpo_core.training.trainer import MPOTrainer

    pick_device(of.device)
    settings = TRAINING_METHODS.parse(
        {"method": "mpo", "learning_rate": RATE, "schedule": "constant", "warmup": 0.0, "batch_size": of.step_rows}
        | {"gradient_accumulation": 1, "max_steps": of.steps, "save_every": 10**6, "order": "file"}
        | {"device": of.device}
        | changes
    )
    tokenizer = load_tokenizer(of.folder / "model", ModelSettings(path=str(of.folder / "model")))
    pairs = pq.read_table(of.folder / "pairs.parquet")
    model = of.model(settings.weights)
    references, _ = gaps(
        model,
        tokenizer,
        source_texts(pairs),
        cutoff=settings.cutoff,
        system=None,
        pooling=settings.pooling,
        precision=settings.precision,
    )
    if settings.lora is not None:
        model = add_adapters(model, settings.lora)
    rows, _ = join(pairs, references=references, tokenizer=tokenizer, settings=settings, system=None)
    return MPOTrainer(model, rows, pad_id=tokenizer.pad_token_id, settings=settings, folder=of.folder / "work")


def ours(of: Setup, changes: dict[str, Any], on_step: Callable[[], None]) -> None:
    """Trains with our trainer."""
    trainer = trainer_of(of, changes)

    def report(line: dict[str, Any]) -> None:
        if "loss" in line:
            print(json.dumps({"tokens_per_forward": trainer.size.tokens}), flush=True)
            on_step()

    trainer.train(report=report)


def released(of: Setup, _: dict[str, Any], on_step: Callable[[], None]) -> None:
    """Trains with the released computation."""
    from baseline import Baseline

    rows, pad_id = read(of.folder, cutoff=1024)
    policy = of.model().train()
    reference = of.model().requires_grad_(requires_grad=False)
    trainer = Baseline(
        (policy, reference), learning_rate=RATE, beta=1.0, pad_id=pad_id, checkpointing=False, device=of.device
    )
    for start in range(0, len(rows), of.step_rows):
        step = rows[start : start + of.step_rows]
        trainer.step([row.source for row in step], [row.target for row in step])
        on_step()


def trl(of: Setup, _: dict[str, Any], on_step: Callable[[], None]) -> None:
    """Trains with TRL's DPO, whose reference is measured beforehand."""
    import pyarrow.parquet as pq
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer

    class Steps(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            on_step()

    table = pq.read_table(of.folder / "pairs.parquet").to_pylist()
    names = ("prompt", "chosen", "rejected")
    texts = [{name: row[f"target_{name}"] for name in names} for row in table]
    size = min(8, of.step_rows)
    arguments = DPOConfig(
        output_dir=str(of.folder / "trl"),
        report_to=[],
        use_cpu=of.device == "cpu",
        bf16=of.device != "cpu",
        gradient_checkpointing=False,
        per_device_train_batch_size=size,
        gradient_accumulation_steps=of.step_rows // size,
        precompute_ref_log_probs=True,
        learning_rate=RATE,
        max_steps=of.steps,
        save_strategy="no",
        disable_tqdm=True,
    )
    DPOTrainer(
        of.model(),
        args=arguments,
        train_dataset=Dataset.from_list(texts),
        processing_class=AutoTokenizer.from_pretrained(of.folder / "model"),
        callbacks=[Steps()],
    ).train()


def run_part(name: str, *, device: str, tiny: bool) -> None:
    """Runs a part in this process; prints a line of JSON after each step but the first."""
    import torch

    part = PARTS[name]
    steps = 3 if tiny else (12 if part.side == "released" else 7)
    with tempfile.TemporaryDirectory() as folder:
        of = setup(part, Path(folder), device=device, tiny=tiny, steps=steps)
        rows = read(of.folder, cutoff=1024)[0]
        rate = matmul_rate(device, seconds=0.3 if tiny else 2.0)
        ends: list[float] = []

        def on_step() -> None:
            if device != "cpu":
                torch.cuda.synchronize()
            ends.append(time.perf_counter())
            if len(ends) > 1:
                print(json.dumps(_figures(of, rows, ends, rate, 2 / 3 if "lora" in part.settings else 1.0)), flush=True)

        {"ours": ours, "released": released, "trl": trl}[part.side](of, part.settings, on_step)


def _figures(of: Setup, rows: list[Row], ends: list[float], rate: float, share: float) -> dict[str, Any]:
    """Figures of all steps but the first; adapters need `share` of the operations: the base has no gradient."""
    import torch

    seconds, steps = ends[-1] - ends[0], len(ends) - 1
    useful = share * useful_flops(of.config(), rows[of.step_rows : (steps + 1) * of.step_rows], of.step_rows)
    peak = torch.cuda.max_memory_allocated() / 2**30 if of.device != "cpu" else None
    return {
        "steps": steps,
        "pairs_per_second": round(steps * of.step_rows / seconds, 3),
        "peak_gib": None if peak is None else round(peak, 1),
        "of_matmul_rate": round(useful / seconds / rate, 3),
        "matmul_tflops": round(rate / 1e12, 1),
    }


def measured(device: str, *, tiny: bool, out: Path | None, seconds: float) -> Iterator[str]:
    """Runs all parts one after the other, yields the table line by line, and writes the figures to a file."""
    import torch

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through the `finally` below, which ends a part
    card = torch.cuda.get_device_name() if device != "cpu" else "CPU"
    yield f"{card}, torch {torch.__version__}\n"
    yield "| what | pairs/s | GiB | of the matmul rate | steps |\n|---|---|---|---|---|"
    results: dict[str, Any] = {"card": card, "torch": str(torch.__version__), "tiny": tiny}
    left = seconds
    for number, (name, part) in enumerate(PARTS.items()):
        shares = sum(other.share for other in list(PARTS.values())[number:])
        started = time.monotonic()
        figures, why = _part_in_time(name, device, tiny=tiny, limit=left * part.share / shares)
        left -= time.monotonic() - started
        results[name] = figures or {"skipped": why}
        if out is not None:
            out.write_text(json.dumps(results, indent=1), encoding="utf-8")
        if not figures:
            yield f"| {name} | skipped: {why} | | | |"
            continue
        cells = [figures["pairs_per_second"], figures["peak_gib"] or "", f"{figures['of_matmul_rate']:.0%}"]
        trl_only = part.side == "trl"  # its useful operations are fewer: no source pairs
        cells[2] = "" if trl_only else cells[2]
        yield f"| {name} | {' | '.join(map(str, cells))} | {figures['steps']} |"


def _part_in_time(name: str, device: str, *, tiny: bool, limit: float) -> tuple[dict[str, Any], str]:
    """The last figures that a part printed within its time, and why there are none."""
    command = [sys.executable, str(HERE / "card.py"), name, "--device", device, *(["--tiny"] if tiny else [])]
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        # A session of its own: processes that compile end with it.
        process = subprocess.Popen(command, stdout=output, stderr=errors, start_new_session=True)
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        errors.seek(0)
        figures: dict[str, Any] = {}
        for line in output:
            if line.startswith('{"'):  # TRL prints dictionaries of Python
                with contextlib.suppress(ValueError):  # the last line of a process that was killed may end anywhere
                    figures |= json.loads(line)
        if "steps" in figures:
            return figures, ""
        lines = errors.read().strip().splitlines() or ["no message"]
        last = next((line for line in reversed(lines) if "Error" in line), lines[-1])
        return {}, f"its {limit:.0f} s were used up" if code is None else f"{last[:200]} (exit code {code})"


def main() -> None:
    """Runs one part, for `measured`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    run_part(arguments.part, device=arguments.device, tiny=arguments.tiny)


if __name__ == "__main__":
    main()
