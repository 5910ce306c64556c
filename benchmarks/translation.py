"""How fast translation goes against a service of 50 ms latency, what the gates cost, and what memory it takes.

    python benchmarks/translation.py            # prints the tables; ten minutes
    python benchmarks/translation.py --quick    # fewer rows
    python benchmarks/translation.py --write    # into docs/translation.md

The service is the tests' own, in a process of its own, asked through the real client library. It translates the
embedded world exactly. Both sides of a ratio run in turn, in one run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from page import put

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
LATENCY, LIMIT, CONCURRENCY = 0.05, 20.0, 32


def _serve(latency: float, urls: Any) -> None:
    from tests.translation.service import Service, serving

    with serving(Service(latency=latency)) as service:
        urls.put(service.url)
        time.sleep(36_000)


@contextlib.contextmanager
def service() -> Iterator[str]:
    """The service's address, while it lasts."""
    context = multiprocessing.get_context("spawn")
    urls = context.Queue()
    process = context.Process(target=_serve, args=(LATENCY, urls), daemon=True)
    process.start()
    try:
        yield urls.get(timeout=60)
    finally:
        process.kill()
        process.join()


def stage_rate(url: str, texts: list[str], **more: Any) -> float:
    """Rows a second of the whole stage: taken apart, asked, kept, judged, as a table."""
    from mpo_core.settings import TranslationSettings
    from mpo_core.translation.build import build_chain
    from mpo_core.translation.replies import Replies
    from mpo_core.translation.translate import Text, translate_texts

    engine = {"engine": "deep_translator", "url": f"{url}/m", "concurrency": CONCURRENCY, **more}
    settings = TranslationSettings.model_validate({"engines": [engine]})
    wanted = [Text(str(number), "prompt", text) for number, text in enumerate(texts)]
    with tempfile.TemporaryDirectory() as folder, Replies(Path(folder) / "kept") as replies:
        begun = time.perf_counter()
        rows, _ = translate_texts(wanted, build_chain(settings, replies, lambda: None), source="en", target="sw")
        spent = time.perf_counter() - begun
    assert rows.num_rows == len(texts)
    # The first request of a limited stream needs no waiting: n requests have n - 1 gaps.
    return (len(texts) - 1) / spent


def library_rate(url: str, texts: list[str]) -> float:
    """Rows a second of deep-translator's own `translate_batch`."""
    from deep_translator import GoogleTranslator

    translator = GoogleTranslator(source="en", target="sw")
    translator._base_url = f"{url}/m"  # noqa: SLF001
    begun = time.perf_counter()
    translations = translator.translate_batch(texts)
    spent = time.perf_counter() - begun
    assert len(translations) == len(texts)
    return len(texts) / spent


def throughput(repeats: int, rows: int) -> list[dict[str, str]]:
    """The limit kept, and the ratio to the library's own loop."""
    from tests.translation.service import sentences

    limited, free, library = [], [], []
    with service() as url:
        stage_rate(url, sentences(2))  # libraries and the language identifier are loaded once in a process
        for _ in range(repeats):
            limited.append(stage_rate(url, sentences(200), requests_per_second=LIMIT) / LIMIT)
            library.append(library_rate(url, sentences(100)))
            free.append(stage_rate(url, sentences(rows)))
    ratios = [ours / theirs for ours, theirs in zip(free, library, strict=True)]
    return [
        {"what": f"share reached of a limit of {LIMIT:.0f} requests/s", "goal": "≥ 0.90", **_spread(limited, "{:.3f}")},
        {"what": "rows/s without a limit", "goal": "", **_spread(free, "{:.0f}")},
        {"what": "rows/s of deep-translator's `translate_batch`", "goal": "", **_spread(library, "{:.1f}")},
        {"what": "ours over that", "goal": "≥ 10", **_spread(ratios, "{:.1f}")},
    ]


def _spread(values: list[float], form: str) -> dict[str, str]:
    return {
        "median": form.format(statistics.median(values)),
        "least to most": f"{form.format(min(values))} to {form.format(max(values))}",
    }


def gates(rows: int) -> list[dict[str, str]]:
    """Milliseconds that all gates take for a row, by language."""
    from mpo_core import microworld
    from mpo_core.settings import TranslationGates
    from mpo_core.translation.gates import verdicts
    from tests.translation.service import sentences

    rows_of_table = []
    for target in microworld.LANGUAGES[1:]:
        spent = []
        for text in sentences(rows):
            translation = microworld.translate(text, "en", target)
            begun = time.perf_counter()
            verdicts(text, translation, source="en", target=target, settings=TranslationGates(), measures=True)
            spent.append((time.perf_counter() - begun) * 1e3)
        late = sorted(spent)[int(0.99 * (rows - 1))]
        rows_of_table.append(
            {"language": target, "median ms": f"{statistics.median(spent):.2f}", "99 %": f"{late:.2f}"}
        )
    return rows_of_table


def memory(sizes: list[int]) -> list[dict[str, str]]:
    """Peak memory of `mpo translate` by rows, each in a process of its own, with an engine that answers at once."""
    rows_of_table = []
    for rows in sizes:
        done = subprocess.run(
            [sys.executable, __file__, "--child", str(rows)], capture_output=True, text=True, check=True, cwd=ROOT
        )
        figures = json.loads(done.stdout.splitlines()[-1])
        each = figures["seconds"] / rows * 1e3
        rows_of_table.append({"rows": f"{rows:,}", "peak MiB": f"{figures['mib']:.0f}", "ms a row": f"{each:.2f}"})
    return rows_of_table


def child(rows: int) -> None:
    """Translates so many different rows, by an engine that answers at once; prints what it took."""
    from flows.translate_files import translate_file
    from mpo_core import microworld
    from mpo_core.contract.translation import Reply
    from mpo_core.settings.profiles import load_config
    from mpo_core.translation.engines.deep_translator import DeepTranslatorSource
    from tests.translation.service import sentences

    class Instant:
        name = identity = "instant"
        limit = None

        def check(self, source: str, target: str) -> None:
            pass

        def code(self, language: str) -> str:
            return language

        def translate(self, pieces: list[str], source: str, target: str, keep: Any) -> dict[str, Any]:
            replies = {}
            for piece in pieces:
                number, _, text = piece.partition(" ")
                replies[piece] = Reply(f"{number} {microworld.translate(text, source, target)}")
                keep(piece, replies[piece].text)
            return replies

    DeepTranslatorSource.open = lambda _, machine, **__: machine(Instant())
    known = sentences(1000)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "texts.txt"
        with file.open("w", encoding="utf-8") as out:
            for number in range(rows):
                out.write(f"{number} {known[number % len(known)]}\n")
        config = load_config(
            None,
            ["languages.targets=[sw]", f"run.root={folder}/root", "translation.engines=[{engine: deep_translator}]"],
        )
        begun = time.perf_counter()
        summary = translate_file(config, file, Path(folder) / "out.parquet", column="text")
        spent = time.perf_counter() - begun
    assert summary["languages"]["sw"]["translated"] == rows, summary
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"mib": peak, "seconds": spent}))


def table(rows: list[dict[str, str]]) -> str:
    """Markdown."""
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row.values()) + " |" for row in rows)])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--child", type=int)
    options = parser.parse_args()
    if options.child:
        child(options.child)
        return
    sizes = [1000, 10_000] if options.quick else [1000, 10_000, 200_000]
    blocks = [
        table(throughput(1 if options.quick else 3, 300 if options.quick else 1000)),
        table(gates(100 if options.quick else 1000)),
        table(memory(sizes)),
    ]
    text = "\n\n".join(blocks)
    print(text)
    if options.write:
        put("translation.md", "figures", "python benchmarks/translation.py --write", text)


if __name__ == "__main__":
    main()
