"""worker/obituary.py: what is told of workers that could say nothing themselves."""

from __future__ import annotations

import os

import pytest

from boards import DEAD, new_board, new_worker, owner
from gunicorn_asgi.aio.state import Progress
from gunicorn_asgi.protocol.lifecycle import WorkerState
from gunicorn_asgi.worker.obituary import in_words, tell_of_the_lost
from gunicorn_asgi.worker.openrequests import OpenEntry
from gunicorn_asgi.worker.scoreboard import Cell, Scoreboard, Slot
from kit.fakes import FakeLog

__all__: list[str] = []

S = WorkerState


@pytest.fixture
def board() -> Scoreboard:
    """Of the first generation."""
    board = new_board()
    board.begin_generation(2)
    return board


def told_by(board: Scoreboard, slot: Slot, *, shown: bool = True) -> list[str]:
    """What the worker in ``slot`` says when it boots."""
    log = FakeLog()
    tell_of_the_lost(board, slot, log, shown=shown)
    return log.lines("error")


def test_a_killed_worker_is_told_of_by_the_next_with_its_open_requests(board: Scoreboard) -> None:
    killed = new_worker(board, alive=False)
    table = killed.open_requests()
    table.begin(owner("/slow?a=b", request_id="4bf92f35"))
    table.end(table.begin(owner("/over")))
    table.begin(owner("/chat", client=None))
    (line,) = told_by(board, new_worker(board, S.BOOTING))
    head, _, words = line.partition("(GET")
    assert head == f"Worker ended without a word (pid: {DEAD}) while ready, open requests: 2 "
    assert words == (
        " '/slow?a=b' (request 4bf92f35) of 192.0.2.1:5, 0.0 s old; GET '/chat', 0.0 s old)"
    )


def test_it_is_told_of_once_however_many_boot(board: Scoreboard) -> None:
    """At the same time, or later: the master has named one of them."""
    new_worker(board, alive=False)
    first = new_worker(board, S.BOOTING)
    second = new_worker(board, S.BOOTING)
    assert told_by(board, second) == []
    assert len(told_by(board, first)) == 1
    assert told_by(board, new_worker(board, S.BOOTING)) == []


def test_each_tells_of_those_that_were_lost_before_its_fork(board: Scoreboard) -> None:
    new_worker(board, alive=False, pid=DEAD)
    new_worker(board, alive=False, pid=DEAD + 1)  # tells of the first, and is lost itself
    third = new_worker(board, S.BOOTING)
    (line,) = told_by(board, third)
    assert f"(pid: {DEAD + 1})" in line


@pytest.mark.parametrize("state", [S.BOOTING, S.READY, S.HOLDING, S.DRAINING, S.EXITING])
def test_it_is_told_what_it_was_about_to_do(state: WorkerState, board: Scoreboard) -> None:
    new_worker(board, state, alive=False)
    (line,) = told_by(board, new_worker(board, S.BOOTING))
    assert f" while {state.name.lower()}, open requests: 0 (none)" in line


@pytest.mark.parametrize(
    ("state", "cells"),
    [
        (S.EXITED, {"alive": False}),
        (S.FAILED, {"alive": False}),
        (S.READY, {"alive": False, "ended_at": 7}),  # aborted, as it has said
        (S.READY, {"pid": os.getpid()}),
    ],
    ids=["left", "failed", "aborted", "alive"],
)
def test_who_has_left_failed_or_lives_is_not_told_of(
    state: WorkerState, cells: dict[str, int], board: Scoreboard
) -> None:
    new_worker(board, state, **cells)  # type: ignore[arg-type]
    assert told_by(board, new_worker(board, S.BOOTING)) == []


def test_a_new_worker_in_its_slot_ends_it(board: Scoreboard) -> None:
    """After as many forks as there are slots."""
    lost = new_worker(board, alive=False)
    while (slot := new_worker(board, S.EXITED, alive=False)) is not lost:
        assert slot.get(Cell.OBITUARY) == 0
    assert slot.get(Cell.OBITUARY) == 0


def test_without_the_table_nothing_is_claimed(board: Scoreboard) -> None:
    """asgi_open_requests is off."""
    new_worker(board, alive=False)
    (line,) = told_by(board, new_worker(board, S.BOOTING), shown=False)
    assert line.endswith("open requests: 0 (not known)")


def test_of_many_requests_the_oldest_are_told() -> None:
    entries = [OpenEntry(n, Progress.WAITING, "GET", f"/{n}", "", "") for n in range(1, 6)]
    words = in_words(entries, 2)
    assert [text.split(",")[0] for text in words] == ["GET '/1'", "GET '/2'", "and 3 more"]
    assert len(in_words(entries, 5)) == 5


def test_what_could_forge_a_line_is_escaped() -> None:
    (words,) = in_words([OpenEntry(1, Progress.WAITING, "GET", "/\x9b31m\n", "", "")], 1)
    assert words.startswith(r"GET '/\x9b31m\n', ")
