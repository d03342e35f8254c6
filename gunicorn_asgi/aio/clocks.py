"""What every connection has: clocks, gathered writes, flow control.

A timer of its own for each clock, set and cancelled with each request, costs about a
microsecond a request; a sweep over those of ten thousand connections that are due soon costs next
to nothing. So a connection has one ``deadline`` in seconds of the loop's clock, 0 for none: the
earliest of its clocks, or earlier, since a clock that is stopped leaves it behind. Clocks are late
by at most one tick and never early.

Three of them may run at once: the phase (what the connection as such waits for), the client's
taking of what was written, and the answer to a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import IntEnum
from operator import attrgetter
from typing import ClassVar

from gunicorn_asgi.aio.flow import FlowControl, bytes_taken
from gunicorn_asgi.aio.state import ServerState
from gunicorn_asgi.protocol.limits import Limits

__all__ = ["Clock", "ClockedProtocol"]


class Clock(IntEnum):
    """What the phase clock of a connection measures."""

    NONE = 0
    FIRST_BYTE = 1
    REQUEST_HEAD = 2
    BODY = 3
    PAUSED = 4
    DISCARD = 5
    KEEP_ALIVE = 6
    LINGER = 7
    CLOSE = 8
    PING = 9
    PONG = 10
    CLOSING = 11


# How often (seconds) a client is looked for while its socket is not read.
_LOOK = 1.0
# What was gathered goes out at once at this size (bytes): more in one write gains nothing.
_GATHER = 64 * 1024
# Pieces that are larger than this on average (bytes) are not joined, where the loop can do without.
_APART = 16 * 1024

# How long they may run; of the others ``arm()`` knows more.
_SECONDS: dict[Clock, Callable[[Limits], float]] = {
    Clock.FIRST_BYTE: attrgetter("first_byte"),
    Clock.REQUEST_HEAD: attrgetter("request_head"),
    Clock.PAUSED: lambda _: _LOOK,
    Clock.DISCARD: attrgetter("request_head"),
    Clock.LINGER: lambda limits: limits.linger or 1e-3,
    Clock.PING: attrgetter("websocket_ping_interval"),
    Clock.PONG: attrgetter("websocket_ping_timeout"),
    Clock.CLOSING: attrgetter("websocket_close"),
}

# See protocol/exchange.py.
_NO_CLOCK, _KEEP_ALIVE, _BODY, _CLOSE = Clock.NONE, Clock.KEEP_ALIVE, Clock.BODY, Clock.CLOSE


class ClockedProtocol(asyncio.Protocol):
    """An asyncio protocol with the clocks of a connection.

    Attributes:
        state: what the worker's connections share.
        flow: flow control, both directions; of the subclass, which knows the transport.
        deadline: when ``expire()`` wants to be called, by the loop's time; 0 for never.
        pipelining: see ``state.Connection``.
        received: bytes of request bodies that have come in.
        written: bytes handed to the transport, or sent past it.
    """

    __slots__ = (
        "_answer_due",
        "_clock",
        "_limits",
        "_loop",
        "_out",
        "_out_size",
        "_phase_due",
        "_phase_mark",
        "_transport",
        "_write_due",
        "_write_mark",
        "deadline",
        "flow",
        "pipelining",
        "received",
        "state",
        "written",
    )

    flow: FlowControl
    _transport: asyncio.Transport
    # As much as this (bytes) is gathered of large pieces, if they need not be joined.
    gather_large: ClassVar[int] = _GATHER

    def __init__(self, state: ServerState) -> None:
        # Process
        self.state = state
        self._loop = state.loop
        self._limits = state.limits
        # Connection
        self.deadline = 0.0
        self._clock = _NO_CLOCK
        self._phase_due = 0.0
        self._phase_mark = 0
        self._write_due = 0.0
        self._write_mark = 0
        self._answer_due = 0.0
        self.pipelining = False
        self.received = 0
        self.written = 0
        # Gathered until the end of this turn of the loop.
        self._out: list[bytes | memoryview] = []
        self._out_size = 0

    @property
    def phase_due(self) -> float:
        """When the phase's clock runs out, by the loop's time; 0 for never."""
        return self._phase_due

    # What a subclass answers

    def phase_expired(self, clock: Clock) -> None:
        """``clock`` has run out; with BODY the client sends too slowly."""
        raise NotImplementedError

    def write_stalled(self) -> None:
        """The client takes what was written too slowly, or not at all."""
        raise NotImplementedError

    def answer_expired(self) -> None:
        """The request is not answered in time."""
        raise NotImplementedError

    def drain(self, code: int) -> None:
        """The worker leaves: see ``state.Connection``."""
        raise NotImplementedError

    def tell(self) -> None:
        """The drain nears its end: see ``state.Connection``."""
        raise NotImplementedError

    # The phase

    def arm(self, clock: Clock) -> None:
        """Let ``clock`` be the phase's, from now on; its seconds are those of ``Limits``."""
        self._clock = clock
        limits = self._limits
        if clock is _KEEP_ALIVE:  # after each answer
            self._phase_due = due = self._loop.time() + limits.keep_alive
            if not due >= self.deadline > 0.0:
                self._advance(due)
            return
        if clock is _BODY:
            seconds = limits.body
            self._phase_mark = self.received
        elif clock is _CLOSE:
            seconds = limits.write
            self._phase_mark = self._taken()
        else:
            seconds = _SECONDS[clock](limits)
        self._phase_due = self._due(seconds) if seconds else 0.0

    def disarm(self) -> None:
        """The phase waits for nobody."""
        self._clock = _NO_CLOCK
        self._phase_due = 0.0

    def shorten(self, seconds: float) -> None:
        """Let the phase end in ``seconds`` at the latest."""
        limit = self._due(seconds)
        self._phase_due = min(self._phase_due or limit, limit)

    # Writing

    def pause_writing(self) -> None:
        """asyncio: the client reads more slowly than the application writes."""
        self.flow.pause_writing()
        self.arm_write()

    def resume_writing(self) -> None:
        """asyncio: the client has caught up."""
        self.flow.resume_writing()
        self.disarm_write()

    def arm_write(self) -> None:
        """More waits for the client than the transport likes to hold."""
        self._write_mark = self._taken()
        self._write_due = self._due(self._limits.write) if self._limits.write else 0.0

    def disarm_write(self) -> None:
        """The client has caught up."""
        self._write_due = 0.0

    def write(self, data: bytes | memoryview) -> None:
        """Write ``data``, gathered with whatever else this turn of the loop brings."""
        if not self._out:
            self.state.gather(self)
        self._out.append(data)
        self._out_size += len(data)
        size = self._out_size
        if size >= _GATHER and (
            size >= self.gather_large or len(data) > _GATHER or not self._goes_apart(size)
        ):
            self.flush()

    def _goes_apart(self, size: int) -> bool:
        """Whether the ``size`` bytes that were gathered are written without joining them."""
        return self.state.vectored and size > _APART * len(self._out)

    def write_alone(self, data: bytes) -> None:
        """Write ``data`` now, unless there is something to gather it with.

        To gather costs one more turn of the loop, which is much for a single small message. With
        the messages of several connections it pays: one after the other they would wake up the
        process at the other end again and again.
        """
        if self.state.dirty or self._out:
            self.write(data)
        else:
            self.written += len(data)
            self._transport.write(data)

    def copies_nothing(self) -> bool:
        """Whether the transport holds what the client has not taken, and not a copy of it."""
        return self.state.vectored and self._transport.get_extra_info("sslcontext") is None

    def flush(self) -> None:
        """Hand what was gathered to the transport."""
        out, size = self._out, self._out_size
        if not out:
            return
        if self.state.before_flush is not None:
            self.state.before_flush()
        self._out_size = 0
        self.written += size
        if len(out) > 1 and size > _GATHER and self._goes_apart(size):
            self._out = []
            self._transport.writelines(out)
            return
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        self._transport.write(data)

    def count_written(self, size: int) -> None:
        """``size`` bytes were sent past the transport."""
        self.written += size

    def abort(self) -> None:
        """Close now; what was gathered is handed over first."""
        self.flush()
        self._transport.abort()

    def close_down(self) -> None:
        """Close once everything that was written has been taken, in bounded time."""
        self.flush()
        transport = self._transport
        transport.close()
        self._write_due = 0.0
        if transport.get_write_buffer_size() or transport.get_extra_info("sslcontext") is not None:
            self.arm(_CLOSE)
        else:
            self.disarm()  # the loop closes it in its next turn, whatever the kernel still holds

    # The answer

    def arm_answer(self) -> None:
        """A request's turn has come; only called if there is a limit."""
        self._answer_due = self._due(self._limits.request)

    # The sweep

    def expire(self) -> None:
        """``deadline`` has passed: look which clocks really have run out."""
        now = self._loop.time()
        if 0.0 < self._answer_due <= now:
            self._answer_due = 0.0
            self.answer_expired()
        if 0.0 < self._write_due <= now:
            if self._progress(self._taken() - self._write_mark, self._limits.write):
                self.arm_write()
            else:
                self._write_due = 0.0
                self.write_stalled()
        if 0.0 < self._phase_due <= now:
            self._expire_phase()
        running = [due for due in (self._answer_due, self._write_due, self._phase_due) if due]
        self.deadline = min(running, default=0.0)

    def _expire_phase(self) -> None:
        clock = self._clock
        if clock is Clock.BODY:
            progress = self._progress(self.received - self._phase_mark, self._limits.body)
        elif clock is Clock.CLOSE:
            progress = self._progress(self._taken() - self._phase_mark, self._limits.write)
        else:
            progress = False
        if progress:
            self.arm(clock)
        else:
            self.disarm()
            self.phase_expired(clock)

    def _progress(self, size: int, seconds: float) -> bool:
        return size >= max(1.0, self._limits.min_data_rate * seconds)

    def _taken(self) -> int:
        return bytes_taken(self._transport, self.written)

    def _due(self, seconds: float) -> float:
        due = self._loop.time() + seconds
        if due < self.deadline or not self.deadline:
            self._advance(due)
        return due

    def _advance(self, due: float) -> None:
        self.deadline = due
        deadlines = self.state.deadlines
        if due < deadlines.horizon:
            deadlines.soon.add(self)
