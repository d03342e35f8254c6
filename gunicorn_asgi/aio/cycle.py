"""One HTTP request and its response, as the application sees them: receive(), send(), run()."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from gunicorn_asgi.aio.flow import Pause
from gunicorn_asgi.aio.state import Message
from gunicorn_asgi.protocol.accesslog import AccessRecord
from gunicorn_asgi.protocol.errors import ClientDisconnected, LocalProtocolError
from gunicorn_asgi.protocol.h1 import Exchange, ExchangeEvent, Reading, RequestHead, Writing
from gunicorn_asgi.protocol.response import ResponseEncoder, error_response

if TYPE_CHECKING:
    from gunicorn_asgi.aio.http1 import HTTP1Protocol

__all__ = ["APP_ERRORS", "HTTPCycle", "as_bytes", "caused_by_disconnect", "header_pairs"]

# What an application may raise without taking the worker down, or leaving its client without an
# answer: anything. A Task keeps every other BaseException (GeneratorExit, BaseExceptionGroup) to
# itself. GeneratorExit may also mean that the loop is being torn down: ask ``loop.is_running()``.
APP_ERRORS = (BaseException,)

# A larger body goes out in slices of this size (bytes), with flow control in between: a slow
# reader then costs one slice, not a copy of the whole.
_SLICE = 256 * 1024

# nginx's code for a client that closed the connection before the answer was complete.
_CLIENT_CLOSED_REQUEST = 499


def caused_by_disconnect(exc: BaseException | None) -> bool:
    """Whether ``exc`` is, or was raised while handling, a ClientDisconnected.

    Frameworks wrap it (Starlette raises its own ClientDisconnect in the handler of an OSError).
    """
    seen = 0
    while exc is not None and seen < 32:
        if isinstance(exc, ClientDisconnected):
            return True
        exc = exc.__cause__ or exc.__context__
        seen += 1
    return False


class HTTPCycle(Exchange):
    """One exchange on a connection; its Reading and Writing are those of ``Exchange``.

    Attributes:
        head: the request.
        scope: its ASGI scope; empty until ``begin()``.
        encoder: the response's framing.
        continued: whether a 100 was sent, or none is awaited.
    """

    __slots__ = (
        "_body",
        "_body_size",
        "_connection",
        "_delivered",
        "_disconnected",
        "_grace",
        "_headers",
        "_recorded",
        "_sent",
        "_task",
        "_wake",
        "continued",
        "encoder",
        "head",
        "scope",
    )

    def __init__(self, connection: HTTP1Protocol, head: RequestHead) -> None:
        super().__init__()
        # Cycle
        self._connection = connection
        self.head = head
        self.scope: dict[str, Any] = {}
        self._task: asyncio.Task[None] | None = None
        self._grace: asyncio.TimerHandle | None = None
        self._wake: asyncio.Event | None = None
        # Request
        self._body: list[bytes] = []
        self._body_size = 0
        self._delivered = False
        self._disconnected = False
        self.continued = not head.expect_continue
        # Response
        self.encoder = ResponseEncoder(head.method, head.version)
        self._headers: list[tuple[bytes, bytes]] = []
        self._sent = 0
        self._recorded = False

    # What the connection tells us

    def begin(self, scope: dict[str, Any]) -> None:
        """It is this request's turn: start the application."""
        self.scope = scope
        self._task = self._connection.state.start_task(self._run())

    def feed_body(self, data: bytes) -> None:
        """A piece of the request body came in."""
        self.continued = True  # it does not wait for a 100, or not any more
        self._body.append(data)
        self._body_size += len(data)
        state = self._connection.state
        if self.writing is Writing.DONE:
            self._body.clear()  # nobody will read it; only its size still counts
            if self._body_size > state.limits.discard_body:
                self._connection.linger()
        elif self._body_size > state.limits.read_buffer:
            self._connection.flow.pause_reading(Pause.BODY)
        self._wake_up()

    def end_body(self) -> None:
        """The request is complete."""
        self.fire(ExchangeEvent.READ)
        self._wake_up()

    def tell(self) -> None:
        """``ServerState.told`` was set: an application that waits gets ``http.disconnect``."""
        self._wake_up()

    def lose(self) -> None:
        """The client is gone, or its request turned out to be malformed; idempotent."""
        complete = self.writing is Writing.DONE
        self.fire(ExchangeEvent.LOST)
        self._wake_up()
        if not complete:
            self._record(_CLIENT_CLOSED_REQUEST)
        task = self._task
        if complete or task is None or task.done() or self._grace is not None:
            return
        state = self._connection.state
        grace = state.loop.call_later(state.limits.disconnect_grace, task.cancel)
        task.add_done_callback(lambda _: grace.cancel())
        self._grace = grace

    # What the application calls

    async def receive(self) -> Message:
        """ASGI receive(): the body piece by piece, then ``http.disconnect``."""
        while True:
            if self.writing is Writing.DONE or self.reading is Reading.CLOSED:
                return await self._disconnect()
            if self._body or (self.reading is Reading.DONE and not self._delivered):
                return self._take_body()
            if self.writing is Writing.CLOSED or (self._delivered and self._connection.state.told):
                return await self._disconnect()
            if not self.continued and self.writing is Writing.WAIT:
                self.continued = True
                self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if self._wake is None:
                self._wake = asyncio.Event()
            await self._wake.wait()

    async def send(self, message: Message) -> None:
        """ASGI send().

        Raises:
            ClientDisconnected: the client is gone (HTTP message format 2.4).
            LocalProtocolError: the message, or its place in the order, is wrong.
        """
        writing = self.writing
        if writing is Writing.DONE:
            return  # "further messages on the channel are ignored"
        kind = message.get("type")
        if kind == "http.response.body":
            body = message.get("body", b"")
            if type(body) is not bytes:
                body = as_bytes(body)
            if writing is Writing.WAIT:
                raise LocalProtocolError("http.response.body before http.response.start")
            more = message.get("more_body", False)
            if len(body) > _SLICE:
                await self._send_large(body, more)
            else:
                self._send_body(body, more, None if more else len(body))
            if self._connection.flow.write_paused:
                await self._connection.flow.drained()
        elif kind == "http.response.start":
            self._start(message)
        else:
            raise LocalProtocolError(f"unknown message type: {kind!r}")

    def _start(self, message: Message) -> None:
        if self.writing is Writing.CLOSED:
            raise ClientDisconnected("the client has left")
        if self.writing is not Writing.WAIT:
            raise LocalProtocolError("http.response.start for the second time")
        if "status" not in message:
            raise LocalProtocolError("http.response.start without a status")
        self._headers = header_pairs(message)
        self.encoder.start(message["status"], self._headers)
        self.fire(ExchangeEvent.START)

    def _send_body(self, body: bytes, more: bool, final: int | None) -> None:
        """Write one piece; ``final`` is the whole body's length where it is known."""
        if self.writing is Writing.CLOSED:
            raise ClientDisconnected("the client has left")
        encoder = self.encoder
        data = encoder.body(body) if self.writing is Writing.BODY else self._first(body, final)
        if not more:
            data += encoder.end()
        # Nothing is written before everything about it was found right.
        self._sent += len(body) if encoder.framing else 0
        self.fire(ExchangeEvent.BODY if more else ExchangeEvent.END)
        if data:
            self._connection.write(data)
        if not more:
            self._finish()

    def _first(self, body: bytes, final: int | None) -> bytes:
        state = self._connection.state
        keep_alive = self.head.keep_alive and state.keep_alive and self.continued
        head = self.encoder.head(state.date_line(), final, keep_alive)
        return head + self.encoder.body(body)

    async def _send_large(self, body: bytes, more: bool) -> None:
        view = memoryview(body)
        final = None if more else len(body)
        last = len(body) - _SLICE
        for start in range(0, len(body), _SLICE):
            piece = bytes(view[start : start + _SLICE])
            self._send_body(piece, more or start < last, final)
            if self._connection.flow.write_paused:
                await self._connection.flow.drained()

    # The application's task

    async def _run(self) -> None:
        connection = self._connection
        try:
            if connection.state.on_request is not None:
                connection.state.on_request(self.head, self.scope)
            await connection.state.app(self.scope, self.receive, self.send)
        except APP_ERRORS as exc:
            self._failed(exc)
        else:
            if self.writing not in (Writing.DONE, Writing.CLOSED):
                self._log_error("returned without completing the response", None)
                self._abandon(500)

    def _failed(self, exc: BaseException) -> None:
        if not self._connection.state.loop.is_running():
            return  # the loop is gone and this coroutine is being closed
        if self.writing is Writing.CLOSED and (
            caused_by_disconnect(exc) or isinstance(exc, asyncio.CancelledError)
        ):
            self._connection.state.log.debug("The client left %s", self._name())
            return
        cancelled = isinstance(exc, asyncio.CancelledError) and self._connection.state.draining
        if cancelled:
            state = self._connection.state
            state.log.warning("Cancelled at the end of the drain: %s", self._name())
        else:
            self._log_error(f"raised {type(exc).__name__}", exc)
        self._abandon(503 if cancelled else 500)

    def _abandon(self, status: int) -> None:
        """The application is over and the response is not."""
        connection = self._connection
        if self.writing in (Writing.DONE, Writing.CLOSED):
            return
        if self.writing is Writing.BODY:
            # Its end must not look like an end: no last chunk, fewer bytes than promised.
            self._record(self.encoder.status)
            connection.abort_response(self)
            return
        self.refuse(status)
        connection.linger()

    def refuse(self, status: int) -> None:
        """Answer for the application, which has sent nothing that left the worker."""
        data = error_response(
            status,
            self._connection.state.date_line(),
            version=self.head.version,
            method=self.head.method,
        )
        self._connection.write(data)
        self._record(status)
        # Not DONE: an application that is not over must learn that nobody listens any more.
        self.lose()

    def _finish(self) -> None:
        self._record(self.encoder.status)
        self._body.clear()
        self._wake_up()
        self._connection.response_complete(self)

    # Helpers

    async def _disconnect(self) -> Message:
        if self._disconnected:
            # An application that reads on in a loop must not keep the worker from everything else,
            # its own cancellation included.
            await asyncio.sleep(0)
        self._disconnected = True
        return {"type": "http.disconnect"}

    def _take_body(self) -> Message:
        pieces = self._body
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._body_size = 0
        complete = self.reading is Reading.DONE
        self._delivered = complete
        self._connection.flow.resume_reading(Pause.BODY)
        return {"type": "http.request", "body": body, "more_body": not complete}

    def _wake_up(self) -> None:
        if self._wake is not None:
            self._wake.set()
            self._wake = None

    def _record(self, status: int) -> None:
        state = self._connection.state
        if self._recorded:
            return
        self._recorded = True
        if state.on_complete is not None:
            duration = state.clock() - self.head.received
            state.on_complete(
                AccessRecord(self.head, self.scope, status, self._headers, self._sent, duration)
            )

    def _name(self) -> str:
        # !r escapes what could forge a line or a terminal sequence (CVE-2020-7694).
        return f"{self.head.method} {self.head.target.decode('latin-1')!r}"

    def _log_error(self, what: str, exc: BaseException | None) -> None:
        log = self._connection.state.log
        log.error("The application %s: %s", what, self._name(), exc_info=exc)


def header_pairs(message: Message) -> list[tuple[bytes, bytes]]:
    """The ``headers`` of a message as a list of pairs; what they are made of is not checked.

    Raises:
        LocalProtocolError: they are not pairs.
    """
    try:
        return [(name, value) for name, value in message.get("headers", ())]
    except (TypeError, ValueError) as exc:
        raise LocalProtocolError(f"headers are not pairs: {exc}") from None


def as_bytes(body: object) -> bytes:
    """The ``body`` of a message; any kind of buffer will do.

    Raises:
        LocalProtocolError: it is none.
    """
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    raise LocalProtocolError(f"body is not bytes: {type(body).__name__}")
