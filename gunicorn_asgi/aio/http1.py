"""One HTTP/1.1 connection: the queue of its exchanges, and the rules by which it ends.

Ending is data, not a mode: ``ServerState.keep_alive`` only goes from True to False, and the
normal path reads it. A connection that has given its last answer lingers where the peer may
still be sending: it says FIN, reads and discards until the peer's FIN or the deadline, and only
then closes. Closing with unread input makes the kernel send a reset, which destroys an answer
that the client has not read yet (RFC 9112 section 9.6).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING, cast

from gunicorn_asgi.aio.cycle import HTTPCycle
from gunicorn_asgi.aio.flow import FlowControl, Pause
from gunicorn_asgi.aio.state import ServerState
from gunicorn_asgi.aio.websocket import WebSocketProtocol
from gunicorn_asgi.protocol.errors import ProtocolError, RemoteProtocolError
from gunicorn_asgi.protocol.h1 import Reading, RequestHead, RequestParser, Writing
from gunicorn_asgi.protocol.response import error_response
from gunicorn_asgi.protocol.scope import Peer, http_scope

if TYPE_CHECKING:
    from gunicorn_asgi.aio.server import Listener

__all__ = ["Clock", "HTTP1Protocol"]

# Gathered responses go out at once at this size (bytes): more in one write gains nothing.
_GATHER = 64 * 1024


# SO_LINGER, on, with 0 seconds: closing sends RST and not FIN (socket(7)).
_RST = struct.pack("ii", 1, 0)


def _reset(transport: asyncio.Transport) -> None:
    """Close with a reset; a unix socket knows none and just closes."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
    transport.abort()


class Clock(IntEnum):
    """What a connection's one deadline measures."""

    NONE = 0
    REQUEST_HEAD = 1
    KEEP_ALIVE = 2
    DISCARD = 3
    LINGER = 4


class HTTP1Protocol(asyncio.Protocol):
    """The asyncio face of a connection; its exchanges are ``HTTPCycle`` objects.

    Attributes:
        state: what the worker's connections share.
        deadline: when the running clock ends, by the loop's time; 0 for none.
    """

    __slots__ = (
        "_behind",
        "_clock",
        "_current",
        "_lingering",
        "_listener",
        "_out",
        "_out_size",
        "_parser",
        "_peer",
        "_reading",
        "_refusal",
        "_transport",
        "_upgrade",
        "_waiting",
        "deadline",
        "flow",
        "state",
    )

    flow: FlowControl
    _transport: asyncio.Transport
    _peer: Peer

    def __init__(self, state: ServerState, listener: Listener) -> None:
        # Process
        self.state = state
        self._listener = listener
        # Connection
        self.deadline = 0.0
        self._clock = Clock.NONE
        self._lingering = False
        self._out: list[bytes] = []
        self._out_size = 0
        self._parser = RequestParser(self, state.limits)
        # Exchanges: the one answered now, the ones behind it, the one whose body comes in now.
        self._current: HTTPCycle | None = None
        self._waiting: deque[HTTPCycle] = deque()
        self._reading: HTTPCycle | None = None
        # What follows the last exchange: a malformed request, or a WebSocket.
        self._refusal: ProtocolError | None = None
        self._upgrade: RequestHead | None = None
        self._behind = b""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the transport is there."""
        # uvloop's transports are Transports without being subclasses.
        self._transport = transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(high=self.state.limits.write_buffer)
        self.flow = FlowControl(transport)
        self._peer = self._listener.peer(transport)
        self.state.add(self)
        self._arm(Clock.REQUEST_HEAD, self.state.limits.request_head)
        if self.state.draining:  # accepted just before
            self.drain(0)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes came in."""
        if self._lingering or self._refusal is not None or self._upgrade is not None:
            return  # behind the last request of this connection
        try:
            rest = self._parser.feed(data)
        except RemoteProtocolError as exc:
            # RFC 9112 9.6: what follows the last request is not processed, so not judged either.
            if self._reading is not None or not self._last_was_read():
                self._refuse(exc)
            return
        if rest is not None:
            self._upgraded(rest)
        elif self._clock is Clock.KEEP_ALIVE and not self._parser.idle:
            self._arm(Clock.REQUEST_HEAD, self.state.limits.request_head)

    def eof_received(self) -> None:
        """asyncio: the client closed its half, which is taken for leaving; the transport closes."""
        self.flush()
        if self._current is not None:
            self._current.lose()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the transport is gone."""
        self.deadline = 0.0
        self._out.clear()
        self.flow.close()
        if self._current is not None:
            self._current.lose()
            self._current = None
        self._waiting.clear()
        self._parser.close()
        self.state.discard(self)

    def pause_writing(self) -> None:
        """asyncio: the client reads more slowly than the application writes."""
        self.flow.pause_writing()

    def resume_writing(self) -> None:
        """asyncio: the client has caught up."""
        self.flow.resume_writing()

    # RequestSink: what the parser tells us

    def on_head(self, head: RequestHead) -> None:
        """A request's head is complete."""
        if self._lingering or self._last_was_read():
            return
        head.received = self.state.clock()
        if head.websocket:
            self._upgrade = head
            return
        cycle = self._reading = HTTPCycle(self, head)
        if self._current is None:
            self._begin(cycle)
        else:
            self._waiting.append(cycle)
            self.flow.pause_reading(Pause.PIPELINE)

    def on_body(self, data: bytes) -> None:
        """A piece of a request's body."""
        if self._reading is not None:
            self._reading.feed_body(data)

    def on_message_complete(self) -> None:
        """A request is complete."""
        cycle, self._reading = self._reading, None
        if cycle is None:
            return
        cycle.end_body()
        if cycle is self._current and cycle.writing is Writing.DONE:
            self._next(cycle)

    # What the current exchange tells us

    def write(self, data: bytes) -> None:
        """Write ``data``, gathered with whatever else this turn of the loop brings."""
        if not self._out:
            self.state.gather(self)
        self._out.append(data)
        self._out_size += len(data)
        if self._out_size >= _GATHER:
            self.flush()

    def flush(self) -> None:
        """Hand what was gathered to the transport."""
        out = self._out
        if out:
            data = out[0] if len(out) == 1 else b"".join(out)
            out.clear()
            self._out_size = 0
            self._transport.write(data)

    def response_complete(self, cycle: HTTPCycle) -> None:
        """``cycle`` has sent its last byte: apply the joint rules of protocol/h1.py."""
        self.flow.resume_reading(Pause.BODY)
        if not cycle.encoder.keep_alive:
            self._close_after(cycle)
        elif cycle.reading is Reading.DONE:
            self._next(cycle)
        else:
            self._arm(Clock.DISCARD, self.state.limits.request_head)

    def abort_response(self, cycle: HTTPCycle) -> None:
        """``cycle`` ends in the middle of its response: let the client see that it does."""
        cycle.lose()
        self.flush()
        if cycle.head.version == "1.0":
            _reset(self._transport)  # a clean end would look like the end of the body
        else:
            self._transport.close()

    def linger(self) -> None:
        """No more answers: say FIN, then read and discard until the peer does or time is up."""
        if self._lingering:
            return
        self._lingering = True
        self._reading = None  # the parser may be in the middle of what is discarded from now on
        self.flush()
        if self._transport.is_closing():
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self.flow.resume_reading(Pause.BODY)
        self.flow.resume_reading(Pause.PIPELINE)
        self._arm(Clock.LINGER, self.state.limits.linger)

    # What the server tells us (state.Connection)

    def expire(self) -> None:
        """The deadline has passed."""
        clock = self._clock
        self._clock = Clock.NONE
        if clock is Clock.REQUEST_HEAD and not self._parser.idle:
            self._refuse(RemoteProtocolError("request head took too long", 408))
        elif clock is Clock.DISCARD:
            self.linger()
        else:
            self._transport.close()

    def drain(self, code: int) -> None:
        """The worker leaves: an idle connection keeps its deadline, within bounds."""
        if self._current is None and not self._lingering:
            limit = self.state.loop.time() + self.state.limits.drain_linger
            self.deadline = min(self.deadline or limit, limit)

    def tell(self) -> None:
        """The drain nears its end."""
        if self._current is not None:
            self._current.tell()

    def abort(self) -> None:
        """Close now."""
        self.flush()
        self._transport.abort()

    # Inside

    def _arm(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self.state.deadlines.arm(self, seconds)

    def _disarm(self) -> None:
        self._clock = Clock.NONE
        self.deadline = 0.0

    def _last_was_read(self) -> bool:
        """Whether the client has sent the request that it called its last."""
        last = self._waiting[-1] if self._waiting else self._current
        return self._reading is None and last is not None and not last.head.keep_alive

    def _begin(self, cycle: HTTPCycle) -> None:
        self._disarm()
        self._current = cycle
        state = self.state
        state.count_request()
        try:
            scope = http_scope(cycle.head, self._peer, state.root_path, state.lifespan_state)
        except RemoteProtocolError as exc:
            self._refusal = exc
            self._refuse_cycle(cycle, exc)
            return
        cycle.begin(scope)

    def _next(self, cycle: HTTPCycle) -> None:
        """``cycle`` is over on both sides and the connection lives on."""
        self._current = None
        if self._waiting:
            following = self._waiting.popleft()
            if not self._waiting:
                self.flow.resume_reading(Pause.PIPELINE)
            self._begin(following)
        elif self._refusal is not None:
            self._refuse(self._refusal)
        elif self._upgrade is not None:
            self._start_websocket(self._upgrade)
        else:
            if self._parser.idle:
                self._arm(Clock.KEEP_ALIVE, self.state.limits.keep_alive)
            else:  # a part of the next head came in meanwhile
                self._arm(Clock.REQUEST_HEAD, self.state.limits.request_head)
            if self.state.draining:
                self.drain(0)

    def _close_after(self, cycle: HTTPCycle) -> None:
        """``cycle`` was the last: close, and linger where the peer may still be sending."""
        self._current = None
        self._waiting.clear()
        if cycle.reading is Reading.DONE and not cycle.head.keep_alive:
            self.flush()
            self._transport.close()
        else:
            self.linger()

    def _refuse(self, error: ProtocolError) -> None:
        """Answer a request that is none, once everything before it has been answered."""
        broken, self._reading = self._reading, None
        self._refusal = error
        if broken is not None and broken is self._current:
            self._refuse_cycle(broken, error)
            return
        if broken is not None:
            self._waiting.remove(broken)
        if self._current is None:
            self._log_refusal(error)
            self.write(error_response(error.status_hint, self.state.date_line()))
            self.linger()

    def _refuse_cycle(self, cycle: HTTPCycle, error: ProtocolError) -> None:
        """The current request turned out to be none, after its head was taken for good."""
        self._log_refusal(error)
        if cycle.writing is Writing.BODY:
            self.abort_response(cycle)
            return
        if cycle.writing is not Writing.DONE:
            cycle.refuse(error.status_hint)
        cycle.lose()
        self.linger()

    def _log_refusal(self, error: ProtocolError) -> None:
        client = self._peer.client
        address = f"{client[0]}:{client[1]}" if client else "unix socket"
        # !r: the message may quote the peer, and a log line must stay one line.
        self.state.log.warning(
            "Refused a request from %s with %d: %r", address, error.status_hint, str(error)
        )

    def _upgraded(self, rest: bytes) -> None:
        self._behind = rest
        if self._current is None and self._upgrade is not None:
            self._start_websocket(self._upgrade)
        else:
            self.flow.pause_reading(Pause.PIPELINE)

    def _start_websocket(self, head: RequestHead) -> None:
        """Hand the transport over to a WebSocketProtocol; this connection is no more."""
        self._disarm()
        self.flush()
        self.flow.resume_reading(Pause.PIPELINE)
        self._parser.close()
        protocol = WebSocketProtocol(self.state, self._transport, self._peer, head)
        self._transport.set_protocol(protocol)
        self.state.add(protocol)
        self.state.discard(self)
        protocol.begin(self._behind)
        if self.state.drain_code:  # the drain has walked the connections already
            protocol.drain(self.state.drain_code)
