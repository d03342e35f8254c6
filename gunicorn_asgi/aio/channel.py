"""One WebSocket as its application sees it: receive(), send(), run()."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from gunicorn_asgi.aio.messages import (
    APP_ERRORS,
    as_bytes,
    caused_by_disconnect,
    header_pairs,
    no_message,
)
from gunicorn_asgi.aio.state import ASGIApp, Message, Progress
from gunicorn_asgi.protocol.errors import ClientDisconnected, LocalProtocolError
from gunicorn_asgi.protocol.head import RequestHead
from gunicorn_asgi.protocol.identity import named
from gunicorn_asgi.protocol.response import ResponseEncoder
from gunicorn_asgi.protocol.websocket import WebSocketEvent, WebSocketState

if TYPE_CHECKING:
    from gunicorn_asgi.aio.websocket import WebSocketProtocol

__all__ = ["WebSocketChannel"]

# What may wait for an application that does not read, before the socket is no longer read, and
# what a message costs us beside its payload (bytes).
_HIGH = 64 * 1024
_MESSAGE = 256

# Before Python 3.12 a member that is looked up costs seven times a name.
_DENIAL = WebSocketState.DENIAL
_CLOSING = WebSocketState.CLOSING


class WebSocketChannel:
    """The application's end of a WebSocket.

    Attributes:
        head: the opening handshake.
        scope: its ASGI scope; until there is one, what is known for the access log.
        task: the application.
    """

    __slots__ = (
        "_begun",
        "_disconnected",
        "_encoder",
        "_incoming",
        "_incoming_size",
        "_prompt",
        "_protocol",
        "_waiters",
        "head",
        "scope",
        "task",
    )

    def __init__(self, protocol: WebSocketProtocol, head: RequestHead) -> None:
        self._protocol = protocol
        self.head = head
        self.scope: dict[str, Any] = {}
        self.task: asyncio.Task[None] | None = None
        # Incoming
        self._incoming: deque[Message] = deque()
        self._incoming_size = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._disconnected = False
        # It has received the last message and has not answered or waited since.
        self._prompt = False
        # Denial response
        self._encoder: ResponseEncoder | None = None
        self._begun = False

    # What the connection tells us

    @property
    def empty(self) -> bool:
        """Whether the application has received everything."""
        return not self._incoming

    def begin(self, scope: dict[str, Any], app: ASGIApp) -> None:
        """Start the application."""
        self.scope = scope
        state = self._protocol.state
        self._incoming.append({"type": "websocket.connect"})
        state.start_task(self._run(app), self).add_done_callback(self._task_done)
        state.websocket_tasks += 1

    def put(self, messages: list[str | bytes]) -> bool:
        """Messages have come in; whether no more should be read for now."""
        incoming, size = self._incoming, self._incoming_size
        for message in messages:
            key = "text" if type(message) is str else "bytes"
            incoming.append({"type": "websocket.receive", key: message})
            size += len(message) + _MESSAGE
        self._incoming_size = size
        if self._waiters:
            self.wake_up()
            size -= len(messages[0]) + _MESSAGE  # is as good as received
        return size > _HIGH

    def discard(self) -> None:
        """No more messages are to be received; websocket.connect is, if it was not yet."""
        while self._incoming and len(self._incoming[-1]) > 1:
            self._incoming.pop()
        self._incoming_size = 0

    def wake_up(self) -> None:
        """Something has changed for a ``receive()`` that waits."""
        if self._waiters:
            state = self._protocol.state
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
                    state.woken += 1
            self._waiters.clear()

    def cancel_after_grace(self) -> None:
        """The client is gone: give the application asgi_disconnect_grace_period."""
        task, state = self.task, self._protocol.state
        if task is None or task.done():
            return
        grace = state.loop.call_later(state.limits.disconnect_grace, task.cancel)
        task.add_done_callback(lambda _: grace.cancel())

    # What the application calls

    async def receive(self) -> Message:
        """ASGI receive(): connect, messages, disconnect."""
        protocol, incoming = self._protocol, self._incoming
        state, ws = protocol.state, protocol.ws
        while True:
            if incoming:
                message = incoming.popleft()
                before = self._incoming_size
                if not incoming:
                    self._incoming_size = 0
                    self._prompt = len(message) > 1
                elif len(message) > 1:
                    data = message.get("text") or message.get("bytes") or b""
                    self._incoming_size = before - len(data) - _MESSAGE
                if before > _HIGH >= self._incoming_size:
                    protocol.resume_reading()
                return message
            if ws.failure is not None and not ws.over:
                protocol.fail()  # now that everything before it has been received
            if ws.state >= _DENIAL or state.told:
                if self._disconnected:
                    await asyncio.sleep(0)  # see HTTPCycle._disconnect
                self._disconnected = True
                return {
                    "type": "websocket.disconnect",
                    "code": ws.close_code,
                    "reason": ws.close_reason,
                }
            self._prompt = False
            waiter = state.loop.create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                if waiter.done() and not waiter.cancelled():
                    state.woken -= 1

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
        protocol = self._protocol
        if protocol.ws.state >= _CLOSING:
            raise ClientDisconnected(f"the WebSocket is closed: {kind}")
        if kind == "websocket.send":
            data = message.get("bytes")
            text = message.get("text")
            # An answer, and nobody else has to run before the turn of the loop is over.
            prompt = self._prompt and not protocol.state.woken
            self._prompt = False
            if data is None and type(text) is str:
                protocol.send_message(text, prompt)
            elif text is None and type(data) is bytes:
                protocol.send_message(data, prompt)
            else:
                protocol.send_message(_one_of(data, text), prompt)
        elif kind == "websocket.accept":
            self._accept(message)
        elif kind == "websocket.close":
            self._close(message)
        elif kind == "websocket.http.response.start":
            self._deny(message)
        elif kind == "websocket.http.response.body":
            self._deny_body(message)
        else:
            raise LocalProtocolError(f"unknown message type: {kind!r}")
        if protocol.flow.write_paused:
            await protocol.flow.drained()

    def _accept(self, message: Message) -> None:
        headers = header_pairs(message) if message.get("headers") else []
        subprotocol = message.get("subprotocol")
        if not (subprotocol is None or isinstance(subprotocol, str)):
            raise LocalProtocolError(f"subprotocol is no str: {subprotocol!r}")
        self._protocol.accept(subprotocol, headers)

    def _close(self, message: Message) -> None:
        if self._protocol.ws.state is WebSocketState.HANDSHAKE:
            # Code and reason go nowhere: FastAPI's reason is a list, for parameters it refuses.
            self._protocol.refuse(403)
            return
        code, reason = message.get("code", 1000), message.get("reason") or ""
        if not (isinstance(code, int) and isinstance(reason, str)):
            raise LocalProtocolError(f"websocket.close with {code!r} and {reason!r}")
        self._protocol.close(code, reason)

    def _deny(self, message: Message) -> None:
        headers = header_pairs(message)
        status = message.get("status", 0)
        encoder = ResponseEncoder(self.head.method, self.head.version, status, headers)
        self._protocol.ws.fire(WebSocketEvent.DENY)
        self._encoder = encoder
        self._protocol.note_response(encoder.status, headers)

    def _deny_body(self, message: Message) -> None:
        encoder = self._encoder
        if encoder is None:
            raise LocalProtocolError("websocket.http.response.body before its start")
        body = as_bytes(message.get("body", b""))
        more = bool(message.get("more_body", False))
        head = b""
        if not self._begun:
            date = self._protocol.state.date_line()
            head = encoder.head(date, None if more else len(body), False)
        data = head + encoder.body(body, not more)
        self._begun = True
        self._protocol.send_denial(data, len(body))
        if not more:
            self._protocol.ws.fire(WebSocketEvent.SHUT)
            self._protocol.denied()

    # The application's task

    async def _run(self, app: ASGIApp) -> None:
        state = self._protocol.state
        table, place = state.table, 0
        if table is not None:
            place = table.begin(self)
            table.note(place, Progress.WEBSOCKET)
        try:
            if state.on_request is not None:
                state.on_request(self.head, self.scope)
            await app(self.scope, self.receive, self.send)
        except APP_ERRORS as exc:
            self._failed(exc)
        else:
            self._over(1000, 500)
        finally:
            if table is not None:
                table.end(place)
            if self.task is not None:
                state.end_task(self.task)

    def _failed(self, exc: BaseException) -> None:
        state, ws = self._protocol.state, self._protocol.ws
        if not state.loop.is_running():
            return  # the loop is gone and this coroutine is being closed
        cancelled = isinstance(exc, asyncio.CancelledError)
        if ws.state is WebSocketState.CLOSED and (cancelled or caused_by_disconnect(exc)):
            return
        if cancelled and state.draining:
            state.log.warning("Cancelled at the end of the drain: %s", named(self.head))
            self._over(1011, 503)
            return
        if not caused_by_disconnect(exc):
            name = named(self.head)
            state.log.error("The WebSocket application raised: %s", name, exc_info=exc)
        self._over(1011, 500)

    def _over(self, code: int, status: int) -> None:
        """The application is over."""
        protocol = self._protocol
        state = protocol.ws.state
        if state is WebSocketState.OPEN and protocol.ws.broken:
            protocol.fail()
        elif state is WebSocketState.OPEN:
            protocol.close(code, "")
        elif state is WebSocketState.HANDSHAKE:
            protocol.refuse(status)
        elif state is WebSocketState.DENIAL:
            if self._begun:
                protocol.abort()
            else:
                protocol.refuse(status)

    def _task_done(self, _: asyncio.Task[None]) -> None:
        self._protocol.state.websocket_tasks -= 1


def _one_of(data: object, text: object) -> str | bytes:
    """What ``websocket.send`` has to send, if it is of an odd type."""
    if data is None and isinstance(text, str):
        return str(text)
    if text is None and isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise LocalProtocolError("websocket.send needs one of `bytes` and `text`")
