"""What a worker says of itself on the board, once with each beat of its heart."""

from __future__ import annotations

import os
import resource
import sys

from gunicorn import util

from gunicorn_asgi.aio.state import ServerState
from gunicorn_asgi.aio.websocket import WebSocketProtocol
from gunicorn_asgi.protocol.lifecycle import WorkerState
from gunicorn_asgi.worker.counters import Counter
from gunicorn_asgi.worker.meter import Meter
from gunicorn_asgi.worker.scoreboard import Cell, Slot, milliseconds

__all__ = ["Vitals", "resident_memory"]

_PAGE = os.sysconf("SC_PAGE_SIZE")
# getrusage counts in kibibytes, on macOS in bytes.
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


def resident_memory() -> int:
    """Runs in: worker. Resident memory (bytes) of this process; its maximum without /proc."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT


class Vitals:
    """Runs in: worker. Writes this worker's cells.

    Attributes:
        rss: resident memory (bytes) at the last beat.
    """

    def __init__(self, slot: Slot, state: ServerState, meter: Meter | None = None) -> None:
        """Runs in: worker. Without a ``meter`` totals are not published."""
        self._slot = slot
        self._meter = meter
        self._state = state
        self._due = 0.0
        self.rss = 0

    def take(self, requests: int) -> None:
        """Runs in: worker. Measure, and write everything down; ``requests`` were begun so far."""
        slot, state = self._slot, self._state
        self.rss = resident_memory()
        slot.put(Cell.RSS, self.rss)
        slot.put(Cell.BEAT_AT, milliseconds())
        slot.put(Cell.REQUESTS, requests)
        slot.put(Cell.CONNECTIONS, len(state.connections))
        slot.put(Cell.IN_FLIGHT, len(state.tasks))
        websockets = received = sent = 0
        for each in state.connections:  # once: ten thousand of them take milliseconds
            if isinstance(each, WebSocketProtocol):
                websockets += 1
                if not each.recorded:
                    received += each.figures.received
                    sent += each.figures.sent
        slot.put(Cell.WEBSOCKETS, websockets)
        slot.put(Cell.LAG, self._lag())
        if self._meter is not None:
            self._meter.publish(state.totals, received, sent)

    def ready(self) -> None:
        """Runs in: worker. It serves."""
        self._slot.put(Cell.READY_AT, milliseconds())
        self._slot.put(Cell.BOOTS, self._slot.get(Cell.BOOTS) + 1)
        self._slot.counters[Counter.BOOTS] += 1

    def show_title(self, name: str, state: WorkerState) -> None:
        """Runs in: worker. The process title; ``name`` is Gunicorn's ``proc_name``."""
        connections = len(self._state.connections)
        generation = self._slot.get(Cell.GENERATION)
        util._setproctitle(
            f"worker [{name}] {state.name.lower()}, generation {generation}, "
            f"{connections} connections"
        )

    def expect(self, seconds: float) -> None:
        """Runs in: worker. The next beat is due in ``seconds``; how late it comes is the lag."""
        self._due = self._state.loop.time() + seconds

    def _lag(self) -> int:
        """How late (microseconds) the loop turned for this beat."""
        late = self._state.loop.time() - self._due if self._due else 0.0
        return max(0, int(late * 1_000_000))
