"""One coarse timer for all connections of a worker.

A timer of its own for each connection, set and cancelled with each request, costs about a
microsecond a request; to look at ten thousand connections takes some 3 ms, so only those that are
due soon are looked at each tick. A connection has one ``deadline``, in seconds of the loop's clock,
0 for none: the earliest of its clocks. It is late by at most one tick and never early.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Protocol

__all__ = ["Deadlines", "Expiring"]

# Fine enough for a keepalive of a second or two, coarse enough to cost nothing.
_TICK = 0.25
# How far a look at all connections reaches: no further than a keepalive, which every request sets
# anew and which should not have to be noted each time.
_AHEAD = 2.0
# So many expire in one turn of the loop: to refuse a client takes some 0.2 ms, and whoever attacks
# comes in hundreds, which all expire together.
_BATCH = 5


class Expiring(Protocol):
    """Something with one clock."""

    deadline: float

    def expire(self) -> None:
        """Called once ``deadline`` has passed."""


class Deadlines:
    """Sweeps a collection of ``Expiring`` while it is not empty.

    Attributes:
        lag: seconds by which the last sweep was late.
        soon: who may have a deadline before ``horizon``. Whoever gets one is to be added.
        horizon: see there; by the loop's time.
    """

    __slots__ = ("_connections", "_due", "_loop", "_timer", "horizon", "lag", "soon")

    def __init__(self, loop: asyncio.AbstractEventLoop, connections: Collection[Expiring]) -> None:
        self._loop = loop
        self._connections = connections
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self.lag = 0.0
        self.soon: set[Expiring] = set()
        self.horizon = 0.0

    def wake(self) -> None:
        """A connection was added; idempotent."""
        if self._timer is None:
            self._due = self._loop.time() + _TICK
            self._timer = self._loop.call_later(_TICK, self._sweep)

    def arm(self, connection: Expiring, seconds: float) -> None:
        """Let ``connection`` expire in ``seconds`` from now; replaces what was armed."""
        connection.deadline = self._loop.time() + seconds
        if connection.deadline < self.horizon:
            self.soon.add(connection)

    def _sweep(self) -> None:
        self._timer = None
        now = self._loop.time()
        self.lag = max(0.0, now - self._due)
        if self.horizon < now + _TICK:
            self.horizon = now + _AHEAD
            self.soon = {each for each in self._connections if 0.0 < each.deadline < self.horizon}
        self._expire([each for each in self.soon if 0.0 < each.deadline <= now])
        if any(True for _ in self._connections):
            self.wake()
        else:
            self.lag = 0.0  # nobody measures any more
            self.soon.clear()

    def _expire(self, due: list[Expiring]) -> None:
        now = self._loop.time()
        for connection in due[:_BATCH]:
            # Whoever expires may close another one, or give it more time.
            if 0.0 < connection.deadline <= now and connection in self._connections:
                connection.deadline = 0.0
                connection.expire()
        if len(due) > _BATCH:
            self._loop.call_soon(self._expire, due[_BATCH:])
