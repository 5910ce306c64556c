"""The one decorator: what is in a key, what is a hit, what is tried again."""

import datetime as dt
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from prefect import flow
from prefect.context import TaskRunContext

from mpo_core.contract.artifacts import ArtifactRef, ArtifactStore, Shard
from mpo_core.contract.errors import BadInputError, DamagedError
from mpo_core.contract.tables import QUARANTINE, TRANSLATIONS
from mpo_core.settings import ModelSettings, RunSettings, SamplingSettings
from tasks.model import ModelFolder, find_model, trained_model
from tasks.stage import ContentKey, ShardSerializer, on_root, policy_of, stage, stopping, tell_progress
from tests.flows.conftest import ledger


def ref(sha="a", **changes):
    return ArtifactRef(stage="x", path=f"x/{sha}.parquet", sha256=sha, rows=1).model_copy(update=changes)


def key(version=1, verb="sample", **inputs):
    return ContentKey(stage="sampling", verb=verb, version=version).compute_key(None, inputs, {"run": "other"})


MODEL = ModelFolder(settings=ModelSettings(), sha256="m", folder="/somewhere")
PLAIN = {"settings": SamplingSettings(), "model": MODEL, "rows": ref(), "shard": Shard(rows=ref()), "language": "sw"}


@pytest.mark.parametrize(
    "changes",
    [
        {"store": object(), "label": "sw-test-000"},
        {"tokens_per_forward": 300},
        {"settings": SamplingSettings(batch_size=1)},
        {"rows": ref(path="elsewhere/a.parquet", rows=9, part="test", language="sw")},
        {"shard": Shard(rows=ref(), quarantine=ref("q"), counts={"a": 1}, seconds=9.0)},
        {"model": ModelFolder(settings=ModelSettings(device="cpu", path="b"), sha256="m", folder="/elsewhere")},
        {"model": ModelFolder(settings=ModelSettings(), sha256="m", ref=ref("m"))},
    ],
    ids=[
        "store and label",
        "memory",
        "batch size",
        "place of a table",
        "what is told of a shard",
        "device",
        "place of a model",
    ],
)
def test_what_is_no_content_is_not_in_the_key(changes):
    assert key(**PLAIN | changes) == key(**PLAIN)


def test_all_content_is_in_the_key():
    changes = [
        {"settings": SamplingSettings(max_new_tokens=3)},
        {"rows": ref("b")},
        {"shard": Shard(rows=ref("b"))},
        {"shard": Shard(rows=ref(), model=ref("m"))},
        {"shard": None},
        {"shard": [Shard(rows=ref())]},
        {"model": MODEL.model_copy(update={"sha256": "n"})},
        {"model": ModelFolder(settings=ModelSettings(system="Be kind."), sha256="m", folder="/somewhere")},
        {"language": "zh"},
        {"another": None},
    ]
    keys = [key(**PLAIN | change) for change in changes]
    keys += [key(**PLAIN), key(version=2, **PLAIN), key(verb="judge", **PLAIN)]
    assert len(set(keys)) == len(keys)
    assert all(key.startswith(("sample-", "judge-")) for key in keys)


def test_shards_count_in_their_order():
    pair = [Shard(rows=ref("a")), Shard(rows=ref("b"))]
    assert key(rows=pair) != key(rows=pair[::-1])


@pytest.mark.parametrize("value", [object(), {"a": 1}, Path("x"), dt.date(2025, 1, 1), [b"x"]])
def test_an_input_that_is_no_content_is_refused(value):
    with pytest.raises(TypeError, match="a stage's input must be content, not "):
        key(value=value)


def table(text="chai"):
    return TRANSLATIONS.build(
        [
            {
                "prompt_id": "1",
                "role": "prompt",
                "language": "sw",
                "text": text,
                "engine": "memory",
                "weight": 1.0,
                "marks": [],
                "gates": [],
            }
        ]
    )


def test_a_record_is_readable_while_its_artifacts_are_intact(monkeypatch, tmp_path):
    store = ArtifactStore(str(tmp_path))
    monkeypatch.setattr(TaskRunContext, "get", lambda: SimpleNamespace(parameters={"store": store}))
    shard = Shard(
        rows=store.write_table("x", TRANSLATIONS, table()),
        quarantine=store.write_table("x", QUARANTINE, QUARANTINE.build([])),
        counts={"safe": 1},
    )
    record = ShardSerializer().dumps(shard)
    assert ShardSerializer().loads(record) == shard
    for damaged in (shard.rows, shard.quarantine):
        path = store.local_path(damaged.path)
        data = path.read_bytes()
        path.write_bytes(data[:-1])
        with pytest.raises(DamagedError, match=damaged.sha256):
            ShardSerializer().loads(record)
        path.write_bytes(data)
    # Of a failure the kind is kept and not the text, which could quote a prompt.
    assert json.loads(ShardSerializer().dumps(ValueError("harmful text"))) == "<class 'ValueError'>"


calls = []


@stage("translation", verb="write")
def write(text: str, fails: int, bad: bool, *, store: ArtifactStore, label: str) -> Shard:
    calls.append(label)
    tell_progress(1, 2)
    if len(calls) <= fails:
        if bad:
            raise BadInputError("wrong", where="here", fix="Fix it.")
        raise OSError("try again")
    return Shard(rows=store.write_table("translation", TRANSLATIONS, table(text)), counts={"rows": 1})


def run(root, text="chai", fails=0, bad=False, label="sw", retries=2):
    """One task in a real flow: the state it ended in, and how often it was called."""
    store = ArtifactStore(str(root))
    task = on_root(write, store, RunSettings(retries=retries, retry_delay=0.0))
    states = []

    @flow(name="test-stage")
    def whole():
        future = task.submit(text, fails, bad, store=store, label=label)
        future.wait()
        states.append(future.state)
        return "done"

    calls.clear()
    stopping.clear()  # as `start_run` does: a run that failed in this process leaves it set
    whole()
    return states[0], len(calls)


def test_a_task_computes_once_and_is_cached_whatever_it_is_called(prefect_server, tmp_path):
    with ledger() as ran:
        first, computed = run(tmp_path)
        again, called = run(tmp_path, label="another")
    assert (first.name, computed, again.name, called) == ("Completed", 1, "Cached", 0)
    assert ran == ["write-sw"]
    shard, cached = first.result(), again.result()
    assert shard == cached
    assert shard.seconds > 0
    assert run(tmp_path, text="mkate")[1] == 1


def test_a_damaged_artifact_is_computed_again(prefect_server, tmp_path):
    shard = run(tmp_path)[0].result()
    (tmp_path / shard.rows.path).write_bytes(b"x")
    state, computed = run(tmp_path)
    assert (state.name, computed) == ("Completed", 1)
    assert state.result().rows == shard.rows
    assert run(tmp_path)[1] == 0


@pytest.mark.parametrize(
    ("bad", "fails", "retries", "computed", "name"),
    [
        (True, 9, 2, 1, "Failed"),
        (False, 2, 2, 3, "Completed"),
        (False, 9, 2, 3, "Failed"),
        (False, 9, 0, 1, "Failed"),
    ],
    ids=["bad input", "a passing failure", "a lasting failure", "no retries"],
)
def test_all_but_bad_input_is_tried_again(prefect_server, tmp_path, bad, fails, retries, computed, name):
    state, called = run(tmp_path, fails=fails, bad=bad, retries=retries)
    assert (called, state.name) == (computed, name)
    if name == "Failed":
        with pytest.raises(BadInputError if bad else OSError):
            state.result()
        # A failure is no result: the next run tries anew.
        assert run(tmp_path, fails=0, bad=bad)[1] == 1


def test_policy_of_knows_stages_only():
    from prefect import task

    assert (policy_of(write).stage, policy_of(write).verb, policy_of(write).version) == ("translation", "write", 1)
    with pytest.raises(TypeError, match="was not made by @stage"):
        policy_of(task(lambda: None, name="other"))


def test_a_model_is_its_files_wherever_they_lie(tmp_path):
    import shutil

    from mpo_core.microworld import checkpoint_dir

    shipped = find_model(ModelSettings())
    copy = Path(shutil.copytree(checkpoint_dir(), tmp_path / "model"))
    moved = find_model(ModelSettings(path=str(copy)))
    assert moved.sha256 == shipped.sha256
    assert key(model=moved) == key(model=shipped)
    template = tmp_path / "t.jinja"
    template.write_text("{{ messages[0]['content'] }}")
    other = find_model(ModelSettings(path=str(copy), chat_template=str(template)))
    assert other.sha256 != shipped.sha256
    trained = trained_model(other, Shard(rows=ref(), model=ref("new")))
    assert (trained.sha256, trained.settings.chat_template) == ("new", None)
    with pytest.raises(DamagedError, match="training gave no model"):
        trained_model(other, Shard(rows=ref()))


def test_a_machine_finds_a_base_model_that_it_has_elsewhere(tmp_path):
    from mpo_core.microworld import checkpoint_dir

    store, here = ArtifactStore(str(tmp_path)), find_model(ModelSettings())
    there = here.model_copy(update={"folder": str(tmp_path / "of another machine")})
    with there.open(store) as folder:
        assert folder == checkpoint_dir().resolve()
    other = there.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(BadInputError, match="another model"), other.open(store):
        pass
