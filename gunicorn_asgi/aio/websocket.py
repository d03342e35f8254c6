"""One WebSocket connection: the asyncio face of protocol/websocket.py.

What the application sees of it is ``aio/channel.py``. Frames of one turn of the loop go out in one
write, as responses do; a single answer goes out at once.
"""

from __future__ import annotations

import asyncio
from typing import Any

from gunicorn_asgi.aio.channel import WebSocketChannel
from gunicorn_asgi.aio.clocks import Clock, ClockedProtocol
from gunicorn_asgi.aio.flow import FlowControl, Pause, half_close, has_input, reset, takes_more
from gunicorn_asgi.aio.overload import overloaded_app
from gunicorn_asgi.aio.state import ServerState
from gunicorn_asgi.protocol.accesslog import AccessRecord, WebSocketFigures
from gunicorn_asgi.protocol.errors import RemoteProtocolError
from gunicorn_asgi.protocol.head import RequestHead
from gunicorn_asgi.protocol.identity import named
from gunicorn_asgi.protocol.response import error_response
from gunicorn_asgi.protocol.scope import Peer
from gunicorn_asgi.protocol.websocket import (
    WebSocketConnection,
    WebSocketEvent,
    WebSocketState,
    close_frame,
)

__all__ = ["WebSocketProtocol"]

# Fields that belong to a refused handshake (RFC 6455 4.4, RFC 9110 15.5.6 and 15.5.22).
_REFUSAL_FIELDS: dict[int, list[tuple[bytes, bytes]]] = {
    405: [(b"allow", b"GET")],
    426: [(b"sec-websocket-version", b"13"), (b"upgrade", b"websocket")],
}

# Before Python 3.12 a member that is looked up costs seven times a name.
_HANDSHAKE = WebSocketState.HANDSHAKE
_CLOSED = WebSocketState.CLOSED

# RFC 6455 7.4.1: what a client is told that does not answer a Ping, or asks for too many Pongs.
_INTERNAL_ERROR = 1011
_POLICY_VIOLATION = 1008

# TLS has no half to close, so a client that waits for our end would wait as long as we linger:
# there this many seconds of silence are taken for its having seen what we have said.
_SILENCE = 1.0


class WebSocketProtocol(ClockedProtocol):
    """Takes a transport over from HTTP1Protocol when a handshake came in.

    Attributes:
        ws: the protocol's state.
        channel: the application's end.
        figures: what went through it.
        recorded: whether they are in ``ServerState.totals``; the connection may be open still.
    """

    __slots__ = (
        "_asked",
        "_controls_from",
        "_early",
        "_first_byte",
        "_headers",
        "_heard",
        "_lingers_until",
        "_peer",
        "_sent",
        "_status",
        "_taken_then",
        "channel",
        "figures",
        "recorded",
        "ws",
    )

    def __init__(
        self,
        state: ServerState,
        transport: asyncio.Transport,
        peer: Peer,
        head: RequestHead,
    ) -> None:
        super().__init__(state)
        # Connection
        self._transport = transport
        self._peer = peer
        self.flow = FlowControl(transport)
        self.ws = WebSocketConnection(head, state.limits)
        self.channel = WebSocketChannel(self, head)
        self.channel.scope = peer.known()
        # What came in before the application has accepted.
        self._early = b""
        # Keep-alive: when something came in, when a Ping went out, and what had been taken then.
        self._heard = 0.0
        self._asked = 0.0
        self._taken_then = 0
        self._controls_from = 0.0
        self._lingers_until = 0.0
        # Access log; when (seconds behind the head) the handshake was answered.
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._sent = 0
        self._first_byte: float | None = None
        self.figures = WebSocketFigures()
        self.recorded = False

    def begin(self, rest: bytes) -> None:
        """Answer a wrong handshake, or start the application; ``rest`` came in behind it."""
        state, head = self.state, self.channel.head
        state.count_request()
        try:
            subprotocols = self.ws.handshake()
            scope = state.scopes.websocket(head, self._peer, subprotocols, state.lifespan_state)
        except RemoteProtocolError as exc:
            state.refusals.tell(
                "Refused a WebSocket handshake with %d: %r, in %s",
                exc.status_hint,
                str(exc),
                named(head),
            )
            self.refuse(exc.status_hint)
            return
        self._early = rest
        if self._limits.request:
            self.arm_answer()
        shed = state.sheds and state.overloaded()
        self.channel.begin(scope, overloaded_app if shed else state.app)

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes came in."""
        self._heard = self._loop.time()
        ws = self.ws
        if ws.state is _HANDSHAKE:
            # Kept for later, and read all the same: a client that leaves has to be noticed.
            self._early += data
            if len(self._early) > self._limits.read_buffer:
                self.flow.pause_reading(Pause.PIPELINE)
            return
        if not ws.listens():
            return
        self.figures.bytes_received += len(data)
        controls = ws.controls
        messages, answer = ws.feed(data)
        if answer:
            self.write(answer)
            if self.flow.write_paused:
                # Else a client that asks and never reads would have us hold all the answers.
                self.flow.pause_reading(Pause.PIPELINE)
        if ws.controls > controls:
            self._look_at_controls(ws.controls - controls)
        if messages:
            self.figures.received += len(messages)
            if self.channel.put(messages):
                self.flow.pause_reading(Pause.BODY)
        if ws.failure is not None:
            self.arm(Clock.CLOSING)  # for the application to receive what came before
            if self.channel.empty:
                self.fail()
        elif ws.state is _CLOSED:
            self.shut()

    def eof_received(self) -> None:
        """asyncio: the peer closed its half; the transport closes, once all is taken."""
        self.flush()
        self.arm(Clock.CLOSE)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the transport is gone."""
        self.deadline = 0.0
        self._out.clear()
        self.flow.close()
        self.ws.fire(WebSocketEvent.LOST)
        self.channel.wake_up()
        self._record()
        self.channel.cancel_after_grace()
        self.state.discard(self)

    def resume_writing(self) -> None:
        """asyncio: the peer has caught up."""
        super().resume_writing()
        self.flow.resume_reading(Pause.PIPELINE)

    # What the server tells us (state.Connection)

    def drain(self, code: int) -> None:
        """Close with ``code``; an application that accepts later is closed then."""
        if self.ws.state is WebSocketState.OPEN:
            self.close(code, "")

    def tell(self) -> None:
        """The drain nears its end; an application that has not accepted yet is disconnected."""
        self.channel.wake_up()

    # The clocks

    def phase_expired(self, clock: Clock) -> None:
        """clocks: the peer was silent, or did not close in time."""
        if clock is Clock.PING:
            self._ping()
        elif clock is Clock.PONG:
            self._look_alive()
        elif clock is Clock.LINGER:
            self._linger_on()
        elif clock is Clock.CLOSE:
            self.write_stalled()
        elif clock is Clock.CLOSING and self.ws.broken and not self.ws.over:
            self.fail()
        else:
            self._transport.abort()

    def write_stalled(self) -> None:
        """clocks: the client does not take what was written."""
        self.state.refusals.tell("Aborted a WebSocket that does not read: %s", self._name())
        reset(self._transport)

    def answer_expired(self) -> None:
        """clocks: asgi_request_timeout, for the handshake."""
        task = self.channel.task
        if self.ws.state is WebSocketState.HANDSHAKE and task is not None:
            self.state.log.warning("Not accepted within asgi_request_timeout: %s", self._name())
            self.refuse(504)
            task.cancel()

    def _ping(self) -> None:
        limits = self._limits
        now = self._loop.time()
        quiet = now - self._heard
        if quiet < limits.websocket_ping_interval:
            self.arm(Clock.PING)
            self.shorten(limits.websocket_ping_interval - quiet)
            return
        self.write(self.ws.ping(b""))
        self.flush()
        self._asked, self._taken_then = now, self._taken()
        self.arm(Clock.PONG if limits.websocket_ping_timeout else Clock.PING)
        self.shorten(limits.websocket_ping_interval)  # it may have answered by then

    def _look_alive(self) -> None:
        """If no Pong came: that is no death while we have not read, or it has not been asked.

        Our Ping may be behind a large message, of which the kernel holds megabytes.
        """
        if self._heard >= self._asked:
            self._ping()
            return
        left = self._asked + self._limits.websocket_ping_timeout - self._loop.time()
        if left > 0.0:
            self.arm(Clock.PONG)
            self.shorten(left)
            return
        unread = self.flow.reading_paused or has_input(self._transport)
        if unread or (takes_more(self._transport) and self._taken() > self._taken_then):
            self._ping()
            return
        self.state.log.debug("No Pong in time: %s", self._name())
        self.write(close_frame(_INTERNAL_ERROR, "keepalive ping timeout"))
        self.ws.fire(WebSocketEvent.LOST)
        self._linger()

    # What the application's end calls

    def resume_reading(self) -> None:
        """The application has caught up."""
        self.flow.resume_reading(Pause.BODY)

    def send_message(self, message: str | bytes, prompt: bool = False) -> None:
        """One message of the application's; ``prompt``: it may be the only one of this turn."""
        data = self.ws.message(message)
        self.figures.sent += 1
        self._sent += len(data)
        if prompt:
            self.write_alone(data)
        else:
            self.write(data)

    def send_denial(self, data: bytes, size: int) -> None:
        """A piece of the application's HTTP response; ``size`` bytes of it are body."""
        if self._first_byte is None and self.state.on_complete is not None:
            self._first_byte = self.state.clock() - self.channel.head.received
        self._sent += size
        self.write(data)

    def accept(self, subprotocol: str | None, headers: list[tuple[bytes, bytes]]) -> None:
        """Open the WebSocket."""
        field, request_id = self.state.request_id_response, self.channel.head.request_id
        if field and request_id and not any(name.lower() == field for name, _ in headers):
            headers = [*headers, (field, request_id.encode("ascii"))]
        self.write(self.ws.accept(subprotocol, headers))
        self._answer_due = 0.0
        self.note_response(101, headers)
        self._record_opening()
        self.flow.resume_reading(Pause.PIPELINE)
        self._heard = self._loop.time()
        if self._limits.websocket_ping_interval:
            self.arm(Clock.PING)
        if self._early:
            early, self._early = self._early, b""
            self.data_received(early)
        if self.state.drain_code:
            self.drain(self.state.drain_code)

    def close(self, code: int, reason: str) -> None:
        """Send our Close frame, and wait for the peer's."""
        self.write(self.ws.close(code, reason))
        self._closing()

    def refuse(self, status: int) -> None:
        """Answer the handshake with an HTTP error of our own."""
        self.note_response(status, [])
        fields = _REFUSAL_FIELDS.get(status, [])
        self.write(error_response(status, self.state.date_line(), headers=fields))
        self.ws.fire(WebSocketEvent.LOST)
        self.denied()

    def denied(self) -> None:
        """The answer to the handshake is no WebSocket, and the client may still be sending."""
        self._answer_due = 0.0
        self._linger()
        self._record()

    def fail(self) -> None:
        """The peer has broken a rule, and what it sent before has been answered."""
        close = self.ws.fail()
        if close:
            self.write(close)
        self._closing()

    def note_response(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """What the handshake was answered with."""
        self._status, self._headers = status, headers

    def shut(self) -> None:
        """Both halves are closed: RFC 6455 7.1.1, the server closes the connection first."""
        self.close_down()
        self._record()
        self.channel.wake_up()

    # Inside

    def _look_at_controls(self, came: int) -> None:
        """A flood of control frames costs us an answer each, and the application sees nothing.

        ``came``: how many this read has brought.
        """
        ws, rate = self.ws, self._limits.websocket_control_rate
        if self._heard - self._controls_from >= 1.0:
            self._controls_from = self._heard
            ws.controls = came
        if 0 < rate < ws.controls and ws.state is WebSocketState.OPEN:
            self.close(_POLICY_VIOLATION, "too many control frames")

    def _closing(self) -> None:
        """A Close frame has gone out: wait for the peer's, unless it could not be read."""
        self.channel.discard()
        if self.ws.broken:
            self._linger()
        else:
            self.flow.resume_reading(Pause.BODY)
            self.channel.wake_up()
            self.arm(Clock.CLOSING)

    def _linger(self) -> None:
        """No more of it is looked at: say FIN, and let it see what we have said before the end."""
        self.flush()
        self.flow.resume_reading(Pause.BODY)
        self.flow.resume_reading(Pause.PIPELINE)
        half_close(self._transport)
        self.channel.wake_up()
        self.arm(Clock.LINGER)
        if not self._transport.can_write_eof():
            self._lingers_until = self.phase_due
            self.shorten(_SILENCE)

    def _linger_on(self) -> None:
        now = self._loop.time()
        if self._heard + _SILENCE > now and now < self._lingers_until:
            self.arm(Clock.LINGER)
            self.shorten(min(_SILENCE, self._lingers_until - now))
        else:
            self.close_down()

    def _name(self) -> str:
        return named(self.channel.head)

    def _record_opening(self) -> None:
        self.state.totals.websockets_opened += 1
        self._count(101)
        if self.state.on_complete is not None:
            self.state.on_complete(self._access_record(101, None))

    def _record(self) -> None:
        """The one line of a refused handshake, or the last line of a WebSocket."""
        if self.recorded:
            return
        self.recorded = True
        opened = self._status == 101
        status = self.ws.close_code if opened else self._status or 499
        totals = self.state.totals
        totals.bytes_sent += self._sent
        totals.bytes_received += self.figures.bytes_received
        totals.messages_sent += self.figures.sent
        totals.messages_received += self.figures.received
        if not opened:
            self._count(status)
        if self.state.on_complete is not None:
            self.state.on_complete(self._access_record(status, self.figures if opened else None))

    def _count(self, status: int) -> None:
        """The handshake is over, with this status."""
        if self.state.meter is not None:
            self.state.meter.request(status, self.state.clock() - self.channel.head.received)

    def _access_record(self, status: int, figures: WebSocketFigures | None) -> AccessRecord:
        channel = self.channel
        duration = self.state.clock() - channel.head.received
        scope: dict[str, Any] = channel.scope
        if self._first_byte is None and self._status:
            self._first_byte = duration  # the handshake has just been answered
        record = AccessRecord(
            channel.head, scope, status, self._headers, self._sent, duration, figures
        )
        record.first_byte = self._first_byte
        return record
