"""One WebSocket connection: the asyncio face of protocol/websocket.py, and its application."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from gunicorn_asgi.aio.flow import FlowControl, Pause
from gunicorn_asgi.aio.messages import (
    APP_ERRORS,
    as_bytes,
    caused_by_disconnect,
    header_pairs,
    no_message,
)
from gunicorn_asgi.aio.overload import overloaded_app
from gunicorn_asgi.aio.state import ASGIApp, Message, ServerState
from gunicorn_asgi.protocol.accesslog import AccessRecord
from gunicorn_asgi.protocol.errors import (
    ClientDisconnected,
    LocalProtocolError,
    RemoteProtocolError,
)
from gunicorn_asgi.protocol.head import RequestHead
from gunicorn_asgi.protocol.identity import named
from gunicorn_asgi.protocol.response import ResponseEncoder, error_response
from gunicorn_asgi.protocol.scope import Peer
from gunicorn_asgi.protocol.websocket import (
    WebSocketConnection,
    WebSocketEvent,
    WebSocketState,
)

__all__ = ["WebSocketProtocol"]

# Messages held for an application that does not read, before the socket is no longer read.
_QUEUE = 16

# Fields that belong to a refused handshake (RFC 6455 4.4, RFC 9110 15.5.6 and 15.5.22).
_REFUSAL_FIELDS: dict[int, list[tuple[bytes, bytes]]] = {
    405: [(b"allow", b"GET")],
    426: [(b"sec-websocket-version", b"13"), (b"upgrade", b"websocket")],
}


class WebSocketProtocol(asyncio.Protocol):
    """Takes a transport over from HTTP1Protocol when a handshake came in.

    Attributes:
        state: what the worker's connections share.
        deadline: when the peer's half of the closing handshake is given up; 0 for none.
    """

    __slots__ = (
        "_begun",
        "_disconnected",
        "_early",
        "_encoder",
        "_flow",
        "_head",
        "_headers",
        "_incoming",
        "_peer",
        "_recorded",
        "_scope",
        "_sent",
        "_status",
        "_task",
        "_transport",
        "_wake",
        "_ws",
        "deadline",
        "state",
    )

    def __init__(
        self,
        state: ServerState,
        transport: asyncio.Transport,
        peer: Peer,
        head: RequestHead,
    ) -> None:
        # Process
        self.state = state
        # Connection
        self._transport = transport
        self._peer = peer
        self._flow = FlowControl(transport)
        self._ws = WebSocketConnection(head, state.limits.websocket_message)
        self.deadline = 0.0
        # Application
        self._head = head
        # What is known of it before it has a scope, for the access log.
        self._scope: dict[str, Any] = {"client": peer.client, "server": peer.server}
        self._task: asyncio.Task[None] | None = None
        self._wake: asyncio.Event | None = None
        self._incoming: deque[Message] = deque()
        self._early = b""
        self._disconnected = False
        # Response
        self._encoder: ResponseEncoder | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._status = 0
        self._begun = False
        self._sent = 0
        self._recorded = False

    def begin(self, rest: bytes) -> None:
        """Answer a wrong handshake, or start the application; ``rest`` came in behind it."""
        state = self.state
        state.count_request()
        try:
            subprotocols = self._ws.handshake()
            self._scope = state.scopes.websocket(
                self._head, self._peer, subprotocols, state.lifespan_state
            )
        except RemoteProtocolError as exc:
            state.refusals.tell(
                "Refused a WebSocket handshake with %d: %r, in %s",
                exc.status_hint,
                exc,
                named(self._head),
            )
            self._refuse(exc.status_hint)
            return
        self._early = rest
        self._incoming.append({"type": "websocket.connect"})
        shed = state.sheds and state.overloaded()
        self._task = state.start_task(self._run(overloaded_app if shed else state.app))
        state.websocket_tasks += 1
        self._task.add_done_callback(self._task_done)

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes came in."""
        if self._ws.state is WebSocketState.HANDSHAKE:
            # Kept for later, and read all the same: a client that leaves has to be noticed.
            self._early += data
            if len(self._early) > self.state.limits.read_buffer:
                self._flow.pause_reading(Pause.PIPELINE)
            return
        messages, answer = self._ws.feed(data)
        for message in messages:
            key = "text" if isinstance(message, str) else "bytes"
            self._incoming.append({"type": "websocket.receive", key: message})
        if answer:
            self._transport.write(answer)
        if len(self._incoming) > _QUEUE:
            self._flow.pause_reading(Pause.BODY)
        if self._ws.state is WebSocketState.CLOSED:
            self._shut()
        elif self._ws.state is WebSocketState.CLOSING:
            self._await_close()
        self._wake_up()

    def eof_received(self) -> None:
        """asyncio: the peer closed its half; the transport closes, once all is taken."""
        self._bound_close()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the transport is gone."""
        self.deadline = 0.0
        self._flow.close()
        self._ws.fire(WebSocketEvent.LOST)
        self._wake_up()
        self._record()
        self._arm_grace()
        self.state.discard(self)

    def pause_writing(self) -> None:
        """asyncio: the peer reads more slowly than the application writes."""
        self._flow.pause_writing()

    def resume_writing(self) -> None:
        """asyncio: the peer has caught up."""
        self._flow.resume_writing()

    # What the server tells us (state.Connection)

    def flush(self) -> None:
        """Nothing is gathered here."""

    def expire(self) -> None:
        """The peer did not answer our Close frame, or take what was written, in time."""
        self._transport.abort()

    def drain(self, code: int) -> None:
        """Close with ``code``; an application that accepts later is closed then."""
        if self._ws.state is WebSocketState.OPEN:
            self._close(code, "")

    def tell(self) -> None:
        """The drain nears its end; an application that has not accepted yet is disconnected."""
        self._wake_up()

    def abort(self) -> None:
        """Close now."""
        self._transport.abort()

    # What the application calls

    async def receive(self) -> Message:
        """ASGI receive(): connect, messages, disconnect."""
        while True:
            if self._incoming:
                message = self._incoming.popleft()
                if len(self._incoming) <= _QUEUE // 2:
                    self._flow.resume_reading(Pause.BODY)
                return message
            if self.state.told or self._ws.state >= WebSocketState.DENIAL:
                if self._disconnected:
                    await asyncio.sleep(0)  # see HTTPCycle._disconnect
                self._disconnected = True
                return {
                    "type": "websocket.disconnect",
                    "code": self._ws.close_code,
                    "reason": self._ws.close_reason,
                }
            if self._wake is None:
                self._wake = asyncio.Event()
            await self._wake.wait()

    async def send(self, message: Message) -> None:
        """ASGI send().

        Raises:
            ClientDisconnected: the connection is closed (WebSocket message format 2.4).
            LocalProtocolError: the message, or its place in the order, is wrong.
        """
        try:
            kind = message["type"]
        except (KeyError, TypeError):
            raise no_message(message) from None
        if self._ws.state in (WebSocketState.CLOSING, WebSocketState.CLOSED):
            raise ClientDisconnected(f"the WebSocket is closed: {kind}")
        if kind == "websocket.send":
            self._send_message(message)
        elif kind == "websocket.accept":
            self._accept(message)
        elif kind == "websocket.close":
            self._app_close(message)
        elif kind == "websocket.http.response.start":
            self._deny(message)
        elif kind == "websocket.http.response.body":
            self._deny_body(message)
        else:
            raise LocalProtocolError(f"unknown message type: {kind!r}")
        await self._flow.drained()

    def _accept(self, message: Message) -> None:
        headers = header_pairs(message) if message.get("headers") else []
        field, request_id = self.state.request_id_response, self._head.request_id
        if field and request_id and not any(name.lower() == field for name, _ in headers):
            headers.append((field, request_id.encode("ascii")))
        self._transport.write(self._ws.accept(message.get("subprotocol"), headers))
        self._status = 101
        self._headers = headers
        self._flow.resume_reading(Pause.PIPELINE)
        if self.state.drain_code:
            self._close(self.state.drain_code, "")
        elif self._early:
            early, self._early = self._early, b""
            self.data_received(early)

    def _send_message(self, message: Message) -> None:
        data, text = message.get("bytes"), message.get("text")
        if text is None and isinstance(data, bytes):
            frame = self._ws.message(data)
        elif data is None and isinstance(text, str):
            frame = self._ws.message(text)
        else:
            raise LocalProtocolError("websocket.send needs one of `bytes` and `text`")
        self._sent += len(frame)
        self._transport.write(frame)

    def _app_close(self, message: Message) -> None:
        if self._ws.state is WebSocketState.HANDSHAKE:
            self._refuse(403)
            return
        code, reason = message.get("code", 1000), message.get("reason") or ""
        if not (isinstance(code, int) and isinstance(reason, str)):
            raise LocalProtocolError(f"websocket.close with {code!r} and {reason!r}")
        self._close(code, reason)

    def _deny(self, message: Message) -> None:
        headers = header_pairs(message)
        encoder = ResponseEncoder(self._head.method, self._head.version)
        encoder.start(message.get("status", 0), headers)
        self._ws.fire(WebSocketEvent.DENY)
        self._encoder, self._headers, self._status = encoder, headers, encoder.status

    def _deny_body(self, message: Message) -> None:
        encoder = self._encoder
        if encoder is None:
            raise LocalProtocolError("websocket.http.response.body before its start")
        body = as_bytes(message.get("body", b""))
        more = message.get("more_body", False)
        head = b""
        if not self._begun:
            head = encoder.head(self.state.date_line(), None if more else len(body), False)
        data = head + encoder.body(body, not more)
        self._begun = True
        self._sent += len(body)
        self._transport.write(data)
        if not more:
            self._ws.fire(WebSocketEvent.SHUT)
            self._shut()

    # The application's task

    async def _run(self, app: ASGIApp) -> None:
        state = self.state
        try:
            if state.on_request is not None:
                state.on_request(self._head, self._scope)
            await app(self._scope, self.receive, self.send)
        except APP_ERRORS as exc:
            if not state.loop.is_running():
                return  # the loop is gone and this coroutine is being closed
            if self._ws.state is WebSocketState.CLOSED and (
                caused_by_disconnect(exc) or isinstance(exc, asyncio.CancelledError)
            ):
                return
            if isinstance(exc, asyncio.CancelledError) and state.draining:
                state.log.warning("Cancelled at the end of the drain: %s", named(self._head))
                self._over(1011, 503)
                return
            if not caused_by_disconnect(exc):
                name = named(self._head)
                state.log.error("The WebSocket application raised: %s", name, exc_info=exc)
            self._over(1011, 500)
        else:
            self._over(1000, 500)

    def _task_done(self, _: asyncio.Task[None]) -> None:
        self.state.websocket_tasks -= 1

    def _over(self, code: int, status: int) -> None:
        """The application is over."""
        ws = self._ws
        if ws.state is WebSocketState.OPEN:
            self._close(code, "")
        elif ws.state is WebSocketState.HANDSHAKE:
            self._refuse(status)
        elif ws.state is WebSocketState.DENIAL:
            if self._begun:
                self._transport.abort()
            else:
                self._refuse(status)

    # Inside

    def _close(self, code: int, reason: str) -> None:
        self._transport.write(self._ws.close(code, reason))
        self._await_close()
        self._wake_up()

    def _await_close(self) -> None:
        self._incoming.clear()
        self._flow.resume_reading(Pause.BODY)
        self._bound_close()

    def _refuse(self, status: int) -> None:
        """Answer the handshake with an HTTP error of our own."""
        self._status = status
        fields = _REFUSAL_FIELDS.get(status, [])
        self._transport.write(error_response(status, self.state.date_line(), headers=fields))
        self._ws.fire(WebSocketEvent.LOST)
        self._shut()

    def _shut(self) -> None:
        """Both halves are closed: RFC 6455 7.1.1, the server closes the connection first."""
        self._transport.close()
        self._bound_close()
        self._record()
        self._wake_up()

    def _bound_close(self) -> None:
        self.state.deadlines.arm(self, self.state.limits.websocket_close)

    def _wake_up(self) -> None:
        if self._wake is not None:
            self._wake.set()
            self._wake = None

    def _arm_grace(self) -> None:
        task = self._task
        if task is None or task.done():
            return
        grace = self.state.loop.call_later(self.state.limits.disconnect_grace, task.cancel)
        task.add_done_callback(lambda _: grace.cancel())

    def _record(self) -> None:
        if self._recorded:
            return
        self._recorded = True
        state = self.state
        if state.on_complete is not None:
            duration = state.clock() - self._head.received
            state.on_complete(
                AccessRecord(
                    self._head,
                    self._scope,
                    self._status or 499,
                    self._headers,
                    self._sent,
                    duration,
                )
            )
