"""How much memory a training takes on a card, by model, method and number of cards: nothing is allocated for it.

    python benchmarks/memory.py            # the table; some minutes on two cores
    python benchmarks/memory.py --check    # also trains small models on this CPU, and compares
    python benchmarks/memory.py --write    # also into docs/your-model.md

Weights, gradients and moments are counted (`mpo_core/models/training_memory.py`, by which a training that cannot fit
is refused). Activations are those of our own forward and backward pass, run on tensors without data, with two and with
three layers; each further layer takes as much as the third. The mean lengths are those of the pairs that the authors of
MPO released.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from page import put
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from training import table
from transformers import AutoConfig, AutoModelForCausalLM
from workload import LARGE, Shape

from mpo_core.contract.training import TRAINING_METHODS
from mpo_core.models.training_memory import StateBytes, state_bytes
from mpo_core.training import attention, forward
from mpo_core.training.adapters import add_adapters
from mpo_core.training.child import keep_heap
from mpo_core.training.encoding import EncodedText
from mpo_core.training.forward_size import ON_DEVICE
from mpo_core.training.layout import Item, pack
from mpo_core.training.lean import split

GIB = 2**30
PAIR, SOURCE = (59, 363, 322), (46, 55, 150)  # mean tokens of prompt, chosen and rejected
SOURCES = 6  # target pairs that share a source pair
CARDS = (1, 2, 4, 8)


def llama(shape: Shape, vocabulary: int, *, tied: bool = False) -> dict[str, Any]:
    """Arguments of the config of a model like Llama 3."""
    return {
        "model_type": "llama",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
    }


MODELS: dict[str, dict[str, Any]] = {
    "1 B (Llama 3.2)": llama(Shape(2048, 8192, 16, 32, 8), 128_256, tied=True),
    "1.5 B (Qwen2.5)": llama(Shape(1536, 8960, 28, 12, 2), 151_936, tied=True) | {"model_type": "qwen2"},
    "3 B (Llama 3.2)": llama(Shape(3072, 8192, 28, 24, 8), 128_256, tied=True),
    "7 B (Qwen2.5)": llama(Shape(3584, 18_944, 28, 28, 4), 152_064) | {"model_type": "qwen2"},
    "8 B (Llama 3.1)": llama(Shape(4096, 14_336, 32, 32, 8), 128_256),
    "9 B (Gemma 2)": llama(Shape(3584, 14_336, 42, 16, 8), 256_000, tied=True)
    | {
        "model_type": "gemma2",
        "head_dim": 256,
        "pad_token_id": None,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    },
    "70 B (Llama 3.1)": llama(Shape(8192, 28_672, 80, 64, 8), 128_256),
}
_BFLOAT16 = {"precision": "bfloat16"}
METHODS: dict[str, dict[str, Any]] = {
    "LoRA on nf4 (QLoRA)": _BFLOAT16 | {"weights": "nf4", "lora": {}},
    "LoRA on bfloat16": _BFLOAT16 | {"weights": "bfloat16", "lora": {}},
    "`memory: lean`, no clipping": _BFLOAT16 | {"memory": "lean", "max_grad_norm": None},
    "`memory: lean`": _BFLOAT16 | {"memory": "lean"},
    "full, `precision: bfloat16`": _BFLOAT16,
}
MEASURED = {  # on an H100 of 80 GB with torch 2.11; 1.5 B is `LARGE` with 128,256 tokens
    "1.5 B full": (llama(LARGE, 128_256), _BFLOAT16, 4096, 32.6),
    "1.5 B full, 16384 tokens": (llama(LARGE, 128_256), _BFLOAT16, 16_384, 52.9),
    "8 B LoRA on bfloat16": (MODELS["8 B (Llama 3.1)"], METHODS["LoRA on bfloat16"], 4096, 42.7),
}
SECONDS = {"full": 100 / 39.0, "lora": 100 / 9.57}  # for 100 pairs on that H100: LARGE, and 8 B


class Peak(TorchDispatchMode):
    """Counts the bytes of all storages that are alive, and their maximum."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known: set[int] = set()

    def add(self, tensor: Any) -> None:
        """Counts a tensor's storage from now on, until it is freed."""
        if not isinstance(tensor, torch.Tensor) or tensor.is_sparse:
            return
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()  # noqa: SLF001 - its address, which has no public name
        if key not in self._known:
            self._known.add(key)
            self.now += size
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operation, and counts what it returns."""
        if function is torch.ops.aten._local_scalar_dense.default:  # noqa: SLF001 - there is no number to look at
            return 0
        result = function(*args, **(kwargs or {}))
        for tensor in tree_flatten(result)[0]:
            self.add(tensor)
        return result


def items(tokens: int) -> list[Item]:
    """Pairs of about so many tokens in all, a source pair to six target pairs."""
    result: list[Item] = []
    while sum(item.tokens for item in result) < tokens - sum(PAIR) // 2:
        is_source = len(result) % (SOURCES + 1) == SOURCES
        ids = EncodedText(*([1] * length for length in (SOURCE if is_source else PAIR)))
        result.append(Item(ids, scored=not is_source, pooled=is_source))
    return result


@contextlib.contextmanager
def without_data() -> Iterator[None]:
    """Makes tensors without data, for which attention takes the road of a device."""
    before = forward._check_head, attention._flash_takes  # noqa: SLF001 - both look at what only a real device has
    move, torch.nn.Module.to = torch.nn.Module.to, lambda module, *_, **__: module  # PEFT moves what has no place
    forward._check_head = lambda *_: None  # noqa: SLF001
    attention._flash_takes = lambda _query, options: options.softcap is None  # noqa: SLF001
    attention._spread.cache_clear()  # noqa: SLF001 - they hold tensors
    attention._bounds.cache_clear()  # noqa: SLF001
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            yield
    finally:
        forward._check_head, attention._flash_takes = before  # noqa: SLF001
        torch.nn.Module.to = move
        attention._spread.cache_clear()  # noqa: SLF001
        attention._bounds.cache_clear()  # noqa: SLF001


def config_of(shape: dict[str, Any], layers: int | None = None) -> Any:
    """The config of a model, with another number of layers if asked for."""
    changes = {} if layers is None else {"num_hidden_layers": layers}
    rest = {name: value for name, value in (shape | changes).items() if name != "model_type"}
    return AutoConfig.for_model(shape["model_type"], **rest)


def peak_beside_state(shape: dict[str, Any], settings: Any, tokens: int, layers: int, *, recomputed: bool) -> int:
    """The most bytes of two forward and backward passes, run where it is called.

    It is beside weights and gradients, but for that of input embeddings of their own, which is made after the passes.
    """
    narrow = settings.weights != "float32"  # nf4 computes as the base in bfloat16 does
    torch.set_default_dtype(torch.bfloat16 if narrow else torch.float32)
    model = AutoModelForCausalLM.from_config(config_of(shape, layers))
    torch.set_default_dtype(torch.float32)
    if settings.lora is not None:
        model = add_adapters(model, settings.lora)
    forward.attach(model, packed=True, keep=settings.logit_memory * 2**20)
    if settings.memory == "lean":
        split(model)
    model.eval()
    if recomputed:
        forward.inner(model).activation_checkpointing_enable({"use_reentrant": False})
        model.train()
    late = model.get_input_embeddings().weight
    tied = late is model.get_output_embeddings().weight
    gradients = sum(
        weight.nbytes for weight in model.parameters() if weight.requires_grad and (tied or weight is not late)
    )
    layout = pack(items(tokens), "mean")
    bfloat16 = settings.precision == "bfloat16"
    shares = bfloat16 and not recomputed  # as in `MPOTrainer`
    with Peak() as peak:
        for tensor in [*model.parameters(), *model.buffers()]:
            peak.add(tensor.data)
        weights = peak.now
        with forward.adding_up(model, torch.bfloat16 if shares else None):
            for _ in range(2):  # the second adds to the gradients of the first
                with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16, cache_enabled=shares):
                    out = model(layout=layout)
                (out.log_p.sum() + out.pooled.square().sum()).backward()
                del out
    return peak.most - weights - gradients


@functools.cache
def _activations(shape_json: str, settings_json: str, tokens: int, recomputed: bool) -> float:  # noqa: FBT001
    shape, settings = json.loads(shape_json), TRAINING_METHODS.parse(json.loads(settings_json))
    few, more = (1, 2) if not recomputed else (2, 3)
    sizes = []
    for layers in (few, more):
        with without_data():
            sizes.append(peak_beside_state(shape, settings, tokens, layers, recomputed=recomputed))
    return sizes[0] + (sizes[1] - sizes[0]) * (shape["num_hidden_layers"] - few)


def activations(shape: dict[str, Any], changes: dict[str, Any], tokens: int, *, recomputed: bool) -> float:
    """Bytes of a forward and backward pass beside weights, gradients and moments."""
    relevant, extra = dict(changes), 0.0
    if relevant.pop("max_grad_norm", 0) is None:  # as with clipping, and one gradient at a time
        extra = 2.0 * max(torch.Size(size).numel() for size in _shapes(json.dumps(shape)).values())
    if relevant.get("weights") == "nf4":
        relevant |= {"weights": "bfloat16"}
        extra = 2.0 * shape["hidden_size"] * shape["intermediate_size"]  # the matrix that is unpacked
    return extra + _activations(json.dumps(shape), json.dumps({"method": "mpo"} | relevant), tokens, recomputed)


@functools.cache
def _shapes(shape_json: str) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config_of(json.loads(shape_json)))
    return {name: tuple(weight.shape) for name, weight in model.named_parameters()}


class Need(NamedTuple):
    """What a training takes on each card, in bytes."""

    state: StateBytes
    gathered: float
    """Weights of other cards, which FSDP2 brings while they are used."""
    recomputed: float
    """Activations, if those of all layers are computed again."""
    stored: float
    """Activations, if none are."""
    late: float
    """Gradient of the input embeddings, where it is made after the passes."""

    @property
    def least(self) -> float:
        """With activations computed again."""
        return self.state.total + max(self.gathered + self.recomputed - self.late, 0.0)

    @property
    def most(self) -> float:
        """With activations stored."""
        return self.state.total + max(self.gathered + self.stored - self.late, 0.0)


def need(shape: dict[str, Any], changes: dict[str, Any], tokens: int = ON_DEVICE, cards: int = 1) -> Need | None:
    """What a training takes on each of several cards; None if the settings are refused."""
    several = {} if cards == 1 else {"processes": cards, "parallel": "fsdp2"}
    try:
        settings = TRAINING_METHODS.parse({"method": "mpo"} | changes | several)
    except ValueError:
        return None
    shapes = _shapes(json.dumps(shape))
    gathered = 0.0
    if cards > 1:
        in_layers = sum(torch.Size(size).numel() for name, size in shapes.items() if ".layers." in name)
        rest = sum(torch.Size(size).numel() for name, size in shapes.items() if ".layers." not in name)
        whole = rest + 2 * in_layers / shape["num_hidden_layers"]  # embeddings, and two layers
        each = 2.0 if settings.weights == "bfloat16" else 4.0
        gathered = whole * each * (1 if settings.lora is not None else 2)  # with their gradients
    state, late = state_bytes(shapes, settings), 0.0
    if cards == 1 and settings.lora is None and not shape["tie_word_embeddings"]:
        numbers = sum(torch.Size(size).numel() for size in shapes.values())
        late = state.gradients * shape["vocab_size"] * shape["hidden_size"] / numbers
    return Need(
        state,
        gathered,
        activations(shape, changes, tokens, recomputed=True),
        activations(shape, changes, tokens, recomputed=False),
        late,
    )


def seconds(shape: dict[str, Any], changes: dict[str, Any]) -> str:
    """Seconds for 100 pairs on one H100, from the one that was measured, in proportion to the weights that multiply."""
    numbers = {
        name: sum(torch.Size(size).numel() for key, size in _shapes(json.dumps(of)).items() if len(size) == 2)
        for name, of in (("this", shape), ("full", llama(LARGE, 128_256)), ("lora", MODELS["8 B (Llama 3.1)"]))
    }
    if changes.get("precision") != "bfloat16":
        return ""
    base = "lora" if "lora" in changes else "full"
    value = SECONDS[base] * numbers["this"] / numbers[base]
    measured = changes.get("weights") == "bfloat16" and shape == MODELS["8 B (Llama 3.1)"]
    return f"{value:.3g} {'measured' if measured else 'computed'}"


def gib(need_of: Need | None) -> str:
    """The lower and the upper figure."""
    return "–" if need_of is None else f"{need_of.least / GIB:.1f} to {need_of.most / GIB:.1f}"


def big_table() -> str:
    """GiB on each card by model, method and cards."""
    lines = []
    for name, shape in MODELS.items():
        for method, changes in METHODS.items():
            cells = [gib(need(shape, changes, cards=cards)) for cards in CARDS]
            lines.append(" | ".join([name, method, *cells, seconds(shape, changes)]))
            print(lines[-1], file=sys.stderr, flush=True)
    heads = ["model", "training", *(f"{cards} card{'s' * (cards > 1)}, GiB" for cards in CARDS), "s / 100 pairs, H100"]
    return table(" | ".join(heads), lines)


def against_measured() -> str:
    """Computed against what a card was measured to take."""
    lines = []
    for name, (shape, changes, tokens, measured) in MEASURED.items():
        computed = need(shape, changes, tokens).most / GIB  # type: ignore[union-attr]  # one card
        lines.append(f"{name} | {measured} | {computed:.1f} | {computed / measured - 1:+.0%}")
    return table("H100, torch 2.11 | measured GiB | computed GiB | error", lines)


SMALL_MODELS = {
    "80 M, 512 tokens": (llama(Shape(768, 2048, 8, 12, 4), 16_000), 512),
    "80 M, 2048 tokens": (llama(Shape(768, 2048, 8, 12, 4), 16_000), 2048),
}


def on_this_cpu() -> str:
    """Computed against the memory that a process took on this CPU."""
    lines = []
    for name, (shape, tokens) in SMALL_MODELS.items():
        done = subprocess.run([sys.executable, __file__, "--measure", name], capture_output=True, text=True, check=True)
        measured = float(done.stdout.splitlines()[-1])
        settings = TRAINING_METHODS.parse({"method": "mpo"})
        with without_data():
            beside = peak_beside_state(shape, settings, tokens, shape["num_hidden_layers"], recomputed=False)
        state = state_bytes(_shapes(json.dumps(shape)), settings)
        late = 4 * shape["vocab_size"] * shape["hidden_size"]  # see `Need`
        computed = (beside + state.weights + state.gradients - late) / 2**20
        lines.append(f"{name} | {measured:.0f} | {computed:.0f} | {computed / measured - 1:+.0%}")
    return table("CPU, float32 | measured MiB | computed MiB | error", lines)


def memory_now(name: str) -> float:
    """MiB of this process, by Linux: `VmRSS`, what it has, and `VmHWM`, the most that it had."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith(name)).split()[1]) / 2**10


def measure(name: str) -> None:
    """Prints the MiB that two passes take in this process, beside what it takes before it has a model."""
    shape, tokens = SMALL_MODELS[name]
    torch.set_num_threads(1)
    settings = TRAINING_METHODS.parse({"method": "mpo"})
    small = llama(Shape(64, 64, 1, 2, 1), 100)
    peak_beside_state(small, settings, 512, 1, recomputed=False)  # loads all libraries
    keep_heap()  # as in training
    before = memory_now("VmRSS")
    peak_beside_state(shape, settings, tokens, shape["num_hidden_layers"], recomputed=False)
    print(memory_now("VmHWM") - before)


def main() -> None:
    """Computes, prints, and writes the page if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="also train small models on this CPU, and compare")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/your-model.md")
    parser.add_argument("--measure", choices=SMALL_MODELS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure)
        return
    blocks = [against_measured()]
    if arguments.check or arguments.write:
        blocks.append(on_this_cpu())
    print("\n\n".join(blocks) + "\n", flush=True)
    blocks = [big_table(), *blocks]
    print(blocks[0])
    if arguments.write:
        put("your-model.md", "memory", "python benchmarks/memory.py --write", "\n\n".join(blocks))


if __name__ == "__main__":
    main()
