"""What the flow itself costs: data stages and both evaluations over many languages, with engines that answer at once.

    python benchmarks/overhead.py                      # 1, 10, 100 languages x 1,000 prompts
    python benchmarks/overhead.py --languages 1 10     # fewer
    python benchmarks/overhead.py --write              # into docs/scale.md

The flow is the real one, with Prefect's temporary server, the real cache, locks and records; what
the stages do is replaced by writing an empty table. Each size runs in a process of its own.
"""

import argparse
import itertools
import json
import os
import resource
import string
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from page import put
from prefect import flow

from flows import stages
from flows.run import start_run
from mpo_core.contract import tables
from mpo_core.contract.artifacts import Shard
from mpo_core.settings import PipelineConfig
from mpo_core.settings.profiles import parse_config
from tasks import evaluation, judging, pairs, reference, sampling, translation
from tasks.model import find_model

HERE = Path(__file__).resolve().parent
PROMPTS_EACH, BLOCK = 1000, 250
KINDS, SPLITS = ("harmful", "harmless"), ("train", "test")


@flow(name="overhead")
def whole(config: PipelineConfig) -> int:
    """All that is done per language and block; how many tasks it took."""
    with start_run(config) as run:
        base = find_model(run.config.model)
        made = stages.preference_pairs(run, base, stages.read_blocks(run))
        stages.measure(run, base, made, run.config.training)
        before = stages.evaluate(run, "before", base, made)
        stages.evaluate(run, "after", base, made, before)
        run.wait()
        return len(run.steps)


def measure(languages: int, root: str) -> dict[str, float]:
    """One cold run and one from the cache, in this process."""
    _instant()
    codes = [
        "".join(pair) for pair in itertools.islice(itertools.product("q", *[string.ascii_lowercase] * 2), languages)
    ]
    source = {"source": "microworld", "limit": PROMPTS_EACH // 4}
    sources = [
        source | {"kind": kind, "split": split} for kind in ("harmful", "harmless") for split in ("train", "test")
    ]
    settings = {
        "run": {"root": root, "block_size": BLOCK},
        "languages": {
            "targets": codes,
            "defined": [{"code": code, "name": code.upper(), "script": "Latn", "refusals": ["No."]} for code in codes],
        },
        "prompts": {"sources": sources},
        "translation": {"engines": [{"engine": "microworld"}]},
    }

    config = parse_config(settings, where="benchmarks/overhead.py")
    begun = time.perf_counter()
    tasks = whole(config)
    cold = time.perf_counter() - begun
    begun = time.perf_counter()
    whole(config)
    warm = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    blocks = (PROMPTS_EACH // BLOCK) * (languages + 1)
    return {"tasks": tasks, "blocks": blocks, "cold": cold, "warm": warm, "peak_mib": peak}


def _instant() -> None:
    """Every stage but the prompts writes an empty table and is done."""
    specs = {
        translation.translate_prompts: tables.TRANSLATIONS,
        translation.translate_answers: tables.TRANSLATIONS,
        sampling.sample_answers: tables.RESPONSES,
        judging.judge_answers: tables.VERDICTS,
        pairs.pair_dominant: tables.SOURCE_PAIRS,
        pairs.pair_target: tables.PAIRS,
        reference.measure_gaps: tables.GAPS,
        evaluation.evaluate_model: tables.METRICS,
        evaluation.compare_models: tables.COMPARISONS,
    }
    for task, spec in specs.items():

        def answer(store: Any, *, label: str, spec: Any = spec, **_: Any) -> Shard:
            return Shard(
                rows=store.write_table("instant", spec, spec.build([]), language=label.split("-", maxsplit=1)[0])
            )

        task.fn._function = answer  # noqa: SLF001 - the locks, records and events around it are what is measured


def main() -> None:
    """Measures each size in turn, prints the table, and writes it if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--languages", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--write", action="store_true", help="write the table into docs/scale.md")
    parser.add_argument("--alone", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        with tempfile.TemporaryDirectory() as root:
            print(json.dumps(measure(arguments.alone, root)))
        return
    lines = [
        "| languages | blocks of prompts | tasks | cold, s | ms a task | from the cache, s | MiB |",
        "|" + " --- |" * 7,
    ]
    for count in arguments.languages:
        with tempfile.TemporaryDirectory() as home:
            environment = os.environ | {
                "PREFECT_HOME": home,
                "PREFECT_LOGGING_LEVEL": "CRITICAL",
                "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
                "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
                "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
                "PYTHONPATH": str(HERE.parent),
            }
            environment.pop("PREFECT_API_URL", None)
            command = [sys.executable, __file__, "--alone", str(count)]
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            sys.exit(done.stderr[-3000:])
        figures = json.loads(done.stdout.splitlines()[-1])
        cells = [f"{count}", f"{figures['blocks']:,}", f"{figures['tasks']:,}", f"{figures['cold']:.1f}"]
        cells += [
            f"{1000 * figures['cold'] / figures['tasks']:.0f}",
            f"{figures['warm']:.1f}",
            f"{figures['peak_mib']:,.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    print("\n".join(lines))
    if arguments.write:
        put("scale.md", "overhead", "python benchmarks/overhead.py --write", "\n".join(lines))


if __name__ == "__main__":
    main()
