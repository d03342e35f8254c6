"""worker/berthed.py: whether this server is ready, seen from one of its workers."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from berths import new_berth
from boards import new_board, new_worker
from gunicorn_asgi.protocol.lifecycle import WorkerState
from gunicorn_asgi.worker import berthed
from gunicorn_asgi.worker.berthed import moor
from gunicorn_asgi.worker.scoreboard import Header, Scoreboard

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__: list[str] = []

# A master (or what says it is one), and what could be the one that it has started by USR2.
_MASTER = """
import os, subprocess, sys
from gunicorn_asgi.protocol.lifecycle import WorkerState
from gunicorn_asgi.worker.scoreboard import Cell, Header, Scoreboard
board = Scoreboard.create()
board.put(Header.MASTER, os.getpid() + int(sys.argv[2]))
board.put(Header.LISTENER, int(sys.argv[3]))
board.begin_generation(1)
slot = board.claim(True, 1)
slot.put(Cell.PID, os.getpid())
slot.put(Cell.STATE, WorkerState[sys.argv[1]])
with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
    print(child.pid, flush=True)
    sys.stdin.read()
    child.communicate(b"\\n")
"""


@contextmanager
def two_masters(state: str, offset: int, listener: int) -> Iterator[int]:
    """This process, its child with that board, and the pid of the latter's child."""
    command = [sys.executable, "-c", _MASTER, state, str(offset), str(listener)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        yield int(child.stdout.readline())
        child.communicate()


def board_with(*states: WorkerState) -> Scoreboard:
    board = new_board()
    board.begin_generation(1)
    for state in states:
        new_worker(board, state)
    return board


def test_what_is_moored_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process; a worker is one server's."""
    monkeypatch.setattr(berthed._Process, "current", None)
    assert berthed.berthed() is None
    berth = new_berth()
    moor(berth)
    assert berthed.berthed() is berth


@pytest.mark.parametrize(
    ("state", "offset", "listener", "ready"),
    [
        ("READY", 0, 7, True),
        ("HOLDING", 0, 7, True),
        ("DRAINING", 0, 7, False),
        ("READY", 1, 7, False),
        ("READY", 0, 8, False),
    ],
)
def test_while_one_master_stops_the_other_one_of_usr2_may_serve(
    state: str, offset: int, listener: int, ready: bool
) -> None:
    """Its child, or its parent, with the same listeners; a worker, which has its master's board
    open too, is no master."""
    board = board_with(WorkerState.READY)
    board.put(Header.LISTENER, 7)
    older = new_berth(board, stopping=lambda: True, master=os.getpid())
    assert not older.is_ready()
    with two_masters(state, offset, listener) as pid:
        newer = new_berth(board, stopping=lambda: True, master=pid)
        assert older.is_ready() is newer.is_ready() is ready
    assert not older.is_ready()


def test_without_proc_nobody_is_found() -> None:
    """Then a server that stops is not ready, whoever else there may be."""
    berth = new_berth(board_with(WorkerState.READY), stopping=lambda: True, master=2**22 + 1)
    assert not berth.is_ready()
