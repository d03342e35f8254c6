"""What a worker counts on the board, so that nothing is lost with it."""

from __future__ import annotations

import gc
import math
import time
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

from gunicorn_asgi.aio.state import ServerState
from gunicorn_asgi.aio.totals import Totals
from gunicorn_asgi.worker.counters import BOUNDS, CLASSES, Counter, request_cell, sum_cell
from gunicorn_asgi.worker.scoreboard import Slot

__all__ = ["Meter", "install"]

_ABORTED = 499
_CLASSES = range(len(CLASSES))


class Meter:
    """Runs in: worker. Requests before their answers leave, everything else with each beat."""

    __slots__ = (
        "_above",
        "_before",
        "_cell",
        "_count",
        "_counters",
        "_gc_began",
        "_row",
        "_seconds",
        "_status",
        "_sums",
        "_took",
        "_up_to",
    )

    def __init__(self, slot: Slot) -> None:
        """Runs in: worker."""
        self._counters = slot.counters
        # What the workers before this one in the slot have counted.
        self._before = {counter: self._counters[counter] for counter in Counter}
        self._sums = [(sum_cell(row), self._counters[sum_cell(row)]) for row in _CLASSES]
        self._seconds = [0.0 for _ in _CLASSES]
        self._gc_began = 0.0
        # Requests of one status and one bucket, one after the other, as most come, not counted yet.
        self._status = 0
        self._above = self._up_to = 0.0
        self._row = self._cell = 0
        self._count = 0
        self._took = 0.0

    def watch_gc(self) -> None:
        """Runs in: worker. Count the garbage collector's pauses from now on."""
        gc.callbacks.append(self._on_gc)

    def request(self, status: int, seconds: float) -> None:
        """Runs in: worker. A request with that status is over; it took so many seconds."""
        if status != self._status or not self._above < seconds <= self._up_to:
            self._turn_to(status, seconds)
        self._count += 1
        self._took += seconds

    def settle(self) -> None:
        """Runs in: worker. Put on the board what is not there yet."""
        if self._count:
            self._counters[self._cell] += self._count
            self._seconds[self._row] += self._took
            self._count = 0
            self._took = 0.0

    def _turn_to(self, status: int, seconds: float) -> None:
        self.settle()
        bucket = bisect_left(BOUNDS, seconds)
        self._status = status
        self._row = 0 if status == _ABORTED else min(status // 100, 5)
        self._cell = request_cell(self._row, bucket)
        self._above = BOUNDS[bucket - 1] if bucket else -math.inf
        self._up_to = BOUNDS[bucket] if bucket < len(BOUNDS) else math.inf

    def publish(self, totals: Totals, messages_received: int, messages_sent: int) -> None:
        """Runs in: worker. Write the totals; messages are those of open WebSockets."""
        self.settle()
        for (cell, before), seconds in zip(self._sums, self._seconds, strict=True):
            self._counters[cell] = before + int(seconds * 1e6)
        self._put(Counter.BYTES_RECEIVED, totals.bytes_received)
        self._put(Counter.BYTES_SENT, totals.bytes_sent)
        self._put(Counter.CONNECTIONS_ACCEPTED, totals.accepted)
        self._put(Counter.CONNECTIONS_REFUSED, totals.refused_connections)
        self._put(Counter.REQUESTS_REFUSED, totals.refused_requests)
        self._put(Counter.REQUESTS_SHED, totals.shed_requests)
        self._put(Counter.WEBSOCKETS_OPENED, totals.websockets_opened)
        received = totals.messages_received + messages_received
        self._put(Counter.WEBSOCKET_MESSAGES_RECEIVED, received)
        self._put(Counter.WEBSOCKET_MESSAGES_SENT, totals.messages_sent + messages_sent)

    def _put(self, counter: Counter, value: int) -> None:
        self._counters[counter] = self._before[counter] + value

    def _on_gc(self, phase: str, _info: object) -> None:
        if phase == "start":
            self._gc_began = time.perf_counter()
        else:
            pause = time.perf_counter() - self._gc_began
            self._counters[Counter.GC_COLLECTIONS] += 1
            self._counters[Counter.GC_PAUSE_US] += int(pause * 1e6)


def install(slot: Slot, state: ServerState, values: Mapping[str, Any]) -> Meter | None:
    """Runs in: worker. Count and show what ``asgi_metrics`` and ``asgi_open_requests`` want."""
    if values["asgi_open_requests"]:
        state.table = slot.open_requests()
    if not values["asgi_metrics"]:
        return None
    meter = Meter(slot)
    state.meter = meter
    meter.watch_gc()
    return meter
