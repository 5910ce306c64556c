"""A command whose stderr is no terminal says how far it is: a line per stage, and one every so often."""

import io
import re
import time

import pytest
from rich.console import Console

from flows import progress, progress_lines
from mpo_core.contract.errors import BadInputError
from tasks.stage import Event


@pytest.fixture
def written(monkeypatch):
    monkeypatch.setattr(progress_lines, "INTERVAL", 0.1)
    return io.StringIO()


def work(board, name, total):
    for _ in range(total):
        board.submitted(name)
    for number in range(total):
        board.heard(Event(name, f"{number}", "started"))
        board.settled(name, cached=number % 2 == 1)


def test_every_stage_has_a_line_when_it_ends(written, monkeypatch):
    monkeypatch.setattr(progress_lines, "INTERVAL", 30.0)
    with progress.show(Console(file=written)):
        work(progress.board, "translate", 3)
        work(progress.board, "train", 1)
    lines = written.getvalue().splitlines()
    assert [re.sub(r"[\d.]+ s$", "… s", line) for line in lines] == [
        "translate: 3 of 3 tasks done, 1 from cache, … s",
        "train: 1 of 1 tasks done, … s",
    ]


def test_a_long_stage_has_a_line_every_interval_with_the_time_left(written):
    with progress.bar(Console(file=written), "training") as update:
        for step in range(1, 5):
            update(step, 10)
            time.sleep(0.12)
    lines = written.getvalue().splitlines()
    assert len(lines) >= 4
    assert re.fullmatch(r"training: [123] of 10, about [\d.]+ s left", lines[0])
    assert re.fullmatch(r"training: 1 of 1 tasks done, [\d.]+ s", lines[-1])


def test_tasks_that_are_added_later_have_a_clock_of_their_own():
    board = progress_lines.Lines(Console(file=io.StringIO()))
    work(board, "sample", 2)
    stage = board._stages["sample"]
    stage.begun -= 1000
    work(board, "sample", 1)
    for _ in range(4):
        board.submitted("sample")
    board.heard(Event("sample", "sw", "started"))
    board.settled("sample", cached=False)
    assert (stage.done, stage.total) == (4, 7)
    assert stage.seconds_left(stage.begun + 10) == 30  # three of these four are left, at ten seconds each


def test_the_time_left_knows_how_large_the_tasks_are():
    board = progress_lines.Lines(Console(file=io.StringIO()))
    for label, size in (("en-train", 150), ("en-validation", 20), ("en-test", 30), ("sw-train", 150)):
        board.submitted("sample", label, size)
    stage = board._stages["sample"]
    board.heard(Event("sample", "en-train", "progress", done=50, total=150))
    assert stage.seconds_left(stage.begun + 10) == pytest.approx(60)  # 50 of 350 in ten seconds
    board.settled("sample", "sw-train", cached=True)
    assert stage.seconds_left(stage.begun + 10) == pytest.approx(30)  # 50 of 200: what the cache had took no time
    board.heard(Event("sample", "en-train", "finished"))
    board.settled("sample", "en-train", cached=False)
    assert stage.seconds_left(stage.begun + 30) == pytest.approx(10)


def test_a_stage_of_many_tasks_says_how_many_are_done(written):
    with progress.show(Console(file=written)):
        for _ in range(4):
            progress.board.submitted("sample")
        progress.board.heard(Event("sample", "sw", "progress", done=3, total=8))
        progress.board.settled("sample", cached=False)
        deadline = time.monotonic() + 60
        wanted = re.compile(r"^sample: 1 of 4 tasks, sw 3 of 8, about [\d.]+ s left$", re.MULTILINE)
        while not wanted.search(written.getvalue()) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert wanted.search(written.getvalue())


def test_a_command_between_its_tasks_says_so(written):
    with progress.show(Console(file=written)):
        time.sleep(0.25)
        work(progress.board, "translate", 1)
        time.sleep(0.25)
    lines = [line for line in written.getvalue().splitlines() if not line.startswith("translate: 1 of 1")]
    assert lines[0] == "starting"
    assert lines[-1] == "preparing the next task"
    assert set(lines) == {lines[0], lines[-1]}


def test_refused_input_is_one_line_and_no_progress(written, monkeypatch):
    monkeypatch.setattr(progress_lines, "INTERVAL", 30.0)

    def refused():
        with progress.show(Console(file=written)):
            work(progress.board, "translate", 3)
            raise BadInputError("wrong", where="here", fix="Fix it.")

    with pytest.raises(BadInputError):
        refused()
    assert written.getvalue() == ""


def test_a_terminal_has_bars_instead(written):
    with progress.show(Console(file=written, force_terminal=True)):
        assert isinstance(progress.board, progress.Board)
