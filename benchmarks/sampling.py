"""Measures how fast the backend `transformers` samples, beside plain `generate`, and what memory it takes.

    python benchmarks/sampling.py            # prints the tables; ten minutes on one core
    python benchmarks/sampling.py --quick    # one repeat, fewer prompts in the table of memory
    python benchmarks/sampling.py --write    # into docs/speed.md
    python benchmarks/sampling.py --device cuda    # on a GPU: a model of 1.5 billion parameters

The microworld's model answers its own requests greedily, joined until they have the lengths of MultiJail's prompts:
`LENGTHS` are deciles of token counts, measured once with a byte-level BPE of 16,000 tokens trained on them. All sides
run in turn in one process on one core, and their answers are compared. The memory is measured in processes of its own.

With `--device` a model of the shape of Qwen2.5-1.5B with random weights answers 256 such prompts of English lengths
with 128 tokens each, in bfloat16 and at default settings, once with each kind of KV cache in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

from page import put

PROMPTS, NEW_TOKENS, FIXED = 315, 32, 32
LENGTHS = {
    "English": (3, 7, 8, 9, 10, 12, 14, 16, 19, 28, 207),
    "Bengali": (10, 23, 27, 29, 33, 36, 42, 51, 66, 84, 639),
}
LONGEST = 200  # tokens of a prompt; the model's context is 256
MEMORY = (315, 1260, 5040)
DEVICE_PROMPTS, DEVICE_TOKENS = 256, 128
SHAPE = {
    "vocab_size": 151_936,
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}
SIDES = ("ours", "fixed", "single")
COMMAND = "python benchmarks/sampling.py --write"


class Figure(NamedTuple):
    """A median with the lowest and the highest measurement."""

    median: float
    low: float
    high: float

    def text(self, digits: int = 0) -> str:
        """Returns the figure as the page shows it."""
        low, middle, high = (f"{value:,.{digits}f}" for value in (self.low, self.median, self.high))
        return middle if low == high else f"{middle} ({low} to {high})"


def figure(values: Sequence[float]) -> Figure:
    """Returns the median of measurements with their range."""
    return Figure(statistics.median(values), min(values), max(values))


def main() -> None:
    """Measures and prints or writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one repeat, fewer prompts")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/speed.md")
    parser.add_argument("--repeats", type=int, default=5, help="repeats of every side")
    parser.add_argument("--device", help="measure a model of 1.5 billion parameters on this device, such as cuda")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        print(json.dumps(peak_memory(options.memory_of)))
        return
    if options.device:
        print(on_device(options.device, 1 if options.quick else options.repeats, SHAPE))
        return
    block = f"{speed(1 if options.quick else options.repeats)}\n\n{memory(MEMORY[:2] if options.quick else MEMORY)}"
    print(block)
    if options.write:
        put("speed.md", "sampling", COMMAND, block)


def speed(repeats: int) -> str:
    """Returns the table of tokens per second, for the prompt lengths of each language."""
    rows = [
        "| lengths of | side | answer tokens/s | ours over it |",
        "|---|---|---|---|",
    ]
    world = World()
    for language, deciles in LENGTHS.items():
        texts = world.prompts(PROMPTS, deciles)
        world.measure("ours", texts[:8])  # what is computed once is not measured
        rates: dict[str, list[float]] = {side: [] for side in SIDES}
        for _ in range(repeats):
            answers = {}
            for side in SIDES:
                rate, answers[side] = world.measure(side, texts)
                rates[side].append(rate)
            assert answers["ours"] == answers["fixed"] == answers["single"]
        for side in SIDES:
            ratio = figure([own / other for own, other in zip(rates["ours"], rates[side], strict=True)])
            shown = "" if side == "ours" else ratio.text(2)
            rows.append(f"| {language} | {side} | {figure(rates[side]).text()} | {shown} |")
    return "\n".join(rows)


def on_device(name: str, repeats: int, shape: dict[str, Any]) -> str:
    """Returns the table of tokens per second of a model of this shape with random weights, on a device."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from mpo_core.contract.sampling import GenerationSettings
    from mpo_core.models.load import pick_device

    device = torch.device(pick_device(name, where="--device"))
    on_gpu = device.type == "cuda"
    world = World()
    texts = world.prompts(DEVICE_PROMPTS, LENGTHS["English"])
    torch.manual_seed(0)
    with device:
        model = Qwen2ForCausalLM(Qwen2Config(**shape, eos_token_id=None)).bfloat16().eval()
    world.model, kinds = model, ("auto", "dynamic")
    settings = GenerationSettings(max_new_tokens=DEVICE_TOKENS)
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    peaks, answers = dict.fromkeys(kinds, 0.0), {}
    for kind in kinds:
        world.generate(texts[:8], settings, cache=kind)  # libraries load their kernels
    for _ in range(repeats):
        for kind in kinds:
            if on_gpu:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            started = time.perf_counter()
            answers[kind] = world.generate(texts, settings, cache=kind)
            rates[kind].append(sum(tokens for _, tokens in answers[kind]) / (time.perf_counter() - started))
            peaks[kind] = torch.cuda.max_memory_reserved() / 2**30 if on_gpu else _peak_mib() / 2**10
    equal = sum(ours == other for ours, other in zip(*answers.values(), strict=True))
    card = torch.cuda.get_device_name() if on_gpu else "CPU"
    title = f"{card}, PyTorch {torch.__version__}, {model.num_parameters() / 1e9:.2f} B parameters, {repeats} repeats"
    rows = [title, "", "| cache | answer tokens/s | peak GiB |", "|---|---|---|"]
    rows += [f"| {kind} | {figure(rates[kind]).text()} | {peaks[kind]:.1f} |" for kind in kinds]
    return "\n".join([*rows, "", f"equal answers: {equal} of {len(texts)}"])


def memory(counts: Sequence[int]) -> str:
    """Returns the table of peak memory by the number of prompts."""
    rows = ["| prompts | peak MiB | of these before sampling |", "|---|---|---|"]
    for count in counts:
        command = [sys.executable, __file__, "--memory-of", str(count)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        before, peak = json.loads(done.stdout)
        rows.append(f"| {count:,} | {peak:,} | {before:,} |")
    return "\n".join(rows)


def peak_memory(count: int) -> tuple[int, int]:
    """Samples answers to so many prompts; returns the peak resident memory before and after it, in MiB."""
    world = World()
    texts = world.prompts(count, LENGTHS["English"])
    world.measure("single", texts[:2])
    before = _peak_mib()
    world.measure("ours", texts)
    return before, _peak_mib()


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**10


class World:
    """The microworld's model with its tokenizer."""

    def __init__(self) -> None:
        import torch

        from mpo_core.models import load_model, load_tokenizer, resolve
        from mpo_core.settings import ModelSettings

        torch.set_num_threads(1)
        settings = ModelSettings()
        folder = resolve(settings)
        self._tokenizer, self.model = load_tokenizer(folder, settings), load_model(folder, settings)

    def prompts(self, count: int, deciles: Sequence[int]) -> list[str]:
        """Returns prompts of requests of the microworld, in random order, with lengths of this distribution."""
        from mpo_core import microworld

        draw = random.Random(0)  # noqa: S311 - a benchmark
        kinds = ("harmful", "harmless")
        requests = [item.prompt("en") for kind in kinds for item in microworld.items("test", kind, limit=100, seed=0)]
        return [self._of_length(_quantile(deciles, draw.random()), requests, draw) for _ in range(count)]

    def _of_length(self, tokens: int, requests: Sequence[str], draw: random.Random) -> str:
        text = draw.choice(requests)
        while len(self._ids(text)) < min(tokens, LONGEST):
            text += f" {draw.choice(requests)}"
        return text

    def _ids(self, text: str) -> list[int]:
        from mpo_core.models.chat import encode_prompt

        return encode_prompt(self._tokenizer, text)

    def measure(self, side: str, texts: Sequence[str]) -> tuple[float, list[str]]:
        """Returns the answer tokens per second of the process's time, and the answers."""
        answer: Callable[[Sequence[str]], list[tuple[str, int]]] = {
            "ours": self._ours,
            "fixed": lambda every: self._plain(every, FIXED),
            "single": lambda every: self._plain(every, 1),
        }[side]
        started = time.process_time()
        answers = answer(texts)
        seconds = time.process_time() - started
        return sum(tokens for _, tokens in answers) / seconds, [text for text, _ in answers]

    def _ours(self, texts: Sequence[str]) -> list[tuple[str, int]]:
        from mpo_core.contract.sampling import GenerationSettings

        return self.generate(texts, GenerationSettings(max_new_tokens=NEW_TOKENS))

    def generate(self, texts: Sequence[str], settings: Any, **options: Any) -> list[tuple[str, int]]:
        """Returns the answers of the backend `transformers` with their numbers of tokens."""
        from mpo_core.contract.sampling import Answer, SampleRequest
        from mpo_core.sampling.generate import generate

        requests = [SampleRequest(str(number), text, 0, number) for number, text in enumerate(texts)]
        replies = generate(self.model, self._tokenizer, requests, settings, **options)
        return [(reply.text, reply.tokens or 0) for reply in replies if isinstance(reply, Answer)]

    def _plain(self, texts: Sequence[str], size: int) -> list[tuple[str, int]]:
        """Answers in batches of a fixed size and in the order of the prompts, as a loop around `generate` does."""
        import torch

        end, pad = self._tokenizer.eos_token_id, self._tokenizer.pad_token_id
        answers = []
        for start in range(0, len(texts), size):
            rows = [self._ids(text) for text in texts[start : start + size]]
            width = max(map(len, rows))
            ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
            with torch.inference_mode():
                output: Any = self.model.generate(
                    input_ids=ids, attention_mask=mask, max_new_tokens=NEW_TOKENS, do_sample=False
                )
            for new in output[:, width:].tolist():
                stop = new.index(end) + 1 if end in new else len(new)
                answers.append((self._tokenizer.decode(new[:stop], skip_special_tokens=True), stop))
        return answers


def _quantile(deciles: Sequence[int], share: float) -> int:
    at = share * (len(deciles) - 1)
    low = deciles[int(at)]
    return round(low + (at - int(at)) * (deciles[min(int(at) + 1, len(deciles) - 1)] - low))


if __name__ == "__main__":
    main()
