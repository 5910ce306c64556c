"""A small run of the real pipeline, and a ledger of what it computed."""

import contextlib
import pickle
import shutil

import pytest
from filelock import FileLock

from mpo_core.settings import GateSettings
from mpo_core.settings.profiles import parse_config
from tests.session import SESSION

# The small training moves little, and its prompts are few; what is tested is the road, not the model.
LENIENT = {name: 1.0 for name in GateSettings.model_fields if name.startswith("max_")} | {"min_target_drop": 0.0}


def small_settings(root, **changes):
    """Two languages, a handful of prompts, four training steps: the whole road in seconds."""
    sources = [
        {"source": "microworld", "kind": kind, "split": split, "limit": 6}
        for split in ("train", "test")
        for kind in ("harmful", "harmless")
    ]
    settings = {
        "run": {"name": "small", "root": str(root), "retries": 0},
        "languages": {"dominant": "en", "targets": ["sw", "zh"]},
        "prompts": {"sources": sources},
        "translation": {"engines": [{"engine": "microworld"}]},
        "sampling": {"max_new_tokens": 32, "batch_size": 64},
        "judging": {"judge": "microworld"},
        "training": {
            "learning_rate": 3e-4,
            "batch_size": 8,
            "gradient_accumulation": 1,
            "max_steps": 4,
            "save_every": 1,
            "cutoff": 128,
            "threads": 1,
        },
        "evaluation": {"sampling": {"max_new_tokens": 32, "batch_size": 64}, "parallel_text": "microworld"},
    }
    for key, value in changes.items():
        *parents, leaf = key.split("__")
        node = settings
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return settings


@contextlib.contextmanager
def ledger():
    """The tasks that computed while the context lasts, as `verb-label`."""
    from tasks.stage import listeners

    ran = []

    def listen(event):
        if event.kind == "started":
            ran.append(f"{event.verb}-{event.label}")

    listeners.append(listen)
    try:
        yield ran
    finally:
        listeners.remove(listen)


def run_small(root, **changes):
    """Runs the flow; gives its summary and what it computed."""
    from flows.full_pipeline import full_pipeline

    config = parse_config(small_settings(root, **changes), where="test")
    with ledger() as ran:
        summary = full_pipeline(config)
    return summary, sorted(ran)


@pytest.fixture(scope="session")
def small_run(prefect_server):
    """The small run, which is made once for all processes of the session: its root, summary, and what it computed."""
    root, outcome = SESSION / "small", SESSION / "small.pickle"
    with FileLock(SESSION / "small.lock"):
        if not outcome.exists():
            outcome.write_bytes(pickle.dumps(run_small(root)))
    return root, *pickle.loads(outcome.read_bytes())  # noqa: S301 - our own bytes


@pytest.fixture(scope="module")
def warm(small_run, tmp_path_factory):
    """A copy of that root for this file's tests to change, with the summary and what was computed."""
    root, summary, ran = small_run
    copy = tmp_path_factory.mktemp("root")
    shutil.copytree(root, copy, dirs_exist_ok=True)
    return copy, summary, ran
