"""One HTTP request and its response, as the application sees them: receive(), send(), run()."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from gunicorn_asgi.aio.flow import Pause
from gunicorn_asgi.aio.messages import APP_ERRORS, caused_by_disconnect
from gunicorn_asgi.aio.response import NO_ENCODER, Hold, SendingExchange
from gunicorn_asgi.aio.spawn import CAN_START_AT_ONCE
from gunicorn_asgi.aio.state import ASGIApp, Message
from gunicorn_asgi.protocol.accesslog import AccessRecord
from gunicorn_asgi.protocol.errors import ClientDisconnected
from gunicorn_asgi.protocol.exchange import ExchangeEvent, Reading, Writing
from gunicorn_asgi.protocol.head import RequestHead
from gunicorn_asgi.protocol.identity import named
from gunicorn_asgi.protocol.response import error_response

if TYPE_CHECKING:
    from gunicorn_asgi.aio.http1 import HTTP1Protocol

__all__ = ["HTTPCycle"]

# nginx's code for a client that closed the connection before the answer was complete.
_CLIENT_CLOSED_REQUEST = 499

# See protocol/exchange.py.
_WAIT, _, _BODY, _DONE, _CLOSED = Writing
_UNREAD, _READ, _CUT_OFF = Reading
_READ_ALL, _LOST = ExchangeEvent.READ, ExchangeEvent.LOST
_PAUSE = Pause.BODY
_FREE = Hold.NONE

# A piece of a request body of so many bytes is handed on as it has come in. Smaller ones are
# joined, since each receive() costs more than their copy.
_LARGE = 32 * 1024
# What a piece costs beside its bytes.
_PIECE = 64


class HTTPCycle(SendingExchange):
    """One exchange on a connection; its Reading and Writing are those of ``Exchange``.

    Attributes:
        scope: its ASGI scope; empty until ``begin()``.
        received: bytes of the request body that have come in.
        task: see ``Owner``.
    """

    __slots__ = (
        "_body",
        "_body_size",
        "_delivered",
        "_disconnected",
        "_grace",
        "_recorded",
        "_wake",
        "received",
        "scope",
        "task",
    )

    def __init__(self, connection: HTTP1Protocol, head: RequestHead) -> None:
        # All of it, instead of asking two bases: one is made for each request.
        self._connection = connection
        self.head = head
        self.continued = not head.expect_continue
        # Exchange
        self.reading = _READ if head.complete else _UNREAD
        self.writing = _WAIT
        # Response
        self.encoder = NO_ENCODER
        self._headers = ()
        self._sent = 0
        self._first_byte = 0.0
        self._pieces = 0
        self._hold = _FREE
        self._file = None
        # Cycle
        self.scope: dict[str, Any] = {}
        self.place = 0
        self.task: asyncio.Task[None] | None = None
        self._grace: asyncio.TimerHandle | None = None
        self._wake: asyncio.Event | None = None
        self._recorded = False
        # Request
        self.received = 0
        self._body: list[bytes] = []
        self._body_size = 0
        self._delivered = False
        self._disconnected = False

    # What the connection tells us

    def begin(self, scope: dict[str, Any], app: ASGIApp) -> None:
        """It is this request's turn: start the application."""
        self.scope = scope
        state = self._connection.state
        if CAN_START_AT_ONCE and self.reading is _READ:
            state.start_at_once(self._run(app), self)
        else:
            # Its body is probably there, and will be read first.
            state.start_task(self._run(app), self)

    def feed_body(self, data: bytes) -> None:
        """A piece of the request body came in."""
        self.continued = True  # it does not wait for a 100, or not any more
        self.received += len(data)
        self._body_size += len(data)
        state = self._connection.state
        if self.writing is _DONE:  # nobody will read it; only its size still counts
            if self._body_size > state.limits.discard_body:
                self._connection.linger()
            return
        self._body.append(data)
        if self._body_size + len(self._body) * _PIECE > state.limits.read_buffer:
            self._connection.flow.pause_reading(_PAUSE)
        self._wake_up()

    def end_body(self) -> None:
        """The request is complete."""
        self.fire(_READ_ALL)
        self._wake_up()

    def tell(self) -> None:
        """``ServerState.told`` was set: an application that waits gets ``http.disconnect``."""
        self._wake_up()

    def lose(self) -> None:
        """The client is gone, or its request turned out to be malformed; idempotent."""
        complete = self.writing is _DONE
        self.fire(_LOST)
        self._wake_up()
        if self._file is not None:
            self._file.lose()
        if not complete:
            self.record(_CLIENT_CLOSED_REQUEST)
        task = self.task
        if complete or task is None or task.done() or self._grace is not None:
            return
        state = self._connection.state
        grace = state.loop.call_later(state.limits.disconnect_grace, task.cancel)
        task.add_done_callback(lambda _: grace.cancel())
        self._grace = grace

    def time_out(self) -> None:
        """``asgi_request_timeout`` is over."""
        task = self.task
        if task is None or self.writing in (_DONE, _CLOSED):
            return
        log = self._connection.state.log
        log.warning("Cancelled at the end of asgi_request_timeout: %s", self._name())
        self._abandon(504)
        task.cancel()

    # What the application calls

    async def receive(self) -> Message:
        """ASGI receive(): the body piece by piece, then ``http.disconnect``."""
        while True:
            if self.writing is _DONE or self.reading is _CUT_OFF:
                return await self._disconnect()
            if self._body or (self.reading is _READ and not self._delivered):
                return self._take_body()
            if self.writing is _CLOSED or (self._delivered and self._connection.state.told):
                return await self._disconnect()
            if not self.continued and self.writing is _WAIT:
                self.continued = True
                self._connection.ask_for_body()
            if self._wake is None:
                self._wake = asyncio.Event()
            await self._wake.wait()

    # The application's task

    async def _run(self, app: ASGIApp) -> None:
        state = self._connection.state
        table = state.table
        if table is not None:
            self.place = table.begin(self)
        try:
            if state.on_request is not None:
                state.on_request(self.head, self.scope)
            await app(self.scope, self.receive, self.send)
        except APP_ERRORS as exc:
            self._failed(exc)
        else:
            if self.writing is not _DONE and self.writing is not _CLOSED:
                self._log_error("returned without completing the response", None)
                self._abandon(500)
        finally:
            if table is not None:
                table.end(self.place)
            if self.task is not None:
                state.end_task(self.task)

    def _failed(self, exc: BaseException) -> None:
        if not self._connection.state.loop.is_running():
            return  # the loop is gone and this coroutine is being closed
        if self.writing is _CLOSED:
            if isinstance(exc, asyncio.CancelledError):
                return  # by lose() or time_out()
            if caused_by_disconnect(exc):
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
        if self.writing in (_DONE, _CLOSED):
            return
        if self.writing is _BODY:
            # Its end must not look like an end: no last chunk, fewer bytes than promised.
            self.record(self.encoder.status)
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
            headers=self.id_fields([]),
        )
        self._connection.write(data)
        self.record(status)
        # Not DONE: an application that is not over must learn that nobody listens any more.
        self.lose()

    def complete(self) -> None:
        """The last byte of the response is written."""
        self.record(self.encoder.status)
        self._body.clear()
        if self._wake is not None:
            self._wake_up()
        self._connection.response_complete(self)

    def break_off(self, reason: Exception) -> None:
        """The response cannot go on: ``reason`` is the client's end, or our own fault."""
        if self.writing is not _BODY:
            return
        if not isinstance(reason, ClientDisconnected):
            self._log_error("has sent a file that could not be read to its end", reason)
            self.record(self.encoder.status)
        self._connection.abort_response(self)

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
        if len(pieces) == 1:
            body = pieces.pop()
            self._body_size = 0
        else:
            body = self._join_pieces()
            self._body_size -= len(body)
        self._delivered = complete = self.reading is _READ and not pieces
        if self._body_size <= self._connection.state.limits.read_buffer:
            self._connection.flow.resume_reading(_PAUSE)
        return {"type": "http.request", "body": body, "more_body": not complete}

    def _join_pieces(self) -> bytes:
        """Take one large piece, or the small ones in front of it."""
        pieces = self._body
        count = 0
        for piece in pieces:
            if len(piece) >= _LARGE:
                break
            count += 1
        if not count and pieces:
            return pieces.pop(0)
        body = b"".join(pieces[:count])
        del pieces[:count]
        return body

    def _wake_up(self) -> None:
        if self._wake is not None:
            self._wake.set()
            self._wake = None

    def record(self, status: int, now: float = 0.0) -> None:
        """Count it, and tell the access log; ``now``, if it is known, by ``ServerState.clock``."""
        state = self._connection.state
        if self._recorded:
            return
        self._recorded = True
        sent = self._sent if self._file is None else self._sent + self._file.sent
        state.totals.bytes_sent += sent
        state.totals.bytes_received += self.received
        duration = (now or state.clock()) - self.head.received
        if state.meter is not None:
            state.meter.request(status, duration)
        if state.on_complete is not None:
            record = AccessRecord(self.head, self.scope, status, self._headers, sent, duration)
            record.received, record.pieces = self.received, self._pieces
            if self._first_byte:
                record.first_byte = self._first_byte - self.head.received
            elif self.writing is not _CLOSED:
                record.first_byte = duration  # all of it was sent at once
            state.on_complete(record)

    def _name(self) -> str:
        return named(self.head)

    def _log_error(self, what: str, exc: BaseException | None) -> None:
        log = self._connection.state.log
        log.error("The application %s: %s", what, self._name(), exc_info=exc)
