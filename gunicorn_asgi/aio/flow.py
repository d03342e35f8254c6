"""Flow control of one connection, both directions.

Reading is paused for two independent reasons (a body nobody reads, requests that wait behind
one another), so the reasons are kept apart: the socket is read only when there is none.
"""

from __future__ import annotations

import asyncio
from enum import IntFlag

__all__ = ["FlowControl", "Pause"]


class Pause(IntFlag):
    """Why a socket is not read."""

    NONE = 0
    BODY = 1
    PIPELINE = 2


class FlowControl:
    """Pauses and resumes a transport.

    Attributes:
        write_paused: the transport holds more than its high-water mark; ``drained()`` waits.
    """

    __slots__ = ("_closed", "_pauses", "_transport", "_writable", "write_paused")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._pauses = Pause.NONE
        self._closed = False
        self._writable: asyncio.Event | None = None
        self.write_paused = False

    def pause_reading(self, reason: Pause) -> None:
        """Stop reading the socket for ``reason``; idempotent."""
        if not self._pauses and not self._closed:
            self._transport.pause_reading()
        self._pauses |= reason

    def resume_reading(self, reason: Pause) -> None:
        """``reason`` is over; idempotent."""
        if not self._pauses & reason:
            return
        self._pauses &= ~reason
        if not self._pauses and not self._closed:
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        """asyncio: the transport's buffer went over its high-water mark."""
        self.write_paused = True

    def resume_writing(self) -> None:
        """asyncio: the buffer went below its low-water mark."""
        self.write_paused = False
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    def close(self) -> None:
        """The transport is gone: nobody waits any longer; idempotent."""
        self._closed = True
        self.resume_writing()

    async def drained(self) -> None:
        """Wait until the transport takes more, or is gone."""
        while self.write_paused:
            if self._writable is None:
                self._writable = asyncio.Event()
            await self._writable.wait()
