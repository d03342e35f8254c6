"""Flow control of one connection, both directions.

Reading is paused for two independent reasons (a body nobody reads, requests that wait behind
one another), so the reasons are kept apart: the socket is read only when there is none.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import struct
from enum import IntEnum

__all__ = [
    "FlowControl",
    "Pause",
    "bytes_taken",
    "client_has_left",
    "half_close",
    "has_input",
    "reset",
    "takes_more",
]


class Pause(IntEnum):
    """Why a socket is not read; bits, but a Flag's operators take a microsecond each."""

    NONE = 0
    BODY = 1
    PIPELINE = 2


class FlowControl:
    """Pauses and resumes a transport.

    Attributes:
        pauses: why the socket is not read, 0 if it is.
        write_paused: the transport holds more than its high-water mark; ``drained()`` waits.
    """

    __slots__ = ("_closed", "_transport", "_writable", "pauses", "write_paused")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.pauses: int = Pause.NONE
        self._closed = False
        self._writable: asyncio.Event | None = None
        self.write_paused = False

    @property
    def reading_paused(self) -> bool:
        """Whether the socket is not read."""
        return bool(self.pauses)

    def pause_reading(self, reason: Pause) -> None:
        """Stop reading the socket for ``reason``; idempotent."""
        if not self.pauses and not self._closed:
            self._transport.pause_reading()
        self.pauses |= reason

    def resume_reading(self, reason: Pause) -> None:
        """``reason`` is over; idempotent."""
        if not self.pauses & reason:
            return
        self.pauses &= ~reason
        if not self.pauses and not self._closed:
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


def half_close(transport: asyncio.Transport) -> None:
    """Say FIN where that can be said apart from closing: not on TLS."""
    if transport.is_closing() or not transport.can_write_eof():
        return
    try:
        transport.write_eof()
    except OSError:
        # ENOTCONN: the peer's reset is here already, and connection_lost() follows.
        transport.close()


# SO_LINGER, on, with 0 seconds: closing sends RST and not FIN (socket(7)).
_RST = struct.pack("ii", 1, 0)


def reset(transport: asyncio.Transport) -> None:
    """Close with a reset, and drop what the peer has not taken; a unix socket just closes.

    For a peer that has to see that this was no clean end, or that does not read: behind a close
    the kernel tries for minutes to deliver what it holds.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
    transport.abort()


# Linux tells of a peer's FIN behind bytes that nobody has read (poll(2)); elsewhere it waits.
_LEFT = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


def client_has_left(transport: asyncio.Transport) -> bool:
    """Whether the peer has closed, or half closed, a connection that is not read."""
    return _polled(transport, _LEFT)


def has_input(transport: asyncio.Transport) -> bool:
    """Whether bytes of the peer wait in the kernel, which the loop has not had time to read."""
    return _polled(transport, select.POLLIN)


def _polled(transport: asyncio.Transport, events: int) -> bool:
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return False  # nothing to look at; connection_lost() tells
    poll = select.poll()
    poll.register(sock.fileno(), events)
    return bool(poll.poll(0))


# struct tcp_info, linux/tcp.h: tcpi_unacked, tcpi_bytes_acked and tcpi_notsent_bytes, all there
# from Linux 4.6 on.
_INFO = struct.Struct("@24xI92xQ16xI")
_HAS_INFO = os.uname().sysname == "Linux"


def bytes_taken(transport: asyncio.Transport, written: int) -> int:
    """How many bytes the peer has taken, from some point on, of ``written`` to ``transport``.

    Linux tells what was acknowledged. What the transport got rid of is a poor measure: a kernel
    holds megabytes, and takes the next ones when a third of these is gone. A client that reads
    20 kB/s would not seem to move for a minute.
    """
    info = _tcp_info(transport)
    return info[1] if info is not None else written - transport.get_write_buffer_size()


def takes_more(transport: asyncio.Transport) -> bool:
    """Whether something that was written waits for the peer: here, or (Linux) in the kernel."""
    if transport.get_write_buffer_size() > 0:
        return True
    info = _tcp_info(transport)
    return info is not None and (info[0] > 0 or info[2] > 0)


def _tcp_info(transport: asyncio.Transport) -> tuple[int, int, int] | None:
    """Packets that were sent and not acknowledged, bytes acknowledged, bytes not yet sent."""
    sock = transport.get_extra_info("socket")
    if sock is None or not _HAS_INFO:
        return None
    try:
        unacked, acked, unsent = _INFO.unpack(
            sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
        )
    except (OSError, ValueError, struct.error):
        return None  # a unix socket, one that is closed by now, an older kernel
    return unacked, acked, unsent
