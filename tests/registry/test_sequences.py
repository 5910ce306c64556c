"""Runs, realignments, promotions, rollbacks and damage in any order, against a model of the registry.

The model is a few lines of plain Python that share no code with the registry. After every step
both must say the same: which versions there are, which is in use, and what the last run was told.
"""

import uuid

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mpo_core import registry
from mpo_core.contract.artifacts import ArtifactRef, ArtifactStore
from mpo_core.contract.errors import BadInputError
from mpo_core.gate.decide import GateCheck, GateDecision
from tests.tiny_models import tiny_model

LANGUAGES = ("bn", "sw", "zh")
TARGETS = st.sets(st.sampled_from(LANGUAGES), min_size=1).map(lambda codes: tuple(sorted(codes)))


def measured(passed):
    check = GateCheck(name="target_unsafe", passed=passed, value=0.1, bound=0.2, explanation="measured")
    return GateDecision(promoted=passed, checks=[check])


class Sequences(RuleBasedStateMachine):
    """A model is what it was trained on: the same languages give the same bytes."""

    @initialize()
    def begin(self):
        self.store = ArtifactStore(f"memory://{uuid.uuid4().hex}")
        self.targets: list[tuple[str, ...]] = []  # by version
        self.stack: list[int] = []  # promotions that stand
        self.left: dict[int, str] = {}  # version → how a person took it out of use
        self.damaged: set[int] = set()

    def teardown(self):
        self.store.fs.rm(self.store.root.removeprefix("memory:/"), recursive=True)

    @property
    def current(self):
        return self.stack[-1] if self.stack else None

    def put_in_use(self, version, how=None):
        if how is not None and self.current not in (None, version):
            self.left[self.current] = how
        if version != self.current:
            self.stack.append(version)
        self.left.pop(version, None)

    def end_of_run(self, targets, passed, allow_fewer, realigned):
        if targets not in self.targets:
            self.targets.append(targets)
        version, current = self.targets.index(targets), self.current
        self.damaged.discard(version)  # a run looks at its model, and trains it again if it must
        model = tiny_model(self.store, ",".join(targets))
        entry = registry.Entry(run="demo", model=model, base="b", targets=list(targets), dominant="en")
        settled = registry.settle(self.store, entry, measured(passed), allow_fewer=allow_fewer, realigned=realigned)
        fits = passed
        if current != version:
            fewer = current is not None and not set(self.targets[current]) <= set(targets)
            unwanted = self.left.get(version) == "rollback" or (self.left.get(version) == "promotion" and not realigned)
            fits = passed and not unwanted and (allow_fewer or not fewer)
        if fits:
            self.put_in_use(version)
        assert settled.version.version == f"v{version + 1}"
        assert settled.gate.promoted is fits
        assert registry.versions(self.store)[version].gate.promoted is fits
        assert settled.version.promoted is (self.current == version)
        assert settled.in_use == (None if self.current is None else f"v{self.current + 1}")
        assert ("was promoted" in settled.outcome) is (self.current == version)

    @rule(codes=TARGETS, passed=st.booleans(), allow_fewer=st.booleans())
    def run(self, codes, passed, allow_fewer):
        self.end_of_run(codes, passed, allow_fewer, realigned=False)

    @rule(codes=TARGETS, passed=st.booleans(), allow_fewer=st.booleans())
    def realign(self, codes, passed, allow_fewer):
        """Only where the version in use leaves something to do."""
        if self.current is None or not set(codes) <= set(self.targets[self.current]):
            self.end_of_run(codes, passed, allow_fewer, realigned=self.current is not None)

    @precondition(lambda self: self.targets)
    @rule(data=st.data())
    def promote(self, data):
        version = data.draw(st.integers(0, len(self.targets)))
        try:
            registry.promote(self.store, f"v{version + 1}", who="Ann", why="I say so")
        except BadInputError:
            assert version == len(self.targets) or version in self.damaged
        else:
            assert version < len(self.targets)
            assert version not in self.damaged
            self.put_in_use(version, "promotion")

    @rule()
    def rollback(self):
        try:
            registry.rollback(self.store, who="Ann", why="rude")
        except BadInputError:
            assert not self.stack or (len(self.stack) > 1 and self.stack[-2] in self.damaged)
        else:
            gone = self.stack.pop()
            assert self.current not in self.damaged
            if gone != self.current:
                self.left[gone] = "rollback"
            self.left.pop(self.current, None)

    @precondition(lambda self: self.targets)
    @rule(data=st.data(), gone=st.booleans())
    def damage(self, data, gone):
        version = data.draw(st.integers(0, len(self.targets) - 1))
        if version in self.damaged:
            return
        model = registry.versions(self.store)[version].entry.model
        folder = f"{self.store.root.removeprefix('memory:/')}/{model.path}"
        if gone:
            self.store.fs.rm(folder, recursive=True)
        else:
            self.store.fs.pipe_file(f"{folder}/config.json", b"flipped")
        self.damaged.add(version)

    @precondition(lambda self: self.targets)
    @rule(data=st.data(), sha=st.sampled_from("xyz"))
    def evaluate(self, data, sha):
        version = data.draw(st.integers(0, len(self.targets) - 1))
        figures = ArtifactRef(stage="evaluation", path="evaluation/x.parquet", sha256=sha)
        version_now = registry.evaluated(self.store, f"v{version + 1}", figures, who="nightly", why="again")
        assert version_now.evaluation == figures

    @invariant()
    def both_say_the_same(self):
        known = registry.versions(self.store)
        assert [tuple(version.entry.targets) for version in known] == self.targets
        assert [version.promoted for version in known] == [n == self.current for n in range(len(self.targets))]
        promoted = registry.promoted(self.store)
        assert (None if promoted is None else promoted.version) == (
            None if self.current is None else f"v{self.current + 1}"
        )
        numbers = [event.sequence for event in registry.history(self.store)]
        assert numbers == list(range(1, len(numbers) + 1))


TestSequences = Sequences.TestCase
_EXAMPLES = 40 if settings.default.derandomize else settings.default.max_examples
TestSequences.settings = settings(stateful_step_count=12, max_examples=_EXAMPLES)
