"""The sending half of an exchange: what an application's ``send()`` does with its messages."""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING

from gunicorn_asgi.aio.filesend import FileSend, Stretch, advance, open_path, stretch_of
from gunicorn_asgi.aio.messages import as_bytes, header_pairs, link_values, no_message
from gunicorn_asgi.aio.state import Message, Progress
from gunicorn_asgi.protocol.errors import ClientDisconnected, LocalProtocolError
from gunicorn_asgi.protocol.exchange import Exchange, ExchangeEvent, Writing
from gunicorn_asgi.protocol.head import RequestHead
from gunicorn_asgi.protocol.response import ResponseEncoder, accepts_trailers, early_hints

if TYPE_CHECKING:
    from gunicorn_asgi.aio.http1 import HTTP1Protocol

__all__ = ["NO_ENCODER", "Hold", "SendingExchange"]

# A larger message (bytes) is handed to the transport without a copy. Where the transport itself
# copies what the client does not take at once (TLS, asyncio), it gets slices of this size, with
# flow control in between: a slow reader costs one slice.
_SLICE = 256 * 1024
# The last of a large message (bytes) is copied: send() may return when no more is left, and then
# nobody is to hold all of it for the rest.
_TAIL = 64 * 1024
# A piece of this size (bytes) is not copied into its framing.
_APART = 48 * 1024


class Hold(IntEnum):
    """What keeps other messages of the body from being taken."""

    NONE = 0
    FILE = 1
    TRAILERS = 2


# See protocol/exchange.py.
_WAIT, _HEAD, _BODY, _DONE, _CLOSED = Writing
_START, _PIECE, _END = ExchangeEvent.START, ExchangeEvent.BODY, ExchangeEvent.END
_FREE, _FILE, _TRAILERS = Hold
# Of a response that has not begun.
NO_ENCODER = ResponseEncoder("GET", "1.1", 200, ())


class SendingExchange(Exchange):
    """An exchange that can send its response.

    Attributes:
        head: the request.
        encoder: the response's framing, from its start on.
        continued: whether a 100 was sent, or none is awaited.
        place: where ``ServerState.table`` shows it.
    """

    __slots__ = (
        "_connection",
        "_file",
        "_first_byte",
        "_headers",
        "_hold",
        "_pieces",
        "_sent",
        "continued",
        "encoder",
        "head",
        "place",
    )

    _connection: HTTP1Protocol
    head: RequestHead
    continued: bool
    place: int
    # Response
    encoder: ResponseEncoder
    _headers: Sequence[tuple[bytes, bytes]]
    _sent: int
    # For the access log: when the head went out, 0 if it did with the end; see AccessRecord.
    _first_byte: float
    _pieces: int
    _hold: Hold
    _file: FileSend | None

    # What a subclass answers

    def record(self, status: int, now: float = 0.0) -> None:
        """Count it, and tell the access log; ``now``, if it is known, by ``ServerState.clock``."""
        raise NotImplementedError

    def complete(self) -> None:
        """The last byte of the response is written."""
        raise NotImplementedError

    def break_off(self, reason: Exception) -> None:
        """The response cannot go on: ``reason`` is the client's end, or our own fault."""
        raise NotImplementedError

    # What the application calls

    async def send(self, message: Message) -> None:
        """ASGI send().

        Raises:
            ClientDisconnected: the client is gone (HTTP message format 2.4).
            LocalProtocolError: the message, or its place in the order, is wrong.
        """
        writing = self.writing
        if writing is _BODY and not self._hold:
            # One of many pieces, by which nothing changes?
            try:
                body = message["body"]
                is_next = (
                    message["more_body"] is True
                    and message["type"] == "http.response.body"
                    and type(body) is bytes
                    and len(body) < _APART
                )
            except (KeyError, TypeError):
                is_next = False  # it is looked at closely below
            if is_next:
                connection = self._connection
                data = self.encoder.body(body)
                self._pieces += 1
                if data:
                    self._sent += len(body)
                    connection.write(data)
                if connection.flow.write_paused:
                    await connection.flow.drained()
                return
        if writing is _DONE:
            return  # "further messages on the channel are ignored"
        try:
            kind = message["type"]
        except (KeyError, TypeError):
            raise no_message(message) from None
        if self._hold:
            self._check_hold(kind)
        if kind == "http.response.start":
            self._start(message)
            return
        if kind == "http.response.body":
            body = message.get("body", b"")
            if type(body) is not bytes:
                body = as_bytes(body)
            if writing is _WAIT:
                raise LocalProtocolError("http.response.body before http.response.start")
            more = message.get("more_body", False)
            if more:
                self._pieces += 1
            if len(body) > _SLICE:
                await self._send_large(body, more)
            elif more and len(body) >= _APART:
                self._send_apart(body, None)
            elif more or writing is not _HEAD or not self._send_whole(body):
                self._send_body(body, more, None if more else len(body))
        elif kind == "http.response.zerocopysend":
            await self._send_stretch(message)
        elif kind == "http.response.pathsend":
            await self._send_path(message)
        elif kind == "http.response.trailers":
            self._send_trailers(message)
        elif kind == "http.response.early_hint":
            self._send_hints(message)
        else:
            raise LocalProtocolError(f"unknown message type: {kind!r}")
        if self._connection.flow.write_paused:
            await self._connection.flow.drained()

    def _check_hold(self, kind: object) -> None:
        if self.writing is _CLOSED:
            raise ClientDisconnected("the client has left")
        if kind == "http.response.early_hint":
            return  # it comes too late, which is no mistake
        if self._hold is _FILE:
            raise LocalProtocolError(f"{kind!r} while a file is being sent, or behind half of one")
        if kind != "http.response.trailers":
            raise LocalProtocolError(f"{kind!r} behind the last of the body: trailers are due")

    def _start(self, message: Message) -> None:
        if self.writing is _CLOSED:
            raise ClientDisconnected("the client has left")
        if self.writing is not _WAIT:
            raise LocalProtocolError("http.response.start for the second time")
        if "status" not in message:
            raise LocalProtocolError("http.response.start without a status")
        state = self._connection.state
        headers = message.get("headers", ())
        if state.keeps_headers or state.request_id_response or type(headers) is not list:
            headers = header_pairs(message)  # a copy of our own
        if state.request_id_response:
            headers += self.id_fields(headers)
        head = self.head
        encoder = ResponseEncoder(head.method, head.version, message["status"], headers)
        self.encoder = encoder
        self._headers = headers
        if message.get("trailers", False):
            encoder.announce_trailers(accepts_trailers(head.headers))
        self.fire(_START)

    def id_fields(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """``ServerState.request_id_response``: the field to add to ``headers``, or nothing."""
        field = self._connection.state.request_id_response
        if not (field and self.head.request_id):
            return []
        if any(isinstance(name, bytes) and name.lower() == field for name, _ in headers):
            return []
        return [(field, self.head.request_id.encode("latin-1"))]

    # The body

    def _send_body(self, body: bytes, more: bool, final: int | None) -> None:
        """Write one piece; ``final`` is the whole body's length where it is known."""
        if self.writing is _CLOSED:
            raise ClientDisconnected("the client has left")
        encoder = self.encoder
        head = b"" if self.writing is _BODY else self._head_of_response(final)
        data = head + encoder.body(body, not more)
        # Nothing is written before everything about it was found right.
        self._sent += len(body) if encoder.framing else 0
        if not more and encoder.announced:
            self._hold = _TRAILERS
            more = True
        if head and more:
            self._note_first_byte()
        self.fire(_PIECE if more else _END)
        if data:
            self._connection.write(data)
        if not more:
            self.complete()

    def _send_whole(self, body: bytes) -> bool:
        """Write head and body at once, if there is nothing special about them."""
        connection = self._connection
        state = connection.state
        now = state.clock()
        whole = self.encoder.whole(state.date_line(now), body, self._lives_on())
        if whole is None:
            return False
        self._sent = len(body)
        self.fire(_END)
        self.record(self.encoder.status, now)
        connection.write_answer(whole, self.head.received, now)
        self.complete()
        return True

    def _head_of_response(self, final: int | None) -> bytes:
        return self.encoder.head(self._connection.state.date_line(), final, self._lives_on())

    def _lives_on(self) -> bool:
        """Whether client and server let the connection live on behind this response."""
        connection = self._connection
        lives_on = self.head.keep_alive and connection.state.keep_alive
        return lives_on and self.continued and not connection.retiring

    def _note_first_byte(self) -> None:
        state = self._connection.state
        if state.on_complete is not None:
            self._first_byte = state.clock()
        if state.table is not None:
            state.table.note(self.place, Progress.RESPONDING)

    async def _send_large(self, body: bytes, more: bool) -> None:
        """Send a message that is not copied, but for its end."""
        connection = self._connection
        final = None if more else len(body)
        view = memoryview(body)
        tail = len(body) - _TAIL
        step = tail if connection.copies_nothing() else _SLICE
        for begin in range(0, tail, step):
            self._send_apart(view[begin : min(begin + step, tail)], final)
            if connection.flow.write_paused:
                await connection.flow.drained()
        self._send_body(bytes(view[tail:]), more, final)

    def _send_apart(self, piece: bytes | memoryview, final: int | None) -> None:
        """Write a piece that is not the last, without a copy of it."""
        if self.writing is _CLOSED:
            raise ClientDisconnected("the client has left")
        encoder, connection = self.encoder, self._connection
        head = b"" if self.writing is _BODY else self._head_of_response(final)
        before, behind = encoder.file(len(piece), False)
        if head:
            self._note_first_byte()
        self.fire(_PIECE)
        if head or before:
            connection.write(head + before)
        if encoder.framing:
            self._sent += len(piece)
            connection.write(piece)
            if behind:
                connection.write(behind)

    # Files

    async def _send_path(self, message: Message) -> None:
        """ASGI extension: http.response.pathsend, all of the body."""
        self._check_begun("http.response.pathsend")
        if self.writing is _BODY:
            raise LocalProtocolError("http.response.pathsend behind a part of the body")
        stretch = open_path(message)
        try:
            await self._send_file(stretch, more=False)
        finally:
            os.close(stretch.fd)

    async def _send_stretch(self, message: Message) -> None:
        """ASGI extension: http.response.zerocopysend, in the place of a body message."""
        self._check_begun("http.response.zerocopysend")
        stretch = stretch_of(message)
        await self._send_file(stretch, message.get("more_body", False))
        advance(message, stretch)

    def _check_begun(self, kind: str) -> None:
        if self.writing is _CLOSED:
            raise ClientDisconnected("the client has left")
        if self.writing is _WAIT:
            raise LocalProtocolError(f"{kind} before http.response.start")

    async def _send_file(self, stretch: Stretch, more: bool) -> None:
        encoder = self.encoder
        final = None if more else stretch.size
        head = b"" if self.writing is _BODY else self._head_of_response(final)
        before, behind = encoder.file(stretch.size, not more)
        self._pieces += bool(more)
        if head:
            self._note_first_byte()
        self.fire(_PIECE)
        if head or before:
            self._connection.write(head + before)
        if encoder.framing and stretch.size:
            await self._run_file(stretch)
        if behind:
            self._connection.write(behind)
        if more:
            return
        if encoder.announced:
            self._hold = _TRAILERS
        else:
            self.fire(_END)
            self.complete()

    async def _run_file(self, stretch: Stretch) -> None:
        """Send the bytes of a file; whatever fails from here on has cut the response off."""
        self._hold = _FILE
        file = self._file = FileSend(self._connection)
        try:
            await file.run(stretch)
        except (OSError, EOFError) as exc:
            self.break_off(exc)
            if isinstance(exc, ClientDisconnected):
                raise
            raise ClientDisconnected(f"the response was broken off: {exc}") from exc
        self._sent += file.sent
        self._file = None
        self._hold = _FREE

    # Trailers and hints

    def _send_trailers(self, message: Message) -> None:
        """ASGI extension: http.response.trailers."""
        if self.writing is _CLOSED:
            raise ClientDisconnected("the client has left")
        if self._hold is not _TRAILERS:
            announced = "before the last of the body" if self.encoder.announced else "unannounced"
            raise LocalProtocolError(f"http.response.trailers {announced}")
        last = not message.get("more_trailers", False)
        data = self.encoder.trailers(header_pairs(message), last)
        if data:
            self._connection.write(data)
        if last:
            self.fire(_END)
            self.complete()

    def _send_hints(self, message: Message) -> None:
        """ASGI extension: http.response.early_hint; ignored where it comes too late."""
        data = early_hints(link_values(message))
        if self.writing is _CLOSED:
            raise ClientDisconnected("the client has left")
        # RFC 9110 15.2: "a server MUST NOT send a 1xx response to an HTTP/1.0 client"
        if data and self.writing is not _BODY and self.head.version != "1.0":
            self._connection.write(data)
