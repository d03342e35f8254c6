"""One HTTP/1.1 connection: the queue of its exchanges, and the rules by which it ends.

Ending is data, not a mode: ``ServerState.keep_alive`` only goes from True to False, and the
normal path reads it. A connection that has given its last answer lingers where the peer may
still be sending: it says FIN, reads and discards until the peer's FIN or the deadline, and only
then closes. Closing with unread input makes the kernel send a reset, which destroys an answer
that the client has not read yet (RFC 9112 section 9.6).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from gunicorn_asgi.aio.clocks import Clock, ClockedProtocol
from gunicorn_asgi.aio.cycle import HTTPCycle
from gunicorn_asgi.aio.flow import (
    FlowControl,
    Pause,
    client_has_left,
    half_close,
    has_input,
    reset,
)
from gunicorn_asgi.aio.overload import overloaded_app
from gunicorn_asgi.aio.spawn import CAN_START_AT_ONCE
from gunicorn_asgi.aio.state import ServerState
from gunicorn_asgi.aio.websocket import WebSocketProtocol
from gunicorn_asgi.protocol.accesslog import AccessRecord
from gunicorn_asgi.protocol.errors import ProtocolError, RemoteProtocolError
from gunicorn_asgi.protocol.exchange import Reading, Writing
from gunicorn_asgi.protocol.h1 import RequestParser
from gunicorn_asgi.protocol.head import RequestHead
from gunicorn_asgi.protocol.identity import named
from gunicorn_asgi.protocol.response import error_response
from gunicorn_asgi.protocol.scope import Peer

if TYPE_CHECKING:
    from gunicorn_asgi.aio.listener import Listener
    from gunicorn_asgi.protocol.proxy import ProxyHeader

__all__ = ["HTTP1Protocol"]

# Bytes of a refused head that are quoted in the log.
_QUOTE = 64

# See protocol/exchange.py.
_NO_CLOCK, _PAUSED, _KEEP_ALIVE = Clock.NONE, Clock.PAUSED, Clock.KEEP_ALIVE
_REQUEST_HEAD, _BODY = Clock.REQUEST_HEAD, Clock.BODY
_READ, _DONE, _UNREAD_BODY = Reading.DONE, Writing.DONE, Pause.BODY
# See ``write_answer``; a request that is started at once does not wait for its turn in between.
_CROWD = 4.0 if CAN_START_AT_ONCE else 2.0
# Clocks of a connection on which nothing of the next request has come in.
_EMPTY = (Clock.FIRST_BYTE, Clock.KEEP_ALIVE)


class HTTP1Protocol(ClockedProtocol):
    """The asyncio face of a connection; its exchanges are ``HTTPCycle`` objects.

    Attributes:
        retiring: whether the next response is the last.
    """

    __slots__ = (
        "_behind",
        "_current",
        "_lingering",
        "_listener",
        "_parser",
        "_peer",
        "_proxied",
        "_reading",
        "_refusal",
        "_upgrade",
        "_waiting",
        "retiring",
    )

    # Four messages of 64 KiB, as many applications send them: 12 % less than a write for each.
    gather_large = 256 * 1024

    _peer: Peer

    def __init__(
        self, state: ServerState, listener: Listener, proxied: ProxyHeader | None = None
    ) -> None:
        """``proxied``: what a PROXY header in front of the connection has said."""
        super().__init__(state)
        # Process
        self._listener = listener
        # Connection
        self._proxied = proxied
        self._lingering = False
        self.retiring = False
        self._parser = RequestParser(self, state.limits, state.known)
        # Exchanges: the one answered now, the one behind it, the one whose body comes in now.
        self._current: HTTPCycle | None = None
        self._waiting: HTTPCycle | None = None
        self._reading: HTTPCycle | None = None
        # What follows the last exchange: a malformed request, or a WebSocket.
        self._refusal: ProtocolError | None = None
        self._upgrade: RequestHead | None = None
        self._behind = b""

    @property
    def transport(self) -> asyncio.Transport:
        """The transport, for what goes past ``write()``."""
        return self._transport

    @property
    def idle(self) -> bool:
        """Whether nothing was begun on it: it waits for a request, and nobody waits for it."""
        return not (self._current or self._waiting or self._lingering) and self._parser.idle

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the transport is there."""
        # uvloop's transports are Transports without being subclasses.
        self._transport = transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(high=self.state.limits.write_buffer)
        self.flow = FlowControl(transport)
        self._peer = self._listener.peer(transport, self.state.policy, self._proxied)
        self.state.add(self)
        self.arm(Clock.FIRST_BYTE)
        if self.state.draining:  # accepted just before
            self.drain(0)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes came in."""
        if self._lingering or self._refusal is not None or self._upgrade is not None:
            return  # behind the last request of this connection
        try:
            rest = self._parser.feed(data)
        except RemoteProtocolError as exc:
            self._refuse(exc)
            return
        if rest is not None:
            self._upgraded(rest)
        elif self.flow.pauses:
            self.arm(_PAUSED)
        elif self._reading is not None:
            if self._clock in (_NO_CLOCK, _PAUSED):
                self.arm(_BODY)
        elif self._clock in _EMPTY and not self._parser.idle:
            self.arm(_REQUEST_HEAD)
            if self.state.draining:
                self.drain(0)

    def eof_received(self) -> None:
        """asyncio: the client closed its half, which is taken for leaving; the transport closes."""
        self.flush()
        if self._current is not None:
            self._current.lose()
        self.arm(Clock.CLOSE)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the transport is gone."""
        self.deadline = 0.0
        self._out.clear()
        self.flow.close()
        if self._current is not None:
            self._current.lose()
            self._current = None
        self._waiting = None
        self._parser.close()
        self.state.discard(self)

    def resume_writing(self) -> None:
        """asyncio: the client has caught up."""
        super().resume_writing()
        if self._is_held_up() and not (self._lingering or self._transport.is_closing()):
            self._next()

    # RequestSink: what the parser tells us

    def on_head(self, head: RequestHead) -> None:
        """A request's head is complete."""
        if self._lingering:
            return
        head.received = self.state.clock()
        if head.websocket:
            self._upgrade = head
            return
        cycle = HTTPCycle(self, head)
        if not head.complete:
            self._reading = cycle
        if self._current is None and not self.flow.write_paused:
            self._begin(cycle)
        else:
            self._waiting = cycle
            self._parser.hold()
            self.flow.pause_reading(Pause.PIPELINE)

    def on_body(self, data: bytes) -> None:
        """A piece of a request's body."""
        if self._reading is not None:
            self.received += len(data)
            self._reading.feed_body(data)

    def on_message_complete(self) -> None:
        """A request is complete."""
        cycle, self._reading = self._reading, None
        if cycle is None:
            return
        if self._clock is _BODY:
            self.disarm()
        cycle.end_body()
        if cycle is self._current and cycle.writing is _DONE:
            self._current = None
            self._next()

    # What the current exchange tells us

    def write_answer(self, data: bytes, begun: float, now: float) -> None:
        """Write a whole answer to a request whose head was complete at ``begun``.

        At once if it is the only one for the moment: to gather costs one more turn of the loop.
        With many, to write each by itself costs more, since every write wakes up its client. That
        there are many shows in the time since the last one: it is not much longer than what the
        request itself has taken in this process.
        """
        state = self.state
        crowded = now - state.answered < _CROWD * (now - begun)
        state.answered = now
        if crowded or self._out or state.before_flush is not None:
            self.write(data)
        else:
            if state.meter is not None:
                state.meter.settle()
            self.written += len(data)
            self._transport.write(data)

    def ask_for_body(self) -> None:
        """Send the 100 that the client waits for; from now on it is waited for."""
        self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._clock is _BODY:
            self.arm(_BODY)

    def response_complete(self, cycle: HTTPCycle) -> None:
        """``cycle`` has sent its last byte: apply the joint rules of protocol/exchange.py."""
        self._answer_due = 0.0
        if self.flow.pauses:
            self.flow.resume_reading(_UNREAD_BODY)
        if not cycle.encoder.keep_alive:
            self._close_after(cycle)
        elif cycle.reading is _READ:
            self._current = None
            self._next()
        else:
            self.arm(Clock.DISCARD)

    def abort_response(self, cycle: HTTPCycle) -> None:
        """``cycle`` ends in the middle of its response: let the client see that it does."""
        cycle.lose()
        self.flush()
        if cycle.head.version == "1.0":
            reset(self._transport)  # a clean end would look like the end of the body
        else:
            self.close_down()

    def linger(self) -> None:
        """No more answers: say FIN, then read and discard until the peer does or time is up."""
        if self._lingering:
            return
        self._lingering = True
        self._reading = None  # the parser may be in the middle of what is discarded from now on
        self.flush()
        if self._transport.is_closing():
            return
        half_close(self._transport)
        self.flow.resume_reading(_UNREAD_BODY)
        self.flow.resume_reading(Pause.PIPELINE)
        self._answer_due = 0.0
        self.arm(Clock.LINGER)

    # What the server tells us (state.Connection)

    def drain(self, code: int) -> None:
        """The worker leaves: an idle connection keeps its deadline, within bounds."""
        if not (self._current or self._waiting or self._lingering):
            self.shorten(self.state.limits.drain_linger)

    def retire(self) -> None:
        """Make room for somebody else: close now if idle, else behind the next response."""
        if self.idle:
            self.close_down()
        else:
            self.retiring = True

    def tell(self) -> None:
        """The drain nears its end."""
        if self._current is not None:
            self._current.tell()

    # Inside

    def phase_expired(self, clock: Clock) -> None:
        """clocks: the phase has taken too long."""
        if clock is _REQUEST_HEAD and not self._parser.idle:
            self._parser.give_up()
            self._refuse(RemoteProtocolError("request head took too long", 408))
        elif clock is _BODY:
            self._body_stalled()
        elif clock is _PAUSED:
            self._look_for_client()
        elif clock is Clock.DISCARD:
            self.linger()
        elif clock is Clock.CLOSE:
            self.write_stalled()
        else:
            self.close_down()

    def write_stalled(self) -> None:
        """clocks: the client does not take what was written."""
        self.state.refusals.tell("Aborted a response to %s: it is not taken", self._address())
        reset(self._transport)

    def answer_expired(self) -> None:
        """clocks: asgi_request_timeout."""
        if self._current is not None:
            self._current.time_out()

    # Inside

    def _body_stalled(self) -> None:
        cycle = self._reading
        if cycle is not None and not cycle.continued:
            self.arm(_BODY)  # it waits for our 100
        else:
            self._refuse(RemoteProtocolError("request body took too long", 408))

    def _look_for_client(self) -> None:
        """A socket that is not read does not tell that its client has left."""
        if not self.flow.reading_paused:
            if self._reading is not None:
                self.arm(_BODY)
        elif client_has_left(self._transport):
            self.eof_received()
            self.close_down()
        else:
            self.arm(_PAUSED)

    def _begin(self, cycle: HTTPCycle) -> None:
        if self._clock is not _PAUSED:
            self._clock = _NO_CLOCK  # as disarm() does
            self._phase_due = 0.0
        self._current = cycle
        state = self.state
        state.requests += 1  # as count_request() does
        if state.requests == state.enough:
            state.on_enough()
        try:
            scope = state.scopes.http(cycle.head, self._peer, state.lifespan_state)
        except RemoteProtocolError as exc:
            cycle.scope = self._peer.known()
            self._refusal = exc
            self._refuse_cycle(cycle, exc)
            return
        if self._limits.request:
            self.arm_answer()
        if state.sheds and state.overloaded():
            cycle.begin(scope, overloaded_app)
        else:
            cycle.begin(scope, state.app)

    def _is_held_up(self) -> bool:
        """Whether only a client that does not read keeps the next request from its turn."""
        return self._current is None and (self._waiting is not None or self._upgrade is not None)

    def _next(self) -> None:
        """Nothing is being answered and the connection lives on: take up what comes next."""
        if self._waiting is None and self._refusal is None and self._upgrade is None:
            # A part of the next head may have come in meanwhile.
            self.arm(_KEEP_ALIVE if self._parser.idle else _REQUEST_HEAD)
            if self.state.draining:
                self.drain(0)
        elif self.flow.write_paused and self._is_held_up():
            return  # the client takes first what it has asked for; resume_writing() comes back
        elif self._waiting is not None:
            following, self._waiting = self._waiting, None
            self.pipelining = True
            self._begin(following)
            if kept := self._parser.release():
                self.data_received(kept)
            if self._waiting is None and self._upgrade is None:
                self.flow.resume_reading(Pause.PIPELINE)
        elif self._refusal is not None:
            self._refuse(self._refusal)
        elif self._upgrade is not None:
            self._start_websocket(self._upgrade)

    def _close_after(self, cycle: HTTPCycle) -> None:
        """``cycle`` was the last: close, and linger where the peer may still be sending."""
        self._current = None
        self._waiting = None
        last = cycle.reading is _READ and not cycle.head.keep_alive
        if last and not self._parser.surplus and not has_input(self._transport):
            self.close_down()
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
            self._waiting = None
        if self._current is None:
            self._log_refusal(error, f"beginning with {self._parser.refused[:_QUOTE]!r}")
            self.write(error_response(error.status_hint, self.state.date_line()))
            self._record_refusal(error)
            self.linger()

    def _refuse_cycle(self, cycle: HTTPCycle, error: ProtocolError) -> None:
        """The current request turned out to be none, after its head was taken for good."""
        self._log_refusal(error, f"in {named(cycle.head)}")
        if cycle.writing is Writing.BODY:
            self.abort_response(cycle)
            return
        if cycle.writing is not _DONE:
            cycle.refuse(error.status_hint)
        cycle.lose()
        self.linger()

    def _log_refusal(self, error: ProtocolError, where: str) -> None:
        # !r: message and bytes quote the peer, and a log line must stay one line.
        self.state.refusals.tell(
            "Refused a request from %s with %d: %r, %s",
            self._address(),
            error.status_hint,
            str(error),
            where,
        )

    def _address(self) -> str:
        client = self._peer.client
        return f"{client[0]}:{client[1]}" if client else "unix socket"

    def _record_refusal(self, error: ProtocolError) -> None:
        """The access line of a request that has no exchange."""
        state = self.state
        state.totals.refused_requests += 1
        if state.on_complete is not None:
            head = RequestHead.of_refused(self._parser.refused)
            state.on_complete(AccessRecord(head, self._peer.known(), error.status_hint, [], 0, 0.0))

    def _upgraded(self, rest: bytes) -> None:
        self._behind = rest
        if self._current is None and self._upgrade is not None and not self.flow.write_paused:
            self._start_websocket(self._upgrade)
        else:
            self.flow.pause_reading(Pause.PIPELINE)
            self.arm(_PAUSED)

    def _start_websocket(self, head: RequestHead) -> None:
        """Hand the transport over to a WebSocketProtocol; this connection is no more."""
        self.disarm()
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
