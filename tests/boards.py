"""Boards without processes: what masters and workers would have written, written by the test."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from typing import Any

from gunicorn_asgi.protocol.head import RequestHead
from gunicorn_asgi.protocol.lifecycle import WorkerState
from gunicorn_asgi.protocol.peer import address_of
from gunicorn_asgi.worker import scoreboard
from gunicorn_asgi.worker.scoreboard import Cell, Header, Scoreboard, Slot, milliseconds

__all__ = ["DEAD", "FakeOwner", "new_board", "new_worker", "owner"]

# Linux has no such pid: PID_MAX_LIMIT is 2**22.
DEAD = 2**22 + 1


def new_board() -> Scoreboard:
    """An empty board of this process, whose descriptor nobody can find."""
    fd = os.memfd_create("tests")
    try:
        os.ftruncate(fd, scoreboard._SIZE)
        board = Scoreboard(fd)
    finally:
        os.close(fd)
    board.put(Header.MASTER, os.getpid())
    return board


def new_worker(
    board: Scoreboard,
    state: WorkerState = WorkerState.READY,
    *,
    founder: bool = True,
    alive: bool = True,
    pid: int = 0,
    seconds_old: float = 0.0,
    error: str = "",
    **cells: int,
) -> Slot:
    """A worker of the newest generation; ``cells`` by their names in small letters."""
    slot = board.claim(founder, 1 + sum(s.used for s in board.slots))
    slot.put(Cell.PID, pid or (os.getpid() if alive else DEAD))
    slot.put(Cell.CLAIMED_AT, milliseconds() - int(seconds_old * 1000))
    slot.put(Cell.STATE, state)
    for name, value in cells.items():
        slot.put(Cell[name.upper()], value)
    if error:
        slot.write_text(error)
    return slot


@dataclass
class FakeOwner:
    """What a table wants to know of a request."""

    head: RequestHead
    scope: dict[str, Any]
    task: asyncio.Task[None] | None = None


def owner(
    target: str = "/",
    method: str = "GET",
    request_id: str = "",
    client: tuple[str, int] | None = ("192.0.2.1", 5),
) -> FakeOwner:
    """A request that a worker is busy with."""
    head = RequestHead(method, target.encode("latin-1"), "1.1", [], keep_alive=True)
    head.request_id = request_id
    head.received = time.monotonic()
    head.address = address_of(client)
    return FakeOwner(head, {"client": client})
