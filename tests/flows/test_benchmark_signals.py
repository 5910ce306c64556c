"""A benchmark ends at a signal as the command does, with the trainings that it has started."""

import importlib.util
import os
import signal
from pathlib import Path

import pytest

SIDE_BY_SIDE = Path(__file__).resolve().parents[2] / "benchmarks" / "side_by_side.py"


def test_a_benchmark_ends_at_a_signal_and_lets_its_flows_end_at_one():
    from flows import progress

    def ended_within(context):
        with context:
            assert progress.board is not None  # flows of a command that shows its progress catch signals themselves
            os.kill(os.getpid(), signal.SIGTERM)

    spec = importlib.util.spec_from_file_location("side_by_side", SIDE_BY_SIDE)
    side_by_side = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(side_by_side)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(SystemExit) as end:
            ended_within(side_by_side.forked())
        assert end.value.code == 143
        assert progress.board is None
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
