"""What ``status`` says of a board: numbers, words, keys."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from boards import DEAD, new_board, new_worker
from gunicorn_asgi.protocol.lifecycle import Outcome, WorkerState
from gunicorn_asgi.worker.command.report import Report, WorkerRow, as_table, look
from gunicorn_asgi.worker.scoreboard import Cell, Header, Scoreboard, milliseconds

__all__: list[str] = []

DOCS = Path(__file__).resolve().parent.parent.parent / "docs" / "command-line.md"
TABLES = [line for line in DOCS.read_text().splitlines() if line.startswith("|")]

READY, HOLDING, FAILED = WorkerState.READY, WorkerState.HOLDING, WorkerState.FAILED
BOOTING, DRAINING, EXITED = WorkerState.BOOTING, WorkerState.DRAINING, WorkerState.EXITED


@pytest.fixture
def board() -> Scoreboard:
    """Of a server that has started its first generation, of two workers."""
    found = new_board()
    found.begin_generation(2)
    return found


def states(report: Report) -> list[str]:
    return [row.state for row in report.workers]


def test_every_number_of_the_table_comes_from_its_own_cell(board: Scoreboard) -> None:
    """A mix-up of two columns would be believed."""
    new_worker(
        board,
        seconds_old=90,
        connections=7,
        in_flight=5,
        websockets=3,
        requests=1234,
        lag=2500,
        rss=64 << 20,
        beat_at=milliseconds(),
    )
    (row,) = look(board).workers
    assert row == WorkerRow(1, os.getpid(), "ready", 7, 5, 3, 1234, 2.5, 64 << 20, row.age_s, "", 1)
    assert 90 <= row.age_s < 100


def test_the_header_tells_the_generation_and_when_it_began(board: Scoreboard) -> None:
    board.begin_generation(3)
    board.put(Header.RELOADED_AT, milliseconds() - 65_000)
    report = look(board)
    assert (report.master, report.generation, report.wanted) == (os.getpid(), 2, 3)
    assert 65 <= report.since_s < 75


def test_ready_workers_are_counted_by_generation(board: Scoreboard) -> None:
    """A worker that holds still accepts; one that drains does not."""
    new_worker(board, HOLDING)
    new_worker(board, DRAINING)
    new_worker(board, READY)
    board.begin_generation(2)
    new_worker(board, READY)
    new_worker(board, BOOTING)
    report = look(board)
    assert (report.ready, report.ready_before, report.verdict) == (1, 2, "pending")
    assert states(report) == ["holding", "draining", "ready", "ready", "booting"]


def test_workers_are_listed_in_the_order_of_their_forks(board: Scoreboard) -> None:
    """Slots are taken again in any order; ages only grow."""
    slots = [new_worker(board, pid=os.getpid()) for _ in range(3)]
    for slot, age in zip(slots, (9, 4, 7), strict=True):
        slot.put(Cell.AGE, age)
        slot.put(Cell.REQUESTS, age)
    assert [row.requests for row in look(board).workers] == [4, 7, 9]


def test_a_heartbeat_that_is_overdue_is_lag(board: Scoreboard) -> None:
    """A stuck worker cannot write that it is stuck; the last lag it wrote was a small one."""
    new_worker(board, beat_at=milliseconds() - 6_000, lag=100)
    (row,) = look(board).workers
    assert 5_000 <= row.lag_ms < 15_000


def test_a_worker_that_has_not_beaten_yet_has_no_lag(board: Scoreboard) -> None:
    new_worker(board, BOOTING)
    assert [row.lag_ms for row in look(board).workers] == [0]


# -- who is shown ----------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [READY, DRAINING, EXITED, BOOTING])
def test_the_dead_of_an_older_generation_are_not_shown(
    board: Scoreboard, state: WorkerState
) -> None:
    new_worker(board, state, alive=False)
    board.begin_generation(1)
    new_worker(board, READY)
    assert states(look(board)) == ["ready"]


def test_failed_workers_of_an_older_generation_are_not_shown(board: Scoreboard) -> None:
    new_worker(board, FAILED, alive=False, error="long ago")
    board.begin_generation(1)
    new_worker(board, READY)
    assert states(look(board)) == ["ready"]


def test_failed_workers_of_the_newest_generation_are_shown_with_their_reason(
    board: Scoreboard,
) -> None:
    new_worker(board, READY, confirmed=1)
    board.begin_generation(1)
    new_worker(board, FAILED, alive=False, error="Traceback\nKeyError: 1\n")
    report = look(board)
    assert states(report) == ["ready", "failed"]
    assert (report.verdict, report.reason) == ("failed", "Traceback\nKeyError: 1")
    assert report.workers[1].error == "Traceback\nKeyError: 1"


def test_a_worker_killed_while_it_booted_is_shown_as_gone(board: Scoreboard) -> None:
    """It leaves no text."""
    new_worker(board, READY, confirmed=1)
    board.begin_generation(2)
    new_worker(board, BOOTING, alive=False)
    new_worker(board, EXITED, alive=False, stopped=1)
    report = look(board)
    assert states(report) == ["ready", "gone"]
    assert report.reason == f"ended without a word: worker {DEAD}"


def test_a_founder_that_left_too_early_is_a_reason(board: Scoreboard) -> None:
    """Neither failed nor killed, and still its generation was never complete."""
    new_worker(board, READY, confirmed=1)
    board.begin_generation(2)
    new_worker(board, EXITED, alive=False)
    new_worker(board, BOOTING)
    report = look(board)
    assert (report.verdict, report.reason) == ("failed", "a worker of it has left")
    assert states(report) == ["ready", "booting"]


def test_a_worker_that_was_killed_later_is_forgotten(board: Scoreboard) -> None:
    """Its generation was complete, another worker has its place."""
    new_worker(board, READY, alive=False, confirmed=1)
    new_worker(board, READY, confirmed=1)
    new_worker(board, READY, founder=False)
    report = look(board)
    assert (states(report), report.verdict) == (["ready", "ready"], "complete")


def test_no_more_failed_workers_are_shown_than_were_wanted(board: Scoreboard) -> None:
    """A worker that does not boot is forked again every 5 s: the last ones tell enough."""
    new_worker(board, READY, confirmed=1)
    board.begin_generation(2)
    for number in range(20):
        new_worker(board, FAILED, founder=number < 2, alive=False, error=f"attempt {number}")
    assert [row.error for row in look(board).workers] == ["", "attempt 18", "attempt 19"]


def test_a_worker_about_to_be_forked_has_no_pid_yet(board: Scoreboard) -> None:
    slot = new_worker(board, BOOTING)
    slot.put(Cell.PID, 0)
    report = look(board)
    assert [row.pid for row in report.workers] == [0]
    assert as_table(report).splitlines()[-1].split()[:3] == ["1", "-", "booting"]


# -- verdicts --------------------------------------------------------------------------------------


def test_a_refused_configuration_is_told_with_its_reason(board: Scoreboard) -> None:
    new_worker(board, EXITED, alive=False, confirmed=1)
    board.begin_generation(1, "Traceback\nSyntaxError: no\n")
    new_worker(board, READY, confirmed=1)
    report = look(board)
    assert (report.verdict, report.reason) == ("refused", "Traceback\nSyntaxError: no")
    board.begin_generation(1)
    new_worker(board, READY, confirmed=1)
    assert (look(board).verdict, look(board).reason) == ("complete", "")


def test_both_reasons_are_told_if_the_old_configuration_does_not_boot_either(
    board: Scoreboard,
) -> None:
    new_worker(board, READY, confirmed=1)
    board.begin_generation(1, "SyntaxError: no")
    new_worker(board, FAILED, alive=False, error="KeyError: 1")
    report = look(board)
    assert (report.verdict, report.reason) == ("failed", "SyntaxError: no\n\nKeyError: 1")


# -- the interface ---------------------------------------------------------------------------------

ROW = WorkerRow(2, 4711, "ready", 12, 3, 1, 99999, 0.4, 47_500_000, 245.0, "", 1)
REPORT = Report(
    master=4000,
    generation=2,
    wanted=2,
    since_s=245.3,
    verdict="failed",
    reason="Traceback\nKeyError: 1",
    ready=0,
    ready_before=1,
    workers=(ROW, replace(ROW, generation=3, pid=33, state="failed", age_s=200_000.0, worker=2)),
)


def test_every_word_and_column_is_documented() -> None:
    """docs/command-line.md, in backquotes, in a table."""
    words = {word for line in TABLES for word in re.findall(r"`([a-z_]+)`", line)}
    assert {each.value for each in Outcome} <= words
    assert {each.name.lower() for each in WorkerState} - {"exited"} <= words
    heads = as_table(REPORT).splitlines()[2]
    columns = re.split(r"  +", heads.strip())
    assert columns[1] == "pid"
    for column in (columns[0], *columns[2:]):
        assert any(line.startswith(f"| `{column}` |") for line in TABLES), column


def test_the_table_is_aligned_and_ends_with_the_reason() -> None:
    assert as_table(REPORT).splitlines() == [
        "master 4000, generation 2, reloaded 4m05s ago: failed, 0 of 2 ready, 1 older",
        "",
        "gen   pid  state   conns  in flight  ws  requests  lag ms   MiB    age  worker",
        "  2  4711  ready      12          3   1     99999     0.4  45.3  4m05s       1",
        "  3    33  failed     12          3   1     99999     0.4  45.3  2d07h       2",
        "",
        "KeyError: 1",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (59.9, "59s"),
        (60.0, "1m00s"),
        (3599.9, "59m59s"),
        (3600.0, "1h00m"),
        (86399.0, "23h59m"),
        (86400.0, "1d00h"),
    ],
)
def test_durations_are_as_short_as_they_can_be(seconds: float, text: str) -> None:
    report = replace(REPORT, generation=1, since_s=seconds, ready_before=0, reason="", workers=())
    expected = f"master 4000, generation 1, started {text} ago: failed, 0 of 2 ready"
    assert as_table(report).splitlines()[0] == expected
