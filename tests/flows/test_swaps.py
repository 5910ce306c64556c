"""The swap check on real stages: swapped answers of training pairs, and what each action makes of them."""

from collections import Counter

import pytest
from prefect import flow

from flows import stages
from flows.run import start_run
from flows.swaps import check_swaps
from mpo_core.contract.tables import PAIRS, QUARANTINE
from mpo_core.settings.profiles import parse_config
from tasks.model import find_model
from tasks.pairs import flip_pairs
from tests.flows.conftest import ledger, small_settings


@flow
def checked(config, share):
    """The pairs of Swahili: clean, flipped, and after the check; what it rejected; and the counts by language."""
    with start_run(config) as run:
        base = find_model(run.config.model)
        clean = stages.preference_pairs(run, base, stages.read_blocks(run))
        key = next(key for key in clean.of("train").target if key[0] == "sw")
        flipped = run.submit(flip_pairs, pairs=clean.target[key], share=share, seed=0, language="sw", label="sw")
        pairs = check_swaps(run, base, clean._replace(target=clean.target | {key: flipped}))
        steps = run.wait()
        shards = [run.result(future) for future in (clean.target[key], flipped, pairs.target[key])]
        tables = [run.store.read_table(shard.rows, PAIRS).to_pylist() for shard in shards]
        quarantine = shards[-1].quarantine
        rejected = [] if quarantine is None else run.store.read_table(quarantine, QUARANTINE).to_pylist()
        counts = {step.shard.rows.language: step.shard.counts for step in steps if step.verb == "swaps"}
        return tables, rejected, counts


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("root")


def settings(root, action):
    changes = small_settings(root, pairs={"swap_check": action})
    limits = {"train": 10, "validation": 12, "test": 1}
    changes["prompts"]["sources"] = [
        {"source": "microworld", "kind": kind, "split": split, "limit": limit}
        for split, limit in limits.items()
        for kind in ("harmful", "harmless")
    ]
    return parse_config(changes, where="test")


@pytest.mark.parametrize("action", ["drop", "swap_back", "mark", None])
def test_each_action(prefect_server, root, action):
    with ledger() as ran:
        (clean, flipped, after), rejected, counts = checked(settings(root, action), 0.4)
    wrong = {row["pair_id"] for row, other in zip(clean, flipped, strict=True) if row != other}
    assert len(wrong) == 8
    states = {name for name in ran if name.startswith("states-")}
    assert not states or states == {f"states-{c}-{s}" for c in ("en", "sw", "zh") for s in ("train", "validation")}
    if action is None:
        assert (after, counts) == (flipped, {})
        return
    assert counts["sw"] == {"order_known": 24, "order_confirmed": 24, "order_acts": 1, "swapped": 8}
    assert counts["zh"]["swapped"] == 0
    if action == "drop":
        assert {row["row_id"] for row in rejected} == wrong
        assert {row["reason"] for row in rejected} == {"swapped"}
        assert after == [row for row in clean if row["pair_id"] not in wrong]
    else:
        assert rejected == []
        assert after == (clean if action == "swap_back" else flipped)


@flow
def limited(config):
    """Kinds of the target pairs by language and split, and the reasons for which training pairs are rejected."""
    with start_run(config) as run:
        pairs = stages.preference_pairs(run, find_model(run.config.model), stages.read_blocks(run))
        shards = {key: run.result(future) for key, future in pairs.target.items()}
        kinds = {
            (language, stages.split(block)): Counter(run.store.read_table(shard.rows, PAIRS)["kind"].to_pylist())
            for (language, block), shard in shards.items()
        }
        rejected = [
            run.store.read_table(shard.quarantine, QUARANTINE)["reason"].to_pylist()
            for (_, block), shard in shards.items()
            if stages.split(block) == "train"
        ]
        return kinds, rejected


def test_quotas_limit_training_pairs_alone(prefect_server, root):
    config = settings(root, None)
    quotas = config.pairs.model_copy(update={"harmless_share": 0.2, "max_per_language": 10})
    kinds, rejected = limited(config.model_copy(update={"pairs": quotas}))
    for language in ("sw", "zh"):
        assert kinds[language, "train"] == {"harmful": 8, "harmless": 2}
        assert kinds[language, "validation"] == {"harmful": 12, "harmless": 12}
    assert rejected == [["kind_quota"] * 10] * 2
