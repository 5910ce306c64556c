"""Measures what `training.memory: lean` keeps of float32 training, and what it takes.

    python benchmarks/lean.py                             # fidelity on the CPU, some minutes
    python benchmarks/lean.py --write                     # also into docs/speed.md
    python benchmarks/lean.py speed --device cuda         # memory and pairs/s of 8 B random weights on one GPU

Fidelity: MPO trains the same model on the same pairs in the same order with each variant, and its losses and its update
(weights after minus weights before) are compared with those of float32 weights. The weights start rounded to bfloat16,
as most published models are. No figure is about what the trained model says.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from page import put
from swaps import world_pairs
from torch import Tensor
from training import table
from transformers import LlamaConfig, LlamaForCausalLM
from workload import SMALL, Shape, write

from mpo_core.contract.training import TRAINING_METHODS
from mpo_core.models import load_model, load_tokenizer, pick_device, resolve
from mpo_core.settings import ModelSettings
from mpo_core.training import devices
from mpo_core.training.collator import join as with_references
from mpo_core.training.lean import LeanAdamW, join, read_halves, round_at_random, write_halves
from mpo_core.training.reference import gaps, source_texts
from mpo_core.training.trainer import MPOTrainer

RATE, STEP_ROWS = 6e-7, 8
TINY = Shape(128, 352, 2)
SHAPES = {"tiny": TINY, "small": SMALL, "1.5b": Shape(2048, 8192, 16, 32, 8), "8b": Shape(4096, 14336, 32, 32, 8)}


class Variant(NamedTuple):
    """A way to train all weights."""

    settings: dict[str, Any]
    optimiser: type[LeanAdamW] | None = None
    """Takes the place of the one that the settings choose."""
    plain: bool = False
    """Weights and moments are bfloat16, with nothing beside them."""


class StochasticRounding(LeanAdamW):
    """Rounds weights to bfloat16 up or down at random; there are no lower halves."""

    def _update(self, weight: Tensor, number: int, group: dict[str, Any]) -> None:
        super()._update(weight, number, group)
        if hasattr(weight, "low_bits"):
            random = torch.Generator(weight.device).manual_seed(number * 2**20 + self.state[weight]["step"])
            whole = read_halves(weight.detach(), weight.low_bits)
            round_at_random(whole, weight.detach(), random)
            weight.low_bits.zero_()


class EightBitMoments(LeanAdamW):
    """Keeps both moments in 8 bits, by the functions of bitsandbytes: a scale for each 256 elements."""

    @torch.no_grad()
    def _update(self, weight: Tensor, number: int, group: dict[str, Any]) -> None:
        from bitsandbytes import functional

        if not hasattr(weight, "low_bits"):
            super()._update(weight, number, group)
            return
        state, low, size = self.state[weight], weight.low_bits, weight.numel()
        if not state:
            state["step"] = 0
            for name, signed in (("mean", True), ("square", False)):
                state[name] = torch.zeros(size, dtype=torch.uint8, device=weight.device)
                state[f"{name}_scale"] = torch.zeros(-(-size // 256), device=weight.device)
                state[f"{name}_map"] = functional.create_dynamic_map(signed).to(weight.device)
        state["step"] += 1
        assert weight.grad is not None
        gradient = weight.grad.to_dense() if weight.grad.is_sparse else weight.grad
        whole = read_halves(weight.detach(), low).view(-1)
        functional.optimizer_update_8bit_blockwise(
            "adam",
            gradient.float().view(-1),
            whole,
            state["mean"],
            state["square"],
            *group["betas"],
            0.0,
            1.0,
            group["eps"],
            state["step"],
            group["lr"],
            state["mean_map"],
            state["square_map"],
            state["mean_scale"],
            state["square_scale"],
            group["weight_decay"],
        )
        weight.grad = None
        write_halves(whole.view_as(weight), weight.detach(), low)


MIXED = {"precision": "bfloat16"}
LEAN = MIXED | {"memory": "lean"}
BACKWARD = LEAN | {"max_grad_norm": None, "tokens_per_forward": 2**20}
VARIANTS = {
    "float32 weights and computation": Variant({}),
    "`memory: full`, `precision: bfloat16`": Variant(MIXED),
    "`memory: lean`": Variant(LEAN),
    "`memory: lean`, `max_grad_norm: null`, one forward a step": Variant(BACKWARD),
    "lean, but moments of 8 bits": Variant(LEAN, EightBitMoments),
    "lean, but without lower halves: stochastic rounding": Variant(LEAN, StochasticRounding),
    "plain bfloat16 weights": Variant(MIXED, plain=True),
}


class Trained(NamedTuple):
    """What a training did."""

    update: Tensor
    """[parameters], weights after minus weights before, in float32."""
    losses: list[float]
    sizes: dict[str, float]
    """Bytes per parameter of weights, moments and gradients that existed at one time."""
    seconds: list[float]
    """When each step ended."""


class Watch:
    """Notes when steps end, and how many bytes of gradients exist at one time."""

    def __init__(self, model: Any) -> None:
        self.ends: list[float] = []
        self.gradients = 0
        self._weights = list(model.parameters())
        for weight in self._weights:
            weight.register_post_accumulate_grad_hook(self.look)

    def look(self, _: Any = None) -> None:
        """Notes how many bytes of gradients there are."""
        self.gradients = max(self.gradients, sum(size_of(weight.grad) for weight in self._weights))

    def report(self, _: dict[str, Any]) -> None:
        """Notes the time, at the end of a step."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def size_of(tensor: Any) -> int:
    """Bytes of a tensor; 0 of anything else, and of a sparse one those of its values."""
    if not isinstance(tensor, Tensor):
        return 0
    return (tensor._values() if tensor.is_sparse else tensor).nbytes  # noqa: SLF001


def train(model: Any, tokenizer: Any, pairs: pa.Table, variant: Variant, steps: int, **more: Any) -> Trained:
    """Trains a model on pairs, and returns what came of it."""
    settings = TRAINING_METHODS.parse(
        {"method": "mpo", "learning_rate": RATE, "schedule": "constant", "warmup": 0.0, "batch_size": STEP_ROWS}
        | {"gradient_accumulation": 1, "max_steps": steps, "save_every": 10**6, "device": model.device.type}
        | variant.settings
        | more
    )
    options: dict[str, Any] = {"cutoff": settings.cutoff, "system": None}
    references, _ = gaps(
        model, tokenizer, source_texts(pairs), pooling=settings.pooling, precision=settings.precision, **options
    )
    rows, _ = with_references(pairs, references=references, tokenizer=tokenizer, settings=settings, system=None)
    before = [] if steps < 10 else [weight.detach().clone() for weight in model.parameters()]
    if variant.plain:
        model.bfloat16()
    with tempfile.TemporaryDirectory() as folder:
        trainer = MPOTrainer(model, rows, pad_id=tokenizer.pad_token_id, settings=settings, folder=Path(folder))
        watch = Watch(model)  # before the optimiser, whose hook takes the gradient away
        read = trainer.read_finite
        trainer.read_finite = lambda *figures: watch.look() or read(*figures)  # when the step's gradient is complete
        with mock.patch.object(devices, "LeanAdamW", variant.optimiser or LeanAdamW):
            trainer.train(report=watch.report)
    optimizer: Any = trainer.optimizer
    weights = list(model.parameters())
    states = [value for state in optimizer.state.values() for value in state.values()]
    lower = [] if variant.optimiser is StochasticRounding else [getattr(weight, "low_bits", None) for weight in weights]
    count = sum(weight.numel() for weight in weights)
    sizes = {"weights": sum(map(size_of, [*weights, *lower])), "moments": sum(map(size_of, states))}
    sizes["gradients"] = watch.gradients
    if before:
        join(model)
    update = [(new.detach().float() - old).flatten() for new, old in zip(model.parameters(), before, strict=False)]
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    bytes_each = {name: size / count for name, size in sizes.items()}
    return Trained(torch.cat(update) if update else torch.empty(0), losses, bytes_each, watch.ends)


def subjects(folder: Path) -> dict[str, tuple[Callable[[], Any], Any, pa.Table]]:
    """Returns by name what loads a model, its tokenizer, and pairs."""
    world = ModelSettings(path="microworld", device="cpu")
    path = resolve(world)
    pairs = pa.concat_tables([world_pairs(language, "train", 34) for language in ("zh", "sw", "ko")])
    write(folder, vocabulary=4000, rows=96, scale=0.15, shape=TINY)
    random = ModelSettings(path=str(folder / "model"), device="cpu")
    return {
        "the microworld's model": (
            lambda: load_model(path, world, dtype="float32"),
            load_tokenizer(path, world),
            pairs,
        ),
        "a random Llama": (
            lambda: load_model(folder / "model", random, dtype="float32"),
            load_tokenizer(folder / "model", random),
            pq.read_table(folder / "pairs.parquet"),
        ),
    }


def fidelity(steps: int) -> str:
    """Trains every variant on both models, and returns the tables."""
    torch.set_num_threads(1)
    head = "variant | cosine of the update | its length | losses, mean difference | largest | weights that moved | "
    head += "bytes per parameter: weights | moments | gradients at one time | sum"
    blocks = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (load, tokenizer, pairs) in subjects(Path(folder)).items():
            lines, exact = [], None
            for label, variant in VARIANTS.items():
                model = load()
                for weight in model.parameters():
                    weight.data = weight.data.bfloat16().float()
                trained = train(model, tokenizer, pairs, variant, steps, threads=1)
                exact = exact or trained
                lines.append(f"{label} | {compare(trained, exact)} | {sizes(trained)}")
                print(name, lines[-1], sep=": ", flush=True)
            count = f"{len(exact.update):,} parameters" if exact else ""
            blocks.append(f"**{name[0].upper()}{name[1:]}**, {count}, {steps} steps:\n\n{table(head, lines)}")
    return "\n\n".join(blocks)


def compare(trained: Trained, exact: Trained) -> str:
    """Cells about a training next to that of float32 weights."""
    ours, theirs = trained.update.double(), exact.update.double()
    cosine = float(ours @ theirs / (ours.norm() * theirs.norm()))
    differences = [abs(a - b) for a, b in zip(trained.losses, exact.losses, strict=True)]
    mean = sum(differences) / sum(exact.losses)
    largest = max(d / loss for d, loss in zip(differences, exact.losses, strict=True))
    moved = float((ours != 0).double().mean())
    return f"{cosine:.4f} | {float(ours.norm() / theirs.norm()):.3f} | {mean:.2%} | {largest:.2%} | {moved:.1%}"


def sizes(trained: Trained) -> str:
    """Cells about bytes per parameter."""
    return " | ".join(f"{size:.2f}" for size in [*trained.sizes.values(), sum(trained.sizes.values())])


def speed(shape: str, vocabulary: int, device: str, variant: Variant, steps: int) -> dict[str, Any]:
    """Trains random weights of a shape for a few steps, and returns memory and pairs a second."""
    place = pick_device(device)
    size = SHAPES[shape]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, vocabulary=vocabulary, rows=STEP_ROWS * steps, shape=TINY)  # for the tokenizer and the pairs
        tokenizer = load_tokenizer(folder / "model", ModelSettings(path=str(folder / "model")))
        pairs = pq.read_table(folder / "pairs.parquet")
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
    )
    with torch.device(place):
        model = LlamaForCausalLM(config).eval()
    trained = train(model, tokenizer, pairs, variant, steps, gradient_checkpointing=True, order="file")
    seconds = trained.seconds[-1] - trained.seconds[0]
    on_gpu = place != "cpu"
    return {
        "shape": shape,
        "device": torch.cuda.get_device_name() if on_gpu else place,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "pairs_per_second": round((steps - 1) * STEP_ROWS / seconds, 3),
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2) if on_gpu else None,
        "bytes_per_parameter": {key: round(value, 2) for key, value in trained.sizes.items()},
        "losses": trained.losses,
    }


def main() -> None:
    """Measures what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("fidelity", "speed"), default="fidelity")
    parser.add_argument("--steps", type=int, help="optimiser steps; default: 50, of speed 6")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/speed.md")
    parser.add_argument("--shape", choices=SHAPES, default="8b", help="of speed")
    parser.add_argument("--vocabulary", type=int, default=128_256, help="of speed")
    parser.add_argument("--device", default="auto", help="of speed")
    parser.add_argument("--full", action="store_true", help="speed of memory: full")
    given = parser.parse_args()
    if given.part == "speed":
        variant = Variant(BACKWARD | {"memory": "full"} if given.full else BACKWARD)
        print(json.dumps(speed(given.shape, given.vocabulary, given.device, variant, given.steps or 6), indent=1))
        return
    block = fidelity(given.steps or 50)
    print(block)
    if given.write:
        put("speed.md", "lean", "python benchmarks/lean.py --write", block)


if __name__ == "__main__":
    main()
