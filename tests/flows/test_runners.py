"""The same run on another runner gives the same bytes."""

import pytest

from tests.flows.conftest import run_small

pytestmark = pytest.mark.long


def artifacts(summary):
    return sorted(ref.path for ref in summary.artifacts)


def test_two_dask_workers_give_byte_equal_tables(warm, tmp_path):
    _, threads, _ = warm
    summary, here = run_small(tmp_path / "root", run__runner="dask")
    assert here == []  # nothing was computed in this process
    assert artifacts(summary) == artifacts(threads)
    assert sum(stage.state == "computed" for stage in summary.stages) > len(summary.stages) / 2
    again, _ = run_small(tmp_path / "root", run__runner="dask")
    assert {stage.state for stage in again.stages} == {"cached"}
