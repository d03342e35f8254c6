"""What a worker counts on the board, so that nothing is lost with it."""

from __future__ import annotations

import gc
import time
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

from gunicorn_asgi.aio.state import ServerState
from gunicorn_asgi.aio.totals import Totals
from gunicorn_asgi.worker.counters import BOUNDS, CLASSES, Counter, request_cell, sum_cell
from gunicorn_asgi.worker.scoreboard import Slot

__all__ = ["Meter", "install"]

# First cell for a status, by its hundreds; 499 is counted with the aborted.
_ROWS = tuple(request_cell(min(hundreds, 5), 0) for hundreds in range(10))
_ABORTED = 499
_CLASSES = range(len(CLASSES))


class Meter:
    """Runs in: worker. Requests at once, everything else with each beat."""

    __slots__ = ("_before", "_counters", "_gc_began", "_seconds", "_sums")

    def __init__(self, slot: Slot) -> None:
        """Runs in: worker."""
        self._counters = slot.counters
        # What the workers before this one in the slot have counted.
        self._before = {counter: self._counters[counter] for counter in Counter}
        self._sums = [(sum_cell(row), self._counters[sum_cell(row)]) for row in _CLASSES]
        # By the first cell of the class.
        self._seconds = {request_cell(row, 0): 0.0 for row in _CLASSES}
        self._gc_began = 0.0

    def watch_gc(self) -> None:
        """Runs in: worker. Count the garbage collector's pauses from now on."""
        gc.callbacks.append(self._on_gc)

    def request(self, status: int, seconds: float) -> None:
        """Runs in: worker. A request with that status is over; it took so many seconds."""
        first = 0 if status == _ABORTED else _ROWS[status // 100]
        self._counters[first + bisect_left(BOUNDS, seconds)] += 1
        self._seconds[first] += seconds

    def publish(self, totals: Totals, messages_received: int, messages_sent: int) -> None:
        """Runs in: worker. Write the totals; messages are those of open WebSockets."""
        for (cell, before), seconds in zip(self._sums, self._seconds.values(), strict=True):
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
