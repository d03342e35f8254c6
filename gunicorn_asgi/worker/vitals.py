"""What a worker says of itself on the board, once with each beat of its heart."""

from __future__ import annotations

import os
import resource
import sys

from gunicorn_asgi.aio.state import ServerState
from gunicorn_asgi.aio.websocket import WebSocketProtocol
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

    def __init__(self, slot: Slot, state: ServerState) -> None:
        """Runs in: worker."""
        self._slot = slot
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
        websockets = sum(isinstance(c, WebSocketProtocol) for c in state.connections)
        slot.put(Cell.WEBSOCKETS, websockets)
        slot.put(Cell.LAG, self._lag())

    def expect(self, seconds: float) -> None:
        """Runs in: worker. The next beat is due in ``seconds``; how late it comes is the lag."""
        self._due = self._state.loop.time() + seconds

    def _lag(self) -> int:
        """How late (microseconds) the loop turned for this beat."""
        late = self._state.loop.time() - self._due if self._due else 0.0
        return max(0, int(late * 1_000_000))
