"""Room for new connections, once there are as many as there may be.

``worker_connections`` alone would let old keep-alive connections shut everybody else out: each
of them is asked for little and is never done (Puma's CVE-2019-16770 and CVE-2021-29509). So,
while nobody is accepted for that reason, it is looked now and then whether somebody waits; and
if so, a few of those who hold a place without using it have to go.
"""

from __future__ import annotations

import asyncio
import math
import select
from collections.abc import Mapping

from gunicorn_asgi.aio.http1 import HTTP1Protocol
from gunicorn_asgi.aio.listener import Listener
from gunicorn_asgi.aio.opening import Opening
from gunicorn_asgi.aio.state import ServerState

__all__ = ["Fairness"]

# How often (seconds) it is looked, and how many of a hundred connections have to go each time: the
# whole worker could be renewed in 5 s.
_TICK = 0.25
_SHARE = 5
# A handshake, or a PROXY header, that takes longer (seconds) holds a place without using it.
_PATIENCE = 2.0


class Fairness:
    """Makes room while a worker is full; costs nothing while it is not."""

    __slots__ = ("_listeners", "_opening", "_state", "_timer")

    def __init__(
        self,
        state: ServerState,
        listeners: list[Listener],
        opening: Mapping[Opening, float],
    ) -> None:
        """``opening``: who is not a connection yet, and since when by the loop's time."""
        self._state = state
        self._listeners = listeners
        self._opening = opening
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """The worker is full; idempotent."""
        if self._timer is None:
            self._timer = self._state.loop.call_later(_TICK, self._look)

    def stop(self) -> None:
        """It is full no more, or accepts nobody for another reason; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = self._state.loop.call_later(_TICK, self._look)
        poll = select.poll()
        for listener in self._listeners:
            poll.register(listener.sock, select.POLLIN)
        if poll.poll(0):
            self._make_room(max(1, self._state.limits.connections * _SHARE // 100))

    def _make_room(self, count: int) -> None:
        """Let ``count`` go: idle ones, then those who do not open, then those who are served."""
        # Without those who were told already: they may need a while, for an answer or for TLS.
        fresh = [
            each
            for each in self._state.connections
            if isinstance(each, HTTP1Protocol)
            and not (each.retiring or each.transport.is_closing())
        ]
        idle = sorted((each for each in fresh if each.idle), key=_due)[:count]
        silent = self._silent()[: count - len(idle)]
        busy = [each for each in fresh if not each.idle][: count - len(idle) - len(silent)]
        for each in silent:
            each.cancel()
        for connection in (*idle, *busy):
            connection.retire()

    def _silent(self) -> list[Opening]:
        limit = self._state.loop.time() - _PATIENCE
        return [each for each, since in self._opening.items() if since <= limit]


def _due(connection: HTTP1Protocol) -> float:
    return connection.phase_due or math.inf
