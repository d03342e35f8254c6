"""The requests that a worker is busy with, where others can read them.

A table in shared memory: whoever asks needs nothing of the worker, which may be stuck in C code or
have been killed. One line for each running application task, as long as there is room.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass

from gunicorn_asgi.aio.state import Owner, Progress

__all__ = ["ENTRIES", "TABLE_SIZE", "OpenEntry", "OpenRequests", "clear_table", "read_table"]

# More at once are not shown, only counted.
ENTRIES = 128

# When its head was complete (seconds of the monotonic clock; 0: free), progress, client, id, method
# and target. What is longer is cut.
_ENTRY = struct.Struct("<dB7x56s64s224s")
_PROGRESS = struct.calcsize("<d")
_pack = _ENTRY.pack_into  # looked up once
TABLE_SIZE = ENTRIES * _ENTRY.size


@dataclass(frozen=True)
class OpenEntry:
    """Runs in: master, worker and command line. One line of the table.

    Attributes:
        received: when its head was complete, in seconds of the monotonic clock.
        progress: how far it is.
        method, target: of the request line, cut at 224 bytes together.
        request_id: empty without one; cut at 64 characters.
        client: ``address:port``; empty on a unix socket.
    """

    received: float
    progress: Progress
    method: str
    target: str
    request_id: str
    client: str


class OpenRequests:
    """Runs in: worker. The worker's end of its table."""

    __slots__ = ("_base", "_free", "_memory", "_times", "_use", "_used")

    def __init__(self, memory: mmap.mmap, base: int, use: Callable[[int], None]) -> None:
        """Runs in: worker.

        Args:
            memory: where the table is; base: from which byte on.
            use: told how many lines have ever been used, so that nobody looks at the others: the
                kernel spends a page on every look.
        """
        self._memory = memory
        self._times = memoryview(memory)[: base + TABLE_SIZE].cast("d")
        self._base = base
        self._used = base
        self._use = use
        self._free = list(range(base + TABLE_SIZE - _ENTRY.size, base - 1, -_ENTRY.size))

    def begin(self, owner: Owner) -> int:
        """Runs in: worker. Show a request; where its line is, for the others, 0 if none is free."""
        if not self._free:
            return 0
        place = self._free.pop()
        if place >= self._used:
            self._used = place + _ENTRY.size
            self._use((self._used - self._base) // _ENTRY.size)
        head = owner.head
        line = b"%b %b" % (head.method.encode(), head.target) if head.line is None else head.line[5]
        _pack(self._memory, place, head.received, 0, head.address, head.request_id.encode(), line)
        return place

    def note(self, place: int, progress: Progress) -> None:
        """Runs in: worker. It has got that far."""
        if place:
            self._memory[place + _PROGRESS] = progress

    def end(self, place: int) -> None:
        """Runs in: worker. It is over."""
        if place:
            self._times[place >> 3] = 0.0
            self._free.append(place)


def clear_table(memory: mmap.mmap, base: int, used: int) -> None:
    """Runs in: master. For the next worker in the slot; ``used``: see ``OpenRequests``."""
    for place in range(base, base + used * _ENTRY.size, _ENTRY.size):
        memory[place : place + _PROGRESS] = bytes(_PROGRESS)


def read_table(memory: mmap.mmap, base: int, used: int) -> list[OpenEntry]:
    """Runs in: master, worker and command line. What is open, the oldest first."""
    entries = []
    for place in range(base, base + min(used, ENTRIES) * _ENTRY.size, _ENTRY.size):
        received, progress, address, request_id, line = _ENTRY.unpack_from(memory, place)
        if received:
            method, _, target = _text(line).partition(" ")
            entries.append(
                OpenEntry(
                    received,
                    Progress(progress),
                    method,
                    target,
                    _text(request_id),
                    _text(address),
                )
            )
    return sorted(entries, key=lambda entry: entry.received)


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode("latin-1")
