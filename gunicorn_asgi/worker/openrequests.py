"""The requests that a worker is busy with, where others can read them.

A table in shared memory: whoever asks needs nothing of the worker, which may be stuck in C code or
have been killed. One line for each running application task, as long as there is room.
"""

from __future__ import annotations

import mmap
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from gunicorn_asgi.aio.state import Owner

__all__ = ["ENTRIES", "TABLE_SIZE", "OpenEntry", "OpenRequests", "read_table"]

# More at once are not shown, only counted.
ENTRIES = 128

# When it began (nanoseconds of the monotonic clock; 0: free), method, id, client, port, target.
# What is longer is cut.
_ENTRY = struct.Struct("<q16s64s48si220s")
_BEGAN = struct.Struct("<q")
# Looked up once: these run twice a request.
_pack, _pack_began, _now = _ENTRY.pack_into, _BEGAN.pack_into, time.monotonic_ns
TABLE_SIZE = ENTRIES * _ENTRY.size


@dataclass(frozen=True)
class OpenEntry:
    """Runs in: master, worker and command line. One line of the table.

    Attributes:
        began_ns: when it began, in nanoseconds of the monotonic clock.
        method, target: of the request line, the target cut at 220 bytes.
        request_id: empty without one; cut at 64 characters.
        client: ``address:port``; empty on a unix socket.
    """

    began_ns: int
    method: str
    target: str
    request_id: str
    client: str


class OpenRequests:
    """Runs in: worker. The worker's end of its table."""

    __slots__ = ("_base", "_free", "_memory", "_use", "_used")

    def __init__(self, memory: mmap.mmap, base: int, use: Callable[[int], None]) -> None:
        """Runs in: worker.

        Args:
            memory: where the table is; base: from which byte on.
            use: told how many lines have ever been used, so that nobody looks at the others: the
                kernel spends a page on every look.
        """
        self._memory = memory
        self._base = base
        self._used = base
        self._use = use
        self._free = list(range(base + TABLE_SIZE - _ENTRY.size, base - 1, -_ENTRY.size))

    def begin(self, owner: Owner) -> int:
        """Runs in: worker. Show a request; where its line is, for ``end()``, 0 if none is free."""
        if not self._free:
            return 0
        place = self._free.pop()
        if place >= self._used:
            self._used = place + _ENTRY.size
            self._use((self._used - self._base) // _ENTRY.size)
        head = owner.head
        host, port = owner.scope["client"] or ("", 0)
        method, request_id, host = head.method.encode(), head.request_id.encode(), host.encode()
        _pack(self._memory, place, _now(), method, request_id, host, port or 0, head.target)
        return place

    def end(self, place: int) -> None:
        """Runs in: worker. It is over."""
        if place:
            _pack_began(self._memory, place, 0)
            self._free.append(place)


def clear_table(memory: mmap.mmap, base: int, used: int) -> None:
    """Runs in: master. For the next worker in the slot; ``used``: see ``OpenRequests``."""
    for place in range(base, base + used * _ENTRY.size, _ENTRY.size):
        _BEGAN.pack_into(memory, place, 0)


def read_table(memory: mmap.mmap, base: int, used: int) -> list[OpenEntry]:
    """Runs in: master, worker and command line. What is open, the oldest first."""
    entries = []
    for place in range(base, base + min(used, ENTRIES) * _ENTRY.size, _ENTRY.size):
        began, method, request_id, host, port, target = _ENTRY.unpack_from(memory, place)
        if began:
            address = _text(host)
            client = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
            entries.append(
                OpenEntry(
                    began,
                    _text(method),
                    _text(target),
                    _text(request_id),
                    client if host[0] else "",
                )
            )
    return sorted(entries, key=lambda entry: entry.began_ns)


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode("latin-1")
