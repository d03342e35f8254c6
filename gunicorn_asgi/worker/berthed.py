"""What code inside a worker process may know of the server around it: the status application.

Registered by the worker once the application is loaded, so it does not matter who has imported
what before the fork (``preload_app``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gunicorn_asgi.aio.overload import RateLimitedLog
from gunicorn_asgi.protocol.lifecycle import is_accepting
from gunicorn_asgi.protocol.peer import Networks
from gunicorn_asgi.worker.scoreboard import Header, Scoreboard

__all__ = ["Berthed", "berthed", "moor"]


@dataclass(frozen=True)
class Berthed:
    """Runs in: worker. The server that this process is a worker of.

    Attributes:
        board: the scoreboard.
        allowed: ``asgi_status_allow``.
        refusals: for the line about a client that is not.
        leaving: set while this worker leaves.
        stopping: whether the master stops, None if that cannot be seen; see ``Gate``.
        master: pid.
    """

    board: Scoreboard
    allowed: Networks
    refusals: RateLimitedLog
    leaving: asyncio.Event
    stopping: Callable[[], bool | None]
    master: int

    def is_ready(self) -> bool:
        """Runs in: worker. Whether this server takes new connections and will go on with it.

        The server, not the worker: one that is replaced, after a reload or at max_requests, says
        no only if nobody else says yes. While the master stops nobody does, although workers may
        accept for a while yet (asgi_term_delay); but if USR2 has made two masters, one may stop
        while the other one has the same listeners and serves.
        """
        if self.stopping():
            listener = self.board.get(Header.LISTENER)
            others = _relatives(self.master)
            return any(each.get(Header.LISTENER) == listener and _serves(each) for each in others)
        return _serves(self.board)


class _Process:
    current: Berthed | None = None


def moor(berth: Berthed) -> None:
    """Runs in: worker. From now on this process is a worker of that server."""
    _Process.current = berth


def berthed() -> Berthed | None:
    """Runs in: worker. The server around, None if there is none of ours."""
    return _Process.current


def _serves(board: Scoreboard) -> bool:
    return any(is_accepting(slot.member()) for slot in board.used_slots())


def _relatives(master: int) -> list[Scoreboard]:
    """The boards of the masters beside this one: USR2 makes a child that is one."""
    found = []
    for pid in _family(master):
        try:
            board = Scoreboard.of_master(pid)
        except LookupError:
            continue
        if board.get(Header.MASTER) == pid:  # a worker has its master's board open, too
            found.append(board)
    return found


def _family(master: int) -> list[int]:
    """Parent and children of ``master``, as far as /proc tells (proc(5))."""
    try:
        # The name, in parentheses, may itself contain spaces and parentheses.
        stat = Path(f"/proc/{master}/stat").read_text(errors="replace")
        children = Path(f"/proc/{master}/task/{master}/children").read_text()
    except OSError:
        return []
    return [int(stat.rpartition(")")[2].split()[1]), *map(int, children.split())]
